"""Reach the stores of images: fsspec's file systems, with further attempts if a store does not answer."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from captionless.errors import CaptionlessError

T = TypeVar("T")

PAUSES = (0.5, 2.0)
"""Seconds before the second and third attempt to reach a store."""


class StoreError(CaptionlessError):
    """A store failed several times in a row; unlike a damaged image, this may pass."""


class DamagedError(OSError):
    """An archive cannot be read, however often it is tried."""


class _FailedError(Exception):
    """A store failed once."""


@contextmanager
def store(url: str) -> Iterator[None]:
    """Mark what the library of a store raises, for `attempt`; no code of our own belongs inside: its bugs pass."""
    try:
        yield
    except (CaptionlessError, OSError, _FailedError):
        raise
    except Exception as error:  # each store raises the exceptions of its own library
        if "://" not in url:
            raise
        raise _FailedError(f"{type(error).__name__}: {error}") from error


def file_system(url: str) -> tuple[Any, str]:
    """Return fsspec's file system for a URL or local path, and the path in it."""
    from fsspec.core import url_to_fs

    with store(url):
        try:
            system, path = url_to_fs(url)
        except (ValueError, ImportError) as error:  # an unknown protocol, or one that needs another package
            raise CaptionlessError(
                f"cannot open {url}: {error}. Check the address, or install what it needs."
            ) from error
    return system, path


class StoreFile(io.RawIOBase):
    """A file in a store, open for reading, whose failures are marked as those of a `store`."""

    def __init__(self, url: str) -> None:
        system, path = file_system(url)
        with store(url):
            self._file: Any = system.open(path, "rb")
        self._url = url

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes."""
        with store(self._url):
            return bytes(self._file.read(-1 if size is None else size))

    def readall(self) -> bytes:
        """Return the rest."""
        return self.read()

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move, and return the new place."""
        with store(self._url):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """Return the place."""
        with store(self._url):
            return int(self._file.tell())

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            super().close()
            self._file.close()


def attempt(url: str, function: Callable[[], T]) -> T:
    """Call a function that reads from a store; if that fails, wait a little and call it again."""
    for pause in (*PAUSES, 0.0):
        try:
            return function()
        except (FileNotFoundError, PermissionError, DamagedError):
            raise
        except (OSError, _FailedError) as error:
            if "://" not in url:
                raise
            if not pause:
                what = str(error) if isinstance(error, _FailedError) else f"{type(error).__name__}: {error}"
                raise StoreError(
                    f"cannot read {url}: {what}. Run the same command again when the store answers."
                ) from error
            time.sleep(pause)
    raise AssertionError
