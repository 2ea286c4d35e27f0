"""The part of an evaluation on memorisation: does the model paint, or only remember?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from captionless.evaluation.estimate import Estimate, TooFewError, excess, share
from captionless.evaluation.evidence import Pictures
from captionless.evaluation.memorisation import Neighbours, memorised, nearest
from captionless.evaluation.results import Figure, Section, Sheet
from captionless.evaluation.studio import Studio
from captionless.painting import to_images
from captionless.sheets import labelled_grid

COMPARED = 20_000
"""Training pictures compared with at most; of more, a random choice."""
OFFENDERS = 8
TWINS = 0.05
"""Share of held-out pictures that look like copies of training pictures from which on a reader is told."""
NO_TRACE = "the folder has none of the pictures that the model was trained on"
TOLERATED = 0.01
"""Without held-out pictures to compare with, a share that is surely above this one counts as memorising."""


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
        seen: the training pictures that the folder has.
        bank: vectors of training pictures that the model carries, (m, d), which stand in where the folder has none;
            None where those are of other features.
    """

    def __init__(self, studio: Studio, seen: Pictures, bank: Tensor | None) -> None:
        self.notes: list[str] = []
        self.pixels: Tensor | None = None
        self.mirrored: Tensor | None = None
        if len(seen) > COMPARED:
            chosen = torch.randperm(len(seen), generator=torch.Generator().manual_seed(0))[:COMPARED]
            seen = seen.take(sorted(chosen.tolist()))
            self.notes.append(f"Compared with {COMPARED:,} of the training pictures, chosen at random.")
        if len(seen):
            self.pixels = seen.pixels
            self.features = studio.look(seen.pixels, "Looking at training pictures")
            self.mirrored = studio.look(seen.pixels.flip(3), "Looking at mirrored training pictures")
        else:
            self.features = torch.empty(0, 1) if bank is None else bank
            self.notes.append(
                "The folder has none of the training pictures: compared with the vectors of them that the model "
                "carries, in features only, which is less sensitive."
            )

    def judge(self, suspects: Suspects) -> tuple[Tensor, dict[str, Neighbours]]:
        """Return which suspects count as memorised, in pixels or in features, and their neighbours in each."""
        found = {"features": nearest(suspects.features, self.features, self.mirrored)}
        if self.pixels is not None:
            flat = self.pixels.flatten(1).float()
            found["pixels"] = nearest(suspects.pixels.flatten(1).float(), flat, self.pixels.flip(3).flatten(1).float())
        guilty = torch.zeros(len(suspects.pixels), dtype=torch.bool)
        for neighbours in found.values():
            guilty |= memorised(neighbours)
        return guilty, found


def memory_section(memory: Memory, painted: list[Suspects], real: Suspects | None) -> tuple[Section, bool | None]:
    """Measure how many pictures are copies of training pictures.

    Args:
        memory: the training pictures.
        painted: several series of paintings.
        real: held-out real pictures; None where there are none.

    Returns:
        The section, and whether the model memorises; None where that could not be measured.
    """
    if not len(memory.features):
        return Section("memorisation", missing=(("Memorisation", NO_TRACE),)), None
    try:
        aside = None if real is None else _count(memory, real)
        counted = [(suspects, *memory.judge(suspects)) for suspects in painted]
    except TooFewError as error:
        return Section("memorisation", (), (("Memorisation", str(error)),)), None
    figures, caught, sheets = [], False, []
    for suspects, guilty, found in counted:
        value = share(int(guilty.sum()), len(guilty))
        caught |= is_caught(value, aside)
        figures.append(_figure(suspects, value, aside))
        if memory.pixels is not None:
            sheets.append(_offenders(memory.pixels, suspects, found))
    notes = [*memory.notes]
    if aside and aside.value > TWINS:
        notes.append(
            f"{aside.value:.0%} of the held-out pictures lie as close to a picture trained on as copies would. If they "
            "are copies of those (resized, or saved again), they are not held out, and likeness to them flatters."
        )
    return Section("memorisation", tuple(figures), (), (), (), tuple(sheets), tuple(notes)), caught


def is_caught(value: Estimate, real: Estimate | None) -> bool:
    """Tell whether a share of memorised pictures is beyond what chance makes of real ones' share."""
    return excess(value, real) > 0 if real else value.low > TOLERATED


def _count(memory: Memory, suspects: Suspects) -> Estimate:
    guilty, _ = memory.judge(suspects)
    return share(int(guilty.sum()), len(guilty))


def _figure(suspects: Suspects, value: Estimate, real: Estimate | None) -> Figure:
    return Figure(
        suspects.key,
        f"Memorised, {suspects.label}",
        value,
        real,
        "lower",
        percent=True,
        explanation="Share of pictures less than a third as far from the nearest training picture (or its mirror "
        "image) as from the second nearest, in pixels or in features (arXiv:2310.02664); near-duplicates of the "
        "nearest are left out. Beside it, the same of real pictures that were not trained on.",
    )


def _offenders(pixels: Tensor, suspects: Suspects, found: dict[str, Neighbours]) -> Sheet:
    """Draw the pictures closest to a training picture, each beside it."""
    ratio = torch.stack([neighbours.ratio for neighbours in found.values()]).amin(0)
    order = ratio.argsort()[:OFFENDERS].tolist()
    images: list[Image.Image] = []
    labels: list[str] = []
    for i in order:
        where = min(found, key=lambda name: float(found[name].ratio[i]))
        first = int(found[where].first[i])
        images += [*to_images(suspects.pixels[i : i + 1]), *to_images(pixels[first : first + 1])]
        labels += [f"painted ({float(ratio[i]):.2f} in {where})", "nearest trained on"]
    grid = labelled_grid(images, labels, columns=8, cell=max(96, pixels.shape[-1]))
    note = "The worst first: the distance to the nearest training picture over that to the second; below 0.33 counts."
    return Sheet(f"Nearest training pictures, {suspects.label}", grid, note)
