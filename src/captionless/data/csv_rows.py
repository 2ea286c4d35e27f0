"""Read CSV tables line by line, with errors that name the line."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from captionless.errors import CaptionlessError


@dataclass(frozen=True)
class Row:
    """One line of a table: its file, its number there (from 1) and its values."""

    path: Path
    line: int
    values: list[str]

    def error(self, problem: str, remedy: str) -> CaptionlessError:
        """Return an error that names the file, the line, the problem and what to do about it."""
        return CaptionlessError(f"{self.path}, line {self.line}: {problem}. {remedy}")


def read_rows(path: str | Path, columns: Sequence[str] = ()) -> Iterator[Row]:
    """Yield the rows of a CSV file in UTF-8; blank lines are skipped.

    Args:
        path: the file.
        columns: names of columns, in any case. If given, the first line is a header that must contain them, in any
            order and among others, and rows have their values, stripped, in the order of ``columns``. Without, the
            file has no header and rows have all values as they are.

    Raises:
        CaptionlessError: the file cannot be read or is not UTF-8, or a line is not CSV or lacks a column.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            try:
                places = _places(Row(path, 1, next(reader, [])), columns) if columns else []
                for values in filter(None, reader):
                    row = Row(path, reader.line_num, values)
                    if places and max(places) >= len(values):
                        raise row.error("a value is missing", f"Each line needs: {', '.join(columns)}.")
                    yield Row(path, row.line, [values[place].strip() for place in places]) if places else row
            except csv.Error as error:
                row = Row(path, reader.line_num, [])
                raise row.error(f"this is not CSV ({error})", "Repair or remove the line.") from error
    except UnicodeDecodeError as error:
        raise CaptionlessError(f"{path} is not text in UTF-8. Save it as CSV in UTF-8.") from error
    except OSError as error:
        raise CaptionlessError(f"cannot read {path}: {error.strerror or error}. Check the path.") from error


def _places(header: Row, columns: Sequence[str]) -> list[int]:
    """Return where the columns stand in a line."""
    names = [name.strip().lower() for name in header.values]
    if missing := [column for column in columns if column not in names]:
        found = ",".join(header.values)[:60] or "nothing"
        raise header.error(
            f"the header lacks {' and '.join(missing)} (it is {found})", f"The first line must be: {','.join(columns)}"
        )
    return [names.index(column) for column in columns]
