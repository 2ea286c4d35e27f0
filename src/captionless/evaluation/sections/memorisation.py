"""The part of an evaluation on memorisation: does the model paint, or only remember?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from captionless.evaluation.data import EvaluationData
from captionless.evaluation.metrics import (
    ENOUGH_HELD_OUT,
    Estimate,
    Neighbours,
    TooFewError,
    memorised,
    memorises,
    nearest,
    share,
)
from captionless.evaluation.report.results import Figure, ImageGrid, Section
from captionless.evaluation.samples import EvaluationSampler
from captionless.generation.grids import labelled_grid
from captionless.generation.sample import to_images

OFFENDERS = 8
TWINS = 0.05
"""Share of held-out pictures that look like copies of training pictures from which on they cannot say what is usual."""
MOST, HALF = 0.9, 0.5
"""Shares of the training pictures: with fewer than most, a reader is told; with fewer than half, none is acquitted."""
NO_PIXELS = (
    "The folder has none of the training pictures. Paintings were compared with the vectors of full-size training "
    "pictures that the model carries, which overlooks most copies, even exact ones: nothing found here is no acquittal."
)
NO_TRACE = "the folder has none of the pictures that the model was trained on"
UNKNOWN = "what the model was trained on is not recorded"


@dataclass(frozen=True)
class Suspects:
    """Pictures to be compared with those trained on.

    Args:
        key: in the report.
        label: for people.
        pixels: uint8 (n, channels, size, size).
        features: (n, f).
    """

    key: str
    label: str
    pixels: Tensor
    features: Tensor


class Memory:
    """The training pictures, in pixels and in features.

    Args:
        studio: the model.
        evidence: the folder as the model sees it; of the training pictures in it perhaps a choice.
        bank: vectors of training pictures that the model carries, (m, d), which stand in where the folder has none;
            None where those are of other features.
        flip: whether training mirrored pictures.
    """

    def __init__(self, studio: EvaluationSampler, evidence: EvaluationData, bank: Tensor | None, flip: bool) -> None:
        seen, found, trained_on = evidence.seen, evidence.found, evidence.trained_on
        self.notes: list[str] = []
        self.doubts = _doubts(found, trained_on)
        self.pixels: Tensor | None = None
        self.features = torch.empty(0, 1) if bank is None else bank
        self.flip, self.mirrored = flip, None
        if not len(seen):
            self.notes.append(NO_PIXELS)
            return
        self.pixels = seen.pixels
        self.features = studio.look(seen.pixels, "Looking at training pictures")
        if flip:
            self.mirrored = studio.look(seen.pixels.flip(3), "Looking at mirrored training pictures")
        if found < MOST * trained_on:
            self.notes.append(
                f"Copies were looked for among {found:,} of the {trained_on:,} training pictures; copies of the others "
                "are not seen."
            )
        if evidence.elsewhere:
            self.notes.append(
                f"Of what the models that it was begun from learned, {evidence.elsewhere:,} pictures are not in the "
                "folder; copies of those are not seen."
            )

    def judge(self, suspects: Suspects) -> tuple[Tensor, dict[str, Neighbours]]:
        """Return which suspects count as memorised, in pixels or in features, and their neighbours in each."""
        found = {"features": nearest(suspects.features, self.features, self.mirrored)}
        if self.pixels is not None:
            mirrored = self.pixels.flip(3).flatten(1) if self.flip else None
            found["pixels"] = nearest(suspects.pixels.flatten(1), self.pixels.flatten(1), mirrored)
        guilty = torch.zeros(len(suspects.pixels), dtype=torch.bool)
        for neighbours in found.values():
            guilty |= memorised(neighbours)
        return guilty, found


def _doubts(found: int, trained_on: int) -> list[str]:
    """Return why copies of the pictures trained on might go unseen where so many of them are compared with."""
    if not trained_on:
        return [UNKNOWN]
    if not found:
        return [NO_TRACE]
    few = f"paintings were compared with only {found:,} of the {trained_on:,} pictures that the model was trained on"
    return [few] if found < HALF * trained_on else []


def memory_section(memory: Memory, sampled: list[Suspects], real: Suspects | None) -> tuple[Section, bool | None]:
    """Measure how many pictures are copies of training pictures.

    Args:
        memory: the training pictures.
        painted: several series of paintings.
        real: held-out real pictures; None where there are none.

    Returns:
        The section, and whether the model memorises; None where that is not proven either way.
    """
    if not len(memory.features):
        return Section("memorisation", missing=(("Memorisation", NO_TRACE),)), None
    try:
        aside = None if real is None else _count(memory, real)
        counted = [(suspects, *memory.judge(suspects)) for suspects in sampled]
    except TooFewError as error:
        return Section("memorisation", (), (("Memorisation", str(error)),)), None
    figures, grids = [], []
    for suspects, guilty, found in counted:
        figures.append(_figure(suspects, share(int(guilty.sum()), len(guilty)), aside))
        if memory.pixels is not None:
            grids.append(_offenders(memory.pixels, suspects, found))
    notes, doubts = [*memory.notes], [*memory.doubts]
    twins = aside is not None and aside.value > TWINS
    if aside and twins:
        notes.append(
            f"{aside.value:.0%} of the held-out pictures lie as close to a picture trained on as copies would. If they "
            "are copies of those (resized, or saved again), they are not held out: likeness to them flatters, and they "
            "cannot say how many copies are usual."
        )
        doubts.append(f"{aside.value:.0%} of the held-out pictures look like copies themselves")
    proven = memorises([figure.value for figure in figures], aside, sound=not doubts)
    if aside is None or aside.n < ENOUGH_HELD_OUT:
        count = aside.n if aside else "none"
        doubts.append(f"it takes {ENOUGH_HELD_OUT} held-out pictures to say what is usual, and {count} were looked at")
    parts = (tuple(figures), (), (), (), tuple(grids), tuple(notes))
    return Section("memorisation", *parts, reasons=() if proven else tuple(doubts)), proven


def _count(memory: Memory, suspects: Suspects) -> Estimate:
    guilty, _ = memory.judge(suspects)
    return share(int(guilty.sum()), len(guilty))


def _figure(suspects: Suspects, value: Estimate, real: Estimate | None) -> Figure:
    beside = " Beside it, the same of real pictures that were not trained on." if real else ""
    return Figure(
        suspects.key,
        f"Memorised, {suspects.label}",
        value,
        real,
        "lower",
        percent=True,
        explanation="Share of pictures less than a third as far from the nearest training picture (or its mirror "
        "image) as from the second nearest, in pixels or in features (arXiv:2310.02664); near-duplicates of the "
        f"nearest are left out.{beside}",
    )


def _offenders(pixels: Tensor, suspects: Suspects, found: dict[str, Neighbours]) -> ImageGrid:
    """Draw the pictures closest to a training picture, each beside it; of each training picture the worst."""
    ratio = torch.stack([neighbours.ratio for neighbours in found.values()]).amin(0)
    worst: dict[int, tuple[int, str]] = {}
    for i in ratio.argsort().tolist():
        where = min(found, key=lambda name: float(found[name].ratio[i]))
        worst.setdefault(int(found[where].index[i]), (i, where))
    images: list[Image.Image] = []
    labels: list[str] = []
    for first, (i, where) in list(worst.items())[:OFFENDERS]:
        images += [*to_images(suspects.pixels[i : i + 1]), *to_images(pixels[first : first + 1])]
        labels += [f"painted ({float(ratio[i]):.2f} in {where})", "nearest trained on"]
    grid = labelled_grid(images, labels, columns=8, cell=max(96, pixels.shape[-1]))
    note = "The worst first: the distance to the nearest training picture over that to the second; below 0.33 counts. "
    note += "Each training picture is shown once, beside the painting closest to it."
    return ImageGrid(f"Nearest training pictures, {suspects.label}", grid, note)
