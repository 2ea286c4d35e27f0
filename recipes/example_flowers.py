"""Make ``examples/flowers``: a small, varied, credited choice of the photographs, reduced to 128 pixels.

    python recipes/example_flowers.py --photos PHOTOS --out examples/flowers

The choice depends on nothing but the captions and the file names, so running it again gives the same folder.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import shutil
from collections import Counter
from pathlib import Path

from PIL import Image

KINDS = ("daisy", "dandelion", "rose", "sunflower", "tulip")
PER_KIND = 30
SIDE = 128
MAX_BYTES = 2_000_000
LICENCE = "CC-BY 2.0"
CHANGES = f"reduced to {SIDE} pixels on the shorter side"
README = f"""# Flower photographs for trying things out

{{count}} photographs of daisies, dandelions, roses, sunflowers and tulips: {PER_KIND} per kind, one
sub-folder per kind.

They come from TensorFlow's public `flower_photos` collection: Flickr photographs under the Creative Commons
Attribution 2.0 licence (CC-BY 2.0, <https://creativecommons.org/licenses/by/2.0/>). `CREDITS.csv` names the
photographer, page and licence of each. Changes made: each was reduced so that its shorter side is {SIDE}
pixels, and saved again as JPEG. The licence of the program does not cover them. If you pass on a photograph, or
weights trained on them, keep the credits (a copy of `CREDITS.csv` beside it is enough).

Made by `recipes/example_flowers.py`.
"""
# The example shows flowers as they usually are: no portraits, no art, no colours from image editing.
VIEWS = {"close-up": 3.0, "group": 2.0, "single plant": 1.5, "bouquet": 1.0, "field": 1.0}
RARE = 5
NOT_ONLY_FLOWERS = """
    woman man girl boy child kid kids baby person people face hand hands lady couple bride
    painting painted painterly paint drawing drawn art illustration statue graffiti sign text letters logo
    balloon balloons glass paper fabric plastic toy blood dyed
    silhouette silhouettes bare filter tinted sepia blurred blurry
"""


def suitable(rows: list[dict[str, str]], kind: str) -> list[dict[str, str]]:
    """Return the colour photographs that clearly show ``kind``, in a petal colour that occurs ``RARE`` times."""
    rows = [row for row in rows if row["file"].startswith(f"train/{kind}/") and row["flower"] == kind]
    rows = [row for row in rows if row["clear"] and row["photo"] == "color" and row["view"] in VIEWS]
    other = set(NOT_ONLY_FLOWERS.split())
    rows = [row for row in rows if other.isdisjoint(row["caption"].lower().replace(",", " ").split())]
    often = Counter(row["petals"] for row in rows)
    return [row for row in rows if often[row["petals"]] >= RARE]


def choose(rows: list[dict[str, str]], photographers: dict[str, str], count: int) -> list[str]:
    """Pick ``count`` files, varied in petal colour, view and photographer.

    Greedy: the next file is the one whose colour and view are furthest behind their quota. A colour's quota
    is the square root of how often it occurs (common stays commoner, rare gets seen). Ties go by the hash of
    the name, and a photographer is used twice only if no new one is left.
    """
    rows = sorted(rows, key=lambda row: hashlib.sha256(row["file"].encode()).hexdigest())
    often = Counter(row["petals"] for row in rows)
    quota: dict[str, dict[str, float]] = {
        "petals": {colour: float(n**0.5) for colour, n in often.items()},
        "view": VIEWS,
    }
    taken = {key: Counter[str]() for key in quota}
    met = Counter[str]()
    chosen: list[str] = []

    def cost(row: dict[str, str]) -> float:
        share = sum((taken[key][row[key]] + 1) / quota[key][row[key]] for key in quota)
        return share + 100.0 * met[photographers[row["file"]]]

    for _ in range(count):
        best = min(rows, key=cost)
        rows.remove(best)
        for key in quota:
            taken[key][best[key]] += 1
        met[photographers[best["file"]]] += 1
        chosen.append(best["file"])
    return sorted(chosen)


def reduce(path: Path, quality: int) -> bytes:
    """Return one photograph with ``SIDE`` pixels on the shorter side, true aspect, as JPEG bytes without metadata."""
    with Image.open(path) as image:
        scale = SIDE / min(image.size)
        size = (max(SIDE, round(image.width * scale)), max(SIDE, round(image.height * scale)))
        small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=quality, optimize=True, progressive=True)
    return buffer.getvalue()


def credits_table(files: list[str], credits: dict[str, dict[str, str]]) -> str:
    """Return the CSV that names photographer, page and licence of each photograph."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["file", "photographer", "page", "licence", "changes"])
    for file in files:
        row = credits[file]
        writer.writerow([file.removeprefix("train/"), row["photographer"], row["page"], LICENCE, CHANGES])
    return table.getvalue()


def main() -> None:
    """Choose, reduce and write, with the highest JPEG quality that keeps the folder within ``MAX_BYTES``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="folder with train/, captions.jsonl, CREDITS.csv")
    parser.add_argument("--out", type=Path, required=True, help="folder to make (its kind folders are replaced)")
    arguments = parser.parse_args()
    photos: Path = arguments.photos
    out: Path = arguments.out

    rows = [json.loads(line) for line in (photos / "captions.jsonl").read_text("utf-8").splitlines()]
    with (photos / "CREDITS.csv").open(encoding="utf-8", newline="") as table:
        credits = {row["file"]: row for row in csv.DictReader(table)}
    photographers = {name: row["photographer"] for name, row in credits.items()}
    files: list[str] = []
    for kind in KINDS:
        files += choose(suitable(rows, kind), photographers, PER_KIND)

    texts = {"CREDITS.csv": credits_table(files, credits), "README.md": README.format(count=len(files))}
    room = MAX_BYTES - sum(len(text.encode()) for text in texts.values())
    for quality in range(95, 30, -1):
        reduced = {file: reduce(photos / file, quality) for file in files}
        if sum(map(len, reduced.values())) <= room:
            break
    for kind in KINDS:
        shutil.rmtree(out / kind, ignore_errors=True)
        (out / kind).mkdir(parents=True)
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8", newline="\n")
    for file, data in reduced.items():
        (out / file.removeprefix("train/")).write_bytes(data)
    total = MAX_BYTES - room + sum(map(len, reduced.values()))
    print(f"{len(files)} photographs, JPEG quality {quality}, {total:,} bytes in {out}")


if __name__ == "__main__":
    main()
