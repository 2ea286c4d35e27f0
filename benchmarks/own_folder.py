"""Measure what comes of one's own folder in the time people have; every row of the table is one command.

    python -m benchmarks.own_folder ROW... --photos PHOTOS --sprites SPRITES --work DIR
    python -m benchmarks.own_folder --tables      # what has been measured, as Markdown

PHOTOS has ``train/<kind>/``, ``val/<kind>/`` and ``captions.jsonl`` (recipes/flowers), SPRITES sub-folders of images
whose names are words (recipes/sprites). An interrupted row goes on where it stopped, and a row that stands in
``results/own_folder.jsonl`` is not measured again. Models, sample grids and what ``train`` said stay in DIR/ROW.
``--smoke`` trains for a second on a fifth of the images and writes to DIR, to see that everything runs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch  # so that the threads are recorded
from recipes.sprites.recall import measure as measure_recall

from benchmarks import own_folder_figures as figures_of
from benchmarks.judge import split
from benchmarks.own_folder_tables import tables
from benchmarks.peers.peer import image_paths
from benchmarks.record import RESULTS, ROOT, Usage, append, line, read, run

NAME = "own_folder"
SEED = 0
"""Seed of every random choice of images and names."""
PICKED, OF_ONE_KIND, KIND = 100, 40, "daisy"
"""Photographs of val that make a folder, and how many of which kind; daisies leave most to be held out."""
EXAMPLES = ROOT / "examples"
FLOWERS = ("a white daisy", "a yellow dandelion", "a red rose", "a yellow sunflower", "a pink tulip")
SPRITES = ("an emerald potion", "an undead warrior", "a green potion", "a red dragon")
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
Figures = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """Where a row is measured, and how long.

    Args:
        folder: its folder below ``--work``.
        photos: the photographs.
        sprites: the sprites.
        smoke: whether only to see that it runs.
    """

    folder: Path
    photos: Path
    sprites: Path
    smoke: bool

    def captionless(self, step: str, *words: object) -> str:
        """Run a command of captionless, unless it has succeeded before, and return what it printed."""
        done, log = self.folder / f"{step}.json", self.folder / f"{step}.log"
        if not done.exists():
            command = [sys.executable, "-m", "captionless", *map(str, words)]
            used = run(command, log, **OFFLINE, HF_HOME=str(self.folder.parent / "hub"))
            done.write_text(json.dumps({"command": shlex.join(["captionless", *command[3:]]), **asdict(used)}) + "\n")
        return log.read_text(encoding="utf-8")

    def train(self, folder: Path, *options: object, minutes: float = 10.0, seed: int = SEED) -> tuple[Path, Figures]:
        """Train a model on a folder, or go on with a training; return it, and what was promised and reached."""
        out, minutes = self.folder / "model", 0.02 if self.smoke else minutes
        words = ("train", folder, "--out", out, "--minutes", minutes, "--seed", seed, *options)
        brief = ("--sample-grids", 0) if self.smoke else ()
        said = self.captionless("train", *words, *brief, *(["--resume"] if out.exists() else []))
        return out, {"said": figures_of.remarks(said), "stages": figures_of.stages(out)}

    def sheet(self, model: Path, prompts: Sequence[str]) -> Figures:
        """Generate eight images of each prompt, and their grid."""
        brief = ("-n", 1, "--steps", 1) if self.smoke else ("-n", 8)
        self.captionless("sheet", "generate", "--model", model, *prompts, *brief, "--out", self.folder / "sheet")
        return {"sheet": f"{self.folder.name}/sheet/grid-0001.png"}

    def evaluate(self, step: str, models: Sequence[object], *options: object) -> list[Figures]:
        """Evaluate models, and return the figures of each, with their ranges."""
        brief = ("--quick", "--steps", 1, "--prompt-images", 20) if self.smoke else ()
        self.captionless(step, "evaluate", *models, "--out", self.folder / step, *options, *brief)
        return figures_of.report(self.folder / step / "report.json")

    def count(self, images: int) -> int:
        """Return how many images to take."""
        return images // 5 if self.smoke else images

    def copied(self, name: str, source: Path, files: Sequence[Path]) -> Path:
        """Copy files into a folder of the row, with their sub-folders below ``source``."""
        target = self.folder / name
        for file in files:
            (target / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target / file.relative_to(source))
        return target


def picked(folder: Path, n: int) -> list[Path]:
    """Return a random choice of images, the same for everyone."""
    return sorted(random.Random(SEED).sample(image_paths(folder), n))


def photos_of_a_stranger(row: Row) -> Figures:
    """Hundred photographs of val from the bundled model in six minutes; the other 300 are held out."""
    val = row.photos / "val"
    chosen = picked(val, row.count(PICKED))
    model, found = row.train(row.copied("photos", val, chosen), "--from", "bundled", minutes=6)
    kinds, petals, table = figures_of.prompt_files(
        row.photos, {f"val/{one.relative_to(val)}" for one in chosen}, row.folder
    )
    about = ("--data", row.photos, "--training-samples", 50)
    found["kind"] = row.evaluate("kinds", ("bundled", model), *about, "--prompts", kinds)
    # Prompts and seeds are the same, so these images are those of the first evaluation.
    found["petals"] = row.evaluate("petals", ("bundled", model), *about, "--prompts", petals, "--labels", table)
    return found


def photos_of_one_kind(row: Row) -> Figures:
    """Forty photographs of one kind of val from the bundled model in six minutes."""
    val = row.photos / "val"
    model, found = row.train(
        row.copied("photos", val, picked(val / KIND, row.count(OF_ONE_KIND))), "--from", "bundled", minutes=6
    )
    return found | {"coverage": figures_of.coverage(model, val, KIND, brief=row.smoke)}


def from_scratch(seed: int, row: Row) -> Figures:
    """Train on examples/flowers for ten minutes; the judge is a classifier of the photographs in train."""
    model, found = row.train(EXAMPLES / "flowers", seed=seed)
    found |= row.sheet(model, FLOWERS)
    options = ("--data", row.photos / "train", "--prompt-images", 500, "--samples", 50, "--training-samples", 20)
    return found | {"kind": row.evaluate("kinds", (model,), *options)}


def sprites(row: Row) -> Figures:
    """Train on four fifths of the sprites, offline; held out is the fifth with the smallest content hashes."""
    folder, held_out = split(row.sprites, row.folder)
    encoder = row.folder / "encoder"
    learned = row.captionless("encoder", "encoder", folder, "--out", encoder)
    model, found = row.train(folder, "--encoder", encoder, "--size", 32)
    found |= row.sheet(model, SPRITES) | {"learned": figures_of.remarks(learned)}
    found["recall"] = measure_recall(row.sprites, str(encoder))
    return found | figures_of.recognised(model, row.sprites, folder, held_out, images_each=3 if row.smoke else 30)


def few_sprites(row: Row) -> Figures:
    """Train on sixty sprites of examples/sprites, with an encoder that ``train`` learns from their names."""
    source = EXAMPLES / "sprites"
    model, found = row.train(row.copied("sprites", source, picked(source, 60)), "--size", 32)
    return found | row.sheet(model, SPRITES)


def few_digits(row: Row) -> Figures:
    """Train on 25 handwritten digits of 8 x 8 pixels (scikit-learn's), in sub-folders with their names."""
    folder = figures_of.write_digits(row.folder / "digits", 25, SEED)
    model, found = row.train(folder, "--no-flip")
    return found | row.sheet(model, ("one", "three", "four", "seven"))


def plans(row: Row) -> Figures:
    """Print the plans for 2 to 600 minutes, on many and on few photographs."""
    found = {}
    for folder in (row.photos / "train", EXAMPLES / "flowers"):
        for minutes in (2,) if row.smoke else (2, 10, 60, 600):
            step = f"plan-{folder.name}-{minutes}"
            words = ("train", folder, "--out", row.folder / "none", "--minutes", minutes, "--plan")
            found[f"{folder.name}, {minutes} minutes"] = figures_of.remarks(row.captionless(step, *words))
    return {"plans": found}


ROWS: dict[str, Callable[[Row], Figures]] = {
    "photos-100": photos_of_a_stranger,
    "kind-40": photos_of_one_kind,
    **{f"scratch-{seed}": partial(from_scratch, seed) for seed in range(3)},
    "sprites": sprites,
    "sprites-60": few_sprites,
    "digits-25": few_digits,
    "plans": plans,
}


def measure(name: str, row: Row, results: Path) -> None:
    """Measure a row, and append its line to the results, with the time of all its commands together."""
    row.folder.mkdir(parents=True, exist_ok=True)
    found = ROWS[name](row)
    steps = [json.loads(path.read_text()) for path in sorted(row.folder.glob("*.json"))]
    wall, cpu = (sum(step[kind] for step in steps) for kind in ("wall", "cpu"))
    used = Usage(wall, cpu, max(step["peak_memory"] for step in steps))
    found["commands"] = [step["command"] for step in steps]
    found = json.loads(json.dumps(found).replace(f"{row.folder.parent}/", ""))  # paths below --work
    seed = int(name[-1]) if name.startswith("scratch") else SEED
    append(results, line(NAME, {"row": name}, found, used, seed=seed, command=sys.orig_argv))


def main() -> None:
    """Measure the rows that are named, or print what has been measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--photos", type=Path, help="the photographs: train/, val/ and captions.jsonl")
    parser.add_argument("--sprites", type=Path, help="the sprites, by sub-folder")
    parser.add_argument("--work", type=Path, help="a folder for models and images")
    parser.add_argument("--smoke", action="store_true", help="seconds of training, to see that everything runs")
    parser.add_argument("--tables", action="store_true", help="print what has been measured as Markdown")
    options = parser.parse_args()
    if wrong := [name for name in options.rows if name not in ROWS]:
        parser.error(f"there is no row {wrong[0]}. Choose from: {', '.join(ROWS)}")
    if options.rows and not (options.photos and options.sprites and options.work):
        parser.error("a row needs --photos, --sprites and --work")
    results = options.work.resolve() / "smoke.jsonl" if options.smoke else RESULTS / f"{NAME}.jsonl"
    if options.work:
        os.environ.setdefault("CAPTIONLESS_CACHE", str(options.work.resolve() / "cache"))
    for name in options.rows:
        if any(one["case"]["row"] == name for one in read(results)):
            continue
        folder = options.work.resolve() / name
        measure(name, Row(folder, options.photos.resolve(), options.sprites.resolve(), options.smoke), results)
        print(f"{name}: done, with {torch.get_num_threads()} threads", flush=True)
    if options.tables:
        print(tables(read(results)))


if __name__ == "__main__":
    main()
