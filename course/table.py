"""Update the line numbers in the table of course/README.md after the library has changed.

    python course/table.py          rewrite the table
    python course/table.py --check  write nothing; exit code 1 if the table is out of date

Each row names a piece of code. The script searches the file named in the row, then all of ``src``. If no file has the
code, or several other files have it, the script stops with an error, and the row must be changed by hand.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

COURSE = Path(__file__).resolve().parent
README = COURSE / "README.md"
SOURCES = sorted((COURSE.parent / "src" / "captionless").rglob("*.py"))
ROW = re.compile(r"^(?P<head>\| .+ \| [1-6] \| \[`(?P<code>.+)`\])\((?P<file>[^)#]+)#L(?P<line>\d+)\) \|$")


def main() -> int:
    """Rewrite the table, or with ``--check`` compare it; return the exit code."""
    text, lines, errors = README.read_text(encoding="utf-8"), [], []
    for line in text.splitlines(keepends=True):
        try:
            lines.append(renumbered(line))
        except LookupError as error:
            errors.append(str(error))
    if errors:
        sys.exit("\n".join(errors))
    new = "".join(lines)
    if "--check" in sys.argv[1:]:
        if new != text:
            print("the table of course/README.md is out of date. Run: python course/table.py")
        return int(new != text)
    README.write_text(new, encoding="utf-8", newline="\n")
    return 0


def renumbered(line: str) -> str:
    """Return a line of the README with the place of its code, if it is a row of the table, brought up to date."""
    row = ROW.match(line.rstrip("\n"))
    if row is None:
        return line
    named = (COURSE / row["file"]).resolve()
    places = {path: found for path in SOURCES if (found := lines_with(row["code"], path))}
    if named not in places and len(places) != 1:
        where = ", ".join(str(path.relative_to(COURSE.parent)) for path in places) or "no file"
        raise LookupError(f"course/README.md: `{row['code']}` is not in {row['file']} but in {where}. Change the row.")
    path = named if named in places else next(iter(places))
    number = int(row["line"]) if int(row["line"]) in places[path] else places[path][0]
    return f"{row['head']}(../{path.relative_to(COURSE.parent).as_posix()}#L{number}) |\n"


def lines_with(code: str, path: Path) -> list[int]:
    """Return the numbers of the lines of a file that hold a piece of code."""
    return [i for i, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if code in line]


if __name__ == "__main__":
    sys.exit(main())
