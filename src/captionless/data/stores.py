"""Reach the stores of images: fsspec's file systems, with further attempts if a store does not answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from captionless.errors import CaptionlessError

T = TypeVar("T")

PAUSES = (0.5, 2.0)
"""Seconds before the second and third attempt to reach a store."""


class StoreError(CaptionlessError):
    """A store failed several times in a row; unlike a damaged image, this may pass."""


class DamagedError(OSError):
    """An archive cannot be read, however often it is tried."""


def file_system(url: str) -> tuple[Any, str]:
    """Return fsspec's file system for a URL or local path, and the path in it."""
    from fsspec.core import url_to_fs

    try:
        system, path = url_to_fs(url)
    except (ValueError, ImportError) as error:  # an unknown protocol, or one that needs another package
        raise CaptionlessError(f"cannot open {url}: {error}. Check the address, or install what it needs.") from error
    return system, path


def attempt(url: str, function: Callable[[], T]) -> T:
    """Call a function that reads from a store; if that fails, wait a little and call it again."""
    for pause in (*PAUSES, 0.0):
        try:
            return function()
        except (CaptionlessError, FileNotFoundError, PermissionError, DamagedError):
            raise
        except Exception as error:  # each store raises the exceptions of its own library
            if "://" not in url:
                raise
            if not pause:
                raise StoreError(
                    f"cannot read {url}: {type(error).__name__}: {error}. Run the same command again when the store "
                    "answers."
                ) from error
            time.sleep(pause)
    raise AssertionError
