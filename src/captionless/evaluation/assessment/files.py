"""A grade on disk: ``grade.json``, and a sheet of the pictures that were not recognised."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from captionless.evaluation.assessment.grade import Grade, Mistake, Verdict
from captionless.files import atomic_write
from captionless.generation.grids import sample_grid

GRADE = "grade.json"
SHEET = "not_recognised.png"
FORMAT = 1
"""Of ``grade.json``; counted up when something in it changes its name or its meaning."""

COLUMNS = 8
MOST = 16
"""Pictures of a class shown."""


def write(out: Path, grade: Grade) -> list[Path]:
    """Write a grade into a folder, in place of an earlier one; return what was written.

    Where all pictures were recognised there is no sheet, and an earlier one is removed.

    Raises:
        CaptionlessError: the folder cannot be written to.
    """
    text = json.dumps(as_json(grade), ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    with atomic_write(out / GRADE) as path:
        path.write_text(text, encoding="utf-8")
    if not grade.mistakes:
        (out / SHEET).unlink(missing_ok=True)
        return [out / GRADE]
    with atomic_write(out / SHEET) as path:
        sheet(grade).save(path, format="PNG")
    return [out / GRADE, out / SHEET]


def sheet(grade: Grade) -> Image.Image:
    """Draw pictures that were not recognised, up to ``MOST`` of each class, each over what it was to show and was
    taken for.
    """
    shown = [one for verdict in grade.verdicts for one in _first(grade, verdict)]
    labels = [f"{one.label}, taken for {one.seen}" for one in shown]
    return sample_grid([one.image for one in shown], labels, columns=COLUMNS)


def _first(grade: Grade, verdict: Verdict) -> list[Mistake]:
    return [one for one in grade.mistakes if one.label == verdict.label][:MOST]


def as_json(grade: Grade) -> dict[str, Any]:
    """Return a grade as ``grade.json`` holds it: all but the pictures.

    An *estimate* is ``{"value", "low", "high", "n"}``: a share from 0 to 1, its 95% range, the pictures it rests on.

    - ``format``: 1
    - ``model``, ``data``, ``settings``: texts
    - ``passing``: a share, or ``"ceiling"``; ``passed``: true or false
    - ``classifier``: *estimate* of its accuracy on held-out real pictures, or null
    - ``classes``: a list, one a graded class: ``label``, ``prompts``, ``recognised`` (*estimate*), ``real`` (*estimate*
      or null), ``bar``, ``passed``, and ``taken_for``: {label: pictures}, itself included
    - ``left_out``: {class: why}; ``notes``: texts
    - ``mistakes``: a list of {``label``, ``seen``, ``prompt``, ``seed``}
    """
    return {
        "format": FORMAT,
        "model": grade.model,
        "data": grade.data,
        "settings": grade.settings,
        "passing": grade.passing,
        "passed": grade.passed,
        "classifier": grade.real and asdict(grade.real),
        "classes": [_class(grade, place) for place in range(len(grade.verdicts))],
        "left_out": dict(grade.left_out),
        "notes": list(grade.notes),
        "mistakes": [
            {"label": one.label, "seen": one.seen, "prompt": one.prompt, "seed": one.seed} for one in grade.mistakes
        ],
    }


def _class(grade: Grade, place: int) -> dict[str, Any]:
    verdict = grade.verdicts[place]
    return {
        "label": verdict.label,
        "prompts": list(verdict.prompts),
        "recognised": asdict(verdict.recognised),
        "real": verdict.real and asdict(verdict.real),
        "bar": verdict.bar,
        "passed": verdict.passed,
        "taken_for": {
            label: count for label, count in zip(grade.classes, grade.confusion[place], strict=True) if count
        },
    }
