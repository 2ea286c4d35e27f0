"""Read CSV files line by line, report errors with their line number, and write cells that spreadsheets only show."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from captionless.errors import CaptionlessError
from captionless.text_files import read_lines

_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
"""How a cell begins that a spreadsheet takes for a formula; https://owasp.org/www-community/attacks/CSV_Injection."""


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
            columns in the order of ``columns``. If empty, the file has no header and each row holds all its values.
            The apostrophes that `write_rows` adds are removed.

    Raises:
        CaptionlessError: the file cannot be read or is not UTF-8, or a line is malformed or lacks a column.
    """
    path = Path(os.path.expanduser(path))
    try:
        reader = csv.reader(read_lines(path), strict=True, skipinitialspace=bool(columns))
        try:
            header = next(reader, []) if columns else []
            places = _places(Row(path, 1, header), columns) if columns else []
            for cells in filter(None, reader):
                values = [unguarded(cell) for cell in cells]
                row = Row(path, reader.line_num, values)
                if places and max(places) >= len(values):
                    raise row.error("a value is missing", f"Each line needs the columns {', '.join(columns)}.")
                if places and len(values) > len(header):
                    raise row.error(
                        f"{len(values)} values under a header of {len(header)} columns",
                        "Put a value that contains a comma in double quotes.",
                    )
                yield Row(path, row.line, [values[place].strip() for place in places]) if places else row
        except csv.Error as error:
            row = Row(path, reader.line_num, [])
            raise row.error(f"the line is not valid CSV ({error})", "Repair or remove it.") from error
    except UnicodeDecodeError as error:
        raise CaptionlessError(f"{path} is not UTF-8 text. Save it as a UTF-8 CSV file.") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = getattr(error, "strerror", None) or error
        raise CaptionlessError(f"cannot read {path}: {reason}. Check the path.") from error


def write_rows(file: TextIO, rows: Iterable[Iterable[object]]) -> None:
    """Write rows of a CSV file; texts that a spreadsheet would take for formulas are preceded by an apostrophe."""
    writer = csv.writer(file)
    writer.writerows([guarded(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)


def guarded(cell: str) -> str:
    """Return a text with an apostrophe before it if a spreadsheet would take it for a formula."""
    return f"'{cell}" if cell.lstrip("'").startswith(_FORMULA) else cell


def unguarded(cell: str) -> str:
    """Return the text that `guarded` was given."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(_FORMULA) else cell


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
