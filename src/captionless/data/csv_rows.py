"""Read CSV files line by line and report errors with their line number."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from captionless.errors import CaptionlessError


@dataclass(frozen=True)
class Row:
    """One line of a CSV file: the path of the file, the line number (from 1) and the values."""

    path: Path
    line: int
    values: list[str]

    def error(self, problem: str, remedy: str) -> CaptionlessError:
        """Return an error whose message contains the file, the line number, the problem and the remedy."""
        return CaptionlessError(f"{self.path}, line {self.line}: {problem}. {remedy}")


def read_rows(path: str | Path, columns: Sequence[str] = ()) -> Iterator[Row]:
    """Yield the rows of a UTF-8 CSV file, skipping blank lines.

    Args:
        path: the file to read.
        columns: names of the required columns, in lower case. If given, the first line must be a header that contains
            them (in any order and case; other columns are ignored), and each row holds the stripped values of these
            columns in the order of ``columns``. If empty, the file has no header and each row holds all its values
            unchanged.

    Raises:
        CaptionlessError: the file cannot be read or is not UTF-8, or a line is malformed or lacks a column.
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
                        raise row.error("a value is missing", f"Each line needs the columns {', '.join(columns)}.")
                    yield Row(path, row.line, [values[place].strip() for place in places]) if places else row
            except csv.Error as error:
                row = Row(path, reader.line_num, [])
                raise row.error(f"the line is not valid CSV ({error})", "Repair or remove it.") from error
    except UnicodeDecodeError as error:
        raise CaptionlessError(f"{path} is not UTF-8 text. Save it as a UTF-8 CSV file.") from error
    except OSError as error:
        raise CaptionlessError(f"cannot read {path}: {error.strerror or error}. Check the path.") from error


def _places(header: Row, columns: Sequence[str]) -> list[int]:
    """Return the index of each column in a row."""
    names = [name.strip().lower() for name in header.values]
    if missing := [column for column in columns if column not in names]:
        found = ",".join(header.values)[:60] or "nothing"
        raise header.error(
            f"the header lacks {' and '.join(missing)} (found: {found})",
            f"The first line must contain the column names {','.join(columns)}.",
        )
    return [names.index(column) for column in columns]
