"""The contract of data.parquet: what is damaged is said to be, and nothing else is taken for damage."""

from __future__ import annotations

from pathlib import Path

import pytest

from captionless.data import parquet
from captionless.data.stores import DamagedError

pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs the extra `shards`")
arrow_parquet = pytest.importorskip("pyarrow.parquet")


def small_file(path: Path) -> Path:
    rows = [{"bytes": bytes([i]) * 40, "path": f"{i}.png"} for i in range(3)]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    arrow_parquet.write_table(pyarrow.table({"image": pyarrow.array(rows, kind)}), path, store_schema=False)
    return path


def test_flipped_bits_of_the_metadata_are_damage(tmp_path: Path) -> None:
    """Such as names that are no text, and fewer rows than the metadata says."""
    whole, reasons = small_file(tmp_path / "whole.parquet").read_bytes(), set[type[OSError]]()
    for place in range(len(whole) - 400, len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 0x80
        path = tmp_path / f"{place}.parquet"
        path.write_bytes(flipped)
        try:
            for row in range(3):
                parquet.row_bytes(str(path), 0, 0, row)
        except OSError as error:  # what is damaged, and what a store reports as unreadable
            reasons.add(type(error))
    assert DamagedError in reasons


def test_what_fails_while_a_file_is_open_is_not_its_damage(tmp_path: Path) -> None:
    path = str(small_file(tmp_path / "images.parquet"))
    with pytest.raises(ValueError, match="a bug"), parquet.open_parquet(path):
        raise ValueError("a bug")
