"""Print the results of ``benchmarks.own_folder`` as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Line = dict[str, Any]
SHOWN = {"kid": 1, "cmmd": 3, "coverage": None, "recognised": None}
"""Figures of two models that are compared, with their decimals; None for a share."""


def tables(lines: Sequence[Line]) -> str:
    """Return the newest line of each row as Markdown tables."""
    rows = {one["case"]["row"]: one["figures"] for one in lines}
    parts = [_photos(rows), _coverage(rows), _scratch(rows), _sprites(rows), _promises(rows), _plans(rows)]
    return "\n\n".join(part for part in parts if part)


def _photos(rows: dict[str, Line]) -> str:
    if "photos-100" not in rows:
        return ""
    kinds, petals = rows["photos-100"]["kind"], rows["photos-100"]["petals"]
    cells = [
        *((name, [one.get(name) for one in kinds], digits) for name, digits in SHOWN.items()),
        ("petals recognised", [one.get("recognised") for one in petals], None),
    ]
    cells = [cell for cell in cells if all(cell[1])]
    shown = [[name, *(_ranged(one, digits) for one in found), _real(found[0], digits)] for name, found, digits in cells]
    return _table(["100 photographs, 6 minutes", "bundled", "continued", "real photographs"], shown)


def _coverage(rows: dict[str, Line]) -> str:
    if "kind-40" not in rows:
        return ""
    found = rows["kind-40"]["coverage"]
    shown = [
        [f"{name} ({one['change']['n']})", *(_ranged(one[key]) for key in ("bundled", "model", "change"))]
        for name, one in found.items()
    ]
    return _table(["40 photographs of a kind, coverage of", "bundled", "continued", "change"], shown)


def _scratch(rows: dict[str, Line]) -> str:
    found = {name: one["kind"][0]["recognised"] for name, one in rows.items() if name.startswith("scratch")}
    if not found:
        return ""
    mean = sum(one["value"] for one in found.values()) / len(found)
    shown = [[name, _ranged(one), f"{100 * one['real']:.1f}%"] for name, one in found.items()]
    return _table(["from scratch, 10 minutes", "recognised", "ceiling"], [*shown, ["mean", f"{100 * mean:.1f}%", ""]])


def _sprites(rows: dict[str, Line]) -> str:
    if "sprites" not in rows:
        return ""
    one = rows["sprites"]
    share = one["recognised"]["value"] / one["ceiling"]["value"]
    shown = [
        ["recognised", _ranged(one["recognised"])],
        ["ceiling", _ranged(one["ceiling"])],
        ["share of the ceiling", f"{100 * share:.1f}%"],
        *([name.replace("_", " "), f"{100 * value:.1f}%"] for name, value in one["recall"].items() if name != "images"),
    ]
    return _table([f"sprites, {one['recall']['images']} held out", ""], shown)


def _promises(rows: dict[str, Line]) -> str:
    shown = [
        [
            name,
            f"{one['size']} px",
            f"{one['expected']:,}",
            f"{one['seen']:,}",
            f"{100 * one['seen'] / max(1, one['expected']) - 100:+.0f}%"
            + (", stopped early" if one["stopped_early"] else ""),
        ]
        for name, row in rows.items()
        for one in row.get("stages", [])
    ]
    return _table(["row", "stage", "images promised", "seen", "difference"], shown) if shown else ""


def _plans(rows: dict[str, Line]) -> str:
    if "plans" not in rows:
        return ""
    return _table(
        ["folder, time", "plan"],
        [[name, " ".join(said).removeprefix("Plan: ")] for name, said in rows["plans"]["plans"].items()],
    )


def _ranged(one: Line, digits: int | None = None) -> str:
    """Return a value with its range; a share if no decimals are given."""
    scale, places, unit = (100, 1, "%") if digits is None else (1, digits, "")
    value, low, high = (f"{scale * one[name]:.{places}f}" for name in ("value", "low", "high"))
    return f"{value}{unit} ({low} to {high})"


def _real(one: Line, digits: int | None) -> str:
    return "" if one["real"] is None else f"{100 * one['real']:.1f}%" if digits is None else f"{one['real']:.{digits}f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
