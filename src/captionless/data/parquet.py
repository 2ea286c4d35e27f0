"""Read the images of Parquet files as the Hugging Face hub has them: a column of ``struct{bytes, path}``."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from captionless.data.stores import DamagedError, StoreFile
from captionless.errors import CaptionlessError

_LOCK = threading.Lock()


@functools.lru_cache(maxsize=2)
def _image_column(url: str, stamp: int, group: int) -> Any:
    """Return the images of a row group, which is decompressed as a whole."""
    with open_parquet(url) as (file, column):
        return file.read_row_group(group, [f"{column}.bytes"]).column(0)


def row_bytes(url: str, stamp: int, group: int, row: int) -> bytes:
    """Return the image in a row of a row group; ``stamp`` changes if the file does."""
    with _LOCK:  # else each of several threads would read the row group
        images = _image_column(url, stamp, group)
        if row >= len(images):
            raise DamagedError("damaged Parquet file (it has fewer rows than it says)")
        content = images[row].as_py()
    if not content or content["bytes"] is None:
        raise DamagedError("the row has no bytes")
    return bytes(content["bytes"])


@contextmanager
def open_parquet(url: str) -> Iterator[tuple[Any, str]]:
    """Open a Parquet file, and find its column of images."""
    parquet = import_pyarrow()
    from pyarrow import ArrowException

    with StoreFile(url) as opened:
        try:
            with parquet.ParquetFile(opened) as file:
                for column in file.schema_arrow:
                    if str(column.type).startswith("struct") and column.type.get_field_index("bytes") >= 0:
                        yield file, column.name
                        return
                raise DamagedError("not an image: no column of images, struct{bytes, path}")
        except (ArrowException, UnicodeDecodeError) as error:  # the latter for names of columns
            raise DamagedError(f"damaged Parquet file ({error})") from error


def import_pyarrow() -> Any:
    """Return ``pyarrow.parquet``.

    Raises:
        CaptionlessError: pyarrow is not installed.
    """
    try:
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise CaptionlessError(
            "Parquet files need the package pyarrow. Install it with `pip install 'captionless[shards]'`."
        ) from error
    return parquet
