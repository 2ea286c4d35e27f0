"""What was measured, as a table and as sheets of samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

import captionless
from captionless.generation.writer import MANIFEST

ROWS: dict[str, dict[str, Any]] = {
    "none": {"bridge": "none"},
    "mean": {"bridge": "mean"},
    **{f"nearest, variety {x:g}": {"bridge": "nearest", "variety": x} for x in (0.0, 0.25, 0.5)},
}
"""The ways of sampling that are compared."""
SHOWN = 4
"""Images of a prompt and a variety on the sheet."""


def read_results(out: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the last line of each folder and row."""
    path = out / "results.jsonl"
    lines = [json.loads(line) for line in path.open(encoding="utf-8")] if path.exists() else []
    return {(line["folder"], line["row"]): line for line in lines}


def table(results: dict[tuple[str, str], dict[str, Any]]) -> str:
    """Return what was measured as Markdown."""
    head = [
        "| bridge | recognised as their kind | KID x 1000 | cosine of two images of a prompt |",
        "|---|---|---|---|",
    ]
    parts: list[str] = []
    for name in dict.fromkeys(folder for folder, _ in results):
        about = results[name, "encoder"]
        parts += [
            f"**{name}**, encoder {about['encoder']}: {summary(about)}\n",
            *head,
        ]
        for row in ("encoder", *ROWS):
            one = results.get((name, row))
            if one is None:
                continue
            seen, label = one["recognised"], "real held-out images" if row == "encoder" else row
            rate = f"{seen['value']:.1%} ({seen['low']:.1%} to {seen['high']:.1%})" if seen else "not known"
            parts.append(f"| {label} | {rate} | {one['kid']:.1f} | {one['cosine_within_prompt']:.2f} |")
        parts.append("")
    return "\n".join(parts)


def summary(about: dict[str, Any]) -> str:
    """Return what was measured of the encoder on a folder, and how its model was trained."""
    low, middle, high = about["image_cosine_5_50_95"]
    return (
        f"{about['train_images']:,} images to train on, {about['minutes']:g} minutes, {about['images_seen']:,} images "
        f"seen, {about['size']} pixels. Recall at 1 {about['recall_at_1']:.0%}, at 10 {about['recall_at_10']:.0%}; of "
        f"the ten nearest of {about['held_out_images']:,} held-out images {about['precision_at_10']:.0%} are right. "
        f"Cosines: matched {about['matched_cosine']:.2f}, unmatched {about['unmatched_cosine']:.2f}, two images "
        f"{middle:.2f} ({low:.2f} to {high:.2f}). Effective number of images in a neighbourhood: "
        f"{about['effective_images']:.1f}."
    )


def sheet(folder: Path, cell: int = 64) -> Image.Image:
    """Draw the first images of every prompt (rows) at each variety (groups of columns)."""
    images: dict[str, list[Image.Image]] = {}
    heads: list[str] = []
    for row in (row for row in ROWS if "variety" in row and (folder / row / MANIFEST).exists()):
        before, most = {text: len(own) for text, own in images.items()}, 0
        for one in (json.loads(line) for line in (folder / row / MANIFEST).open(encoding="utf-8")):
            own = images.setdefault(one["prompt"], [])
            if len(own) - before.get(one["prompt"], 0) < SHOWN:
                own.append(Image.open(folder / row / one["file"]))
            most = max(most, len(own) - before.get(one["prompt"], 0))
        heads += [row.removeprefix("nearest, ").replace("variety", "var.")] * most
    return captionless.sample_grid(list(images.values()), list(images), cell, heads)
