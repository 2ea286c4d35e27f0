"""The figures of ``benchmarks.own_folder``: what was promised and reached, and how good the images are."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import captionless
from captionless.checkpoints.config import BASE, CONFIG, load_config
from captionless.config.sampling import SamplingConfig
from captionless.data.arrays import read_arrays
from captionless.data.csv_rows import write_rows
from captionless.encoders.features import own_features
from captionless.encoders.image_texts import image_texts
from captionless.evaluation.classifier import ReferenceClassifier, train_classifier
from captionless.evaluation.data import load_evaluation_data
from captionless.evaluation.metrics import cluster_mean, share
from captionless.evaluation.metrics.estimate import Estimate
from captionless.evaluation.metrics.manifold import K, distances
from captionless.evaluation.samples import sample_kept
from captionless.generation.sample import to_images
from captionless.models.unet import weight_count
from captionless.progress import Silent

LEAST = 21
"""Files that a folder of sprites has at least, if its images are to be recognised."""
PROMPTS = 150
"""Captions of held-out photographs that serve as prompts."""
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
Figures = dict[str, Any]


def remarks(said: str) -> list[str]:
    """Return the lines that a command printed, without the reports of progress and the files it skipped."""
    lines = (one.strip() for text in said.split("\n") for one in text.split("\r"))
    return [one for one in lines if one and not re.match(r"(skipped|identical)|[A-Z][\w ]+: \d+%(,|$)", one)]


def stages(model: Path) -> list[Figures]:
    """Return what each stage of a model was expected to see, and what it saw."""
    found = []
    for folder in (model / BASE, model):
        if (folder / CONFIG).is_file():
            config = load_config(folder)
            record = config.training
            length = record.settings["minutes"]
            found.append(
                {
                    "size": config.size,
                    "weights": weight_count(config.denoiser),
                    "expected": record.plan["expected_images"],
                    "seen": record.images_seen,
                    "minutes": round(record.minutes, 2),
                    "stopped_early": bool(length and record.minutes < 0.98 * length),
                }
            )
    return found


def report(path: Path) -> list[Figures]:
    """Return the figures of each model of a report: value, range, number of images, and the value of real images."""
    found = []
    for one in json.loads(path.read_text(encoding="utf-8"))["models"]:
        figures = {
            key: {**figure["value"], "real": figure["real"] and figure["real"]["value"]}
            for key, figure in one["figures"].items()
        }
        found.append({"model": Path(one["name"]).name, "verdict": one["verdict"], **figures})
    return found


def prompt_files(photos: Path, trained_on: set[str], out: Path) -> tuple[Path, Path, Path]:
    """Write captions of held-out photographs as prompts, labelled by kind and by petals, and the petals of all images.

    Returns:
        The prompts with the kind as label, those with the petals, and the table of petals.
    """
    rows = [json.loads(text) for text in (photos / "captions.jsonl").read_text(encoding="utf-8").splitlines()]
    coloured = [row for row in rows if row["petals"] not in ("none", "multicolor")]
    kinds = {path.name for path in (photos / "val").iterdir()}
    usable = [row for row in coloured if row["split"] == "val" and row["clear"] and row["flower"] in kinds]
    usable = [row for row in usable if row["file"] not in trained_on]
    chosen = random.Random(0).sample(usable, min(PROMPTS, len(usable)))
    paths = out / "kinds.prompts", out / "petals.prompts", out / "petals.csv"
    for path, label in zip(paths, ("flower", "petals"), strict=False):
        path.write_text(
            "".join(json.dumps({"prompt": row["caption"], "label": row[label]}) + "\n" for row in chosen), "utf-8"
        )
    with paths[2].open("w", encoding="utf-8", newline="") as file:
        write_rows(file, [("file", "label"), *((row["file"], row["petals"]) for row in coloured)])
    return paths


def recognised(model: Path, words: Path, train: Path, held_out: Path, images_each: int) -> Figures:
    """Return how often a classifier of real sprites recognises the folder that a prompt of its words names.

    The classifier learns from the sprites that the model learned from, of the folders with `LEAST` files or more; its
    ceiling is what it recognises of those held out. Every folder counts the same in both.

    Args:
        model: a model folder.
        words: all sprites, whose folder and file words are the prompts.
        train: the sprites that the model learned from.
        held_out: the others.
        images_each: prompts of each folder, drawn with repetition from its files.
    """
    texts, draw = image_texts(words), random.Random(0)
    of = {name: [texts[one] for one in sorted(texts) if one.startswith(f"{name}/")] for name in os.listdir(words)}
    classes = tuple(sorted(name for name, own in of.items() if len(own) >= LEAST))
    (pixels, labels), (real, asked) = (_labelled(folder, classes) for folder in (train, held_out))
    classifier = train_classifier(pixels, labels, len(classes))
    right = classifier.predict(real).argmax(1) == asked
    by_class = tuple(share(int(right[asked == i].sum()), int((asked == i).sum())) for i in range(len(classes)))
    wanted = torch.arange(len(classes)).repeat_interleave(images_each)
    ceiling = ReferenceClassifier(classifier, classes, by_class).ceiling(wanted)
    prompts = [prompt for name in classes for prompt in draw.choices(of[name], k=images_each)]
    hits = classifier.predict(sampled(captionless.load(model), prompts)).argmax(1) == wanted
    return {
        "recognised": figure(cluster_mean(hits.double(), wanted, 0)),
        "ceiling": ceiling and figure(ceiling),
        "by_folder": {name: float(hits[wanted == i].double().mean()) for i, name in enumerate(classes)},
    }


def _labelled(folder: Path, classes: Sequence[str], size: int = 32) -> tuple[Tensor, Tensor]:
    """Return the images of some sub-folders, uint8 (n, 3, size, size), and the indices of their folders."""
    found = read_arrays(folder, (size,), progress=False)
    rows = [row for row in found.unique if found.names[row].split("/")[0] in classes]
    labels = torch.tensor([classes.index(found.names[row].split("/")[0]) for row in rows])
    return torch.from_numpy(found.array(size, rows)).permute(0, 3, 1, 2).contiguous(), labels


def sampled(generator: captionless.Generator, prompts: Sequence[str]) -> Tensor:
    """Return an image of each prompt, uint8 (n, channels, size, size), with seeds from 0 on."""
    seeds, sampling = list(range(len(prompts))), SamplingConfig()
    return sample_kept(generator, generator.conditions(prompts, sampling, seeds), seeds, sampling, Silent())


def coverage(model: Path, folder: Path, kind: str, *, brief: bool = False) -> Figures:
    """Return how much of the held-out images of a kind, and of the other kinds, the bundled model and another cover.

    A held-out image is covered by a model if an image generated from the vector of another one lies nearer than its
    fifth neighbour among the held-out images of the same group (arXiv:2002.09797). The range of the change is a
    bootstrap over the held-out images.
    """
    new, old = captionless.load(model), captionless.load("bundled")
    sampling = SamplingConfig(size=new.stages[0].config.size, steps=1) if brief else SamplingConfig()
    held_out = load_evaluation_data(folder, new, sampling.size or new.model.config.size, Silent()).held_out
    features, labels, seeds = own_features(new.encoder), held_out.labels, list(range(len(held_out)))
    real = features.encode_images(to_images(held_out.pixels))
    made = (sample_kept(one, held_out.conditions, seeds, sampling, Silent()) for one in (old, new))
    fake = [features.encode_images(to_images(pixels)) for pixels in made]
    found: Figures = {}
    for group, of_kind in (("kind", True), ("others", False)):
        rows = [i for i, label in enumerate(labels) if (label == kind) is of_kind]
        before, after = (covered(real[rows], one[rows]).double() for one in fake)
        change = cluster_mean(after - before, torch.arange(len(rows)), 0)
        found[group] = {
            "bundled": figure(share(int(before.sum()), len(rows))),
            "model": figure(share(int(after.sum()), len(rows))),
            "change": figure(change),
        }
    return found


def covered(real: Tensor, fake: Tensor, k: int = K) -> Tensor:
    """Return which real images have a generated one, of another image's vector, within their k-th neighbour, (n,)."""
    radii = distances(real, real).topk(k + 1, largest=False).values[:, -1]
    apart = distances(real, fake).fill_diagonal_(float("inf"))
    return apart.amin(1) < radii


def figure(one: Estimate) -> Figures:
    """Return an estimate as the results keep it."""
    return {"value": one.value, "low": one.low, "high": one.high, "n": one.n}


def write_digits(folder: Path, n: int, seed: int) -> Path:
    """Write handwritten digits of 8 x 8 pixels as PNG files in sub-folders with their names."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for i in random.Random(seed).sample(range(len(digits.images)), n):
        name = DIGITS[digits.target[i]]
        (folder / name).mkdir(parents=True, exist_ok=True)
        pixels = (digits.images[i] * 255 / 16).round().astype(np.uint8)
        Image.fromarray(pixels).save(folder / name / f"{name}_{i}.png")
    return folder
