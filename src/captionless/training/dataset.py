"""What a training learns from: the folder's pictures and their vectors, checked, deduplicated and split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from captionless.checkpoints.config import EncoderReference, ModelConfig
from captionless.checkpoints.image_list import HELD_OUT, TRAIN
from captionless.config.training import TrainConfig
from captionless.data.arrays import ImageArrays
from captionless.data.images import held_out, sample_images, write_report
from captionless.encoders.cache import Vectors
from captionless.encoders.dual_encoder import check_same, choose_encoder, load_encoder
from captionless.encoders.embeddings import EmbeddedImages, embed
from captionless.encoders.table import read_vectors
from captionless.errors import CaptionlessError
from captionless.progress import Progress

if TYPE_CHECKING:
    from captionless.encoders.dual_encoder import Encoder

DOMAIN_SAMPLE = 48
"""Pictures looked at to decide whether the bundled encoder knows a folder."""


class Listener(Protocol):
    """Who is told what goes on."""

    def say(self, message: str) -> None:
        """Take a sentence."""

    def advance(self, task: str, done: int, total: int) -> None:
        """Take the progress of reading."""


@dataclass(frozen=True)
class Part:
    """Some pictures.

    Args:
        names: paths in the folder.
        digests: content hashes.
        pixels: uint8 (n, channels, size, size).
        vectors: unit vectors, (n, d).
        small: where enlarging is to be learned from them, the same pictures as the model of small ones was shown them:
            uint8 (n, channels, side, side).
    """

    names: tuple[str, ...]
    digests: tuple[str, ...]
    pixels: Tensor
    vectors: Tensor
    small: Tensor | None = None

    def reordered(self, order: Sequence[int]) -> Part:
        """Return the pictures in the order of these places."""
        names, digests = (tuple(values[i] for i in order) for values in (self.names, self.digests))
        small = None if self.small is None else self.small[order]
        return Part(names, digests, self.pixels[order], self.vectors[order], small)


@dataclass(frozen=True)
class TrainingImages:
    """The pictures of a training, and where their vectors come from.

    Args:
        train: to be learned from.
        held_out: set aside.
        encoder: the one that embedded them; None where their vectors are one-hot classes.
        reason: why that encoder.
        classes: names of the classes, in the order of the vectors' elements; none where there is an encoder.
        source: where the labels come from; see ``captionless.data.labels``.
    """

    train: Part
    held_out: Part
    encoder: Encoder | None
    reason: str
    classes: tuple[str, ...] = ()
    source: str = ""

    @property
    def condition_width(self) -> int:
        """Length of the vectors."""
        return self.train.vectors.shape[1]

    def labels(self, part: Part) -> list[str]:
        """Return the class of each picture of ``part``."""
        return [self.classes[place] for place in part.vectors.argmax(1).tolist()]

    def class_counts(self) -> dict[str, int]:
        """Return how many pictures of each class are trained on."""
        counts = self.train.vectors.sum(0).long().tolist()
        return dict(zip(self.classes, counts, strict=True)) if self.classes else {}

    def rows(self) -> list[tuple[str, ...]]:
        """Return what ``pictures.csv`` says of each: name, content hash, role and, where it has one, label."""
        rows: list[tuple[str, ...]] = []
        for part, role in ((self.train, TRAIN), (self.held_out, HELD_OUT)):
            labels = [(label,) for label in self.labels(part)] if self.classes else [()] * len(part.names)
            known = zip(part.names, part.digests, labels, strict=True)
            rows += [(name, digest, role, *label) for name, digest, label in known]
        return rows


def gather(
    folder: Path,
    out: Path,
    settings: TrainConfig,
    before: ModelConfig | None,
    encoder: str | None,
    vectors: str | Path | None,
    listener: Listener,
    device: torch.device,
    small: int | None = None,
) -> TrainingImages:
    """Read, embed (or look up), deduplicate and split the pictures of ``folder``.

    Writes ``images-report.csv`` into ``out``: every file, and what became of it.

    Args:
        folder: the pictures.
        out: the model folder.
        settings: size, grey and hold-out count here.
        before: the model begun from or resumed, whose encoder is binding.
        encoder: name of an encoder, or None.
        vectors: CSV of precomputed vectors, or None.
        listener: whom to tell.
        device: where the encoder computes.
        small: side at which to read each picture once more, for a training that enlarges.
    """
    bound = before.encoder if before else None
    chosen, reason = pick_encoder(folder, encoder, bound, vectors, listener, str(device))
    listener.say(f"Encoder: {reason}.")
    table = read_vectors(vectors, chosen.width) if vectors else None
    embedded = embed(
        folder,
        chosen,
        sizes=sides(settings.size, small),
        grey=settings.grey,
        precomputed=table,
        progress=listener,
    )
    tell(embedded, out / "images-report.csv", listener.say, settings.hold_out)
    train, aside = split(embedded, embedded.vectors, settings, small)
    if not len(train.names):
        raise CaptionlessError(
            f"--hold-out {settings.hold_out} sets every usable picture of {folder} aside ({len(aside.names)}); "
            "nothing is left to train on. Choose a smaller share."
        )
    return TrainingImages(train, aside, chosen, reason)


def pick_encoder(
    folder: Path,
    name: str | None,
    bound: EncoderReference | None,
    vectors: str | Path | None,
    progress: Progress,
    device: str = "cpu",
) -> tuple[Encoder, str]:
    """Return the encoder to use and why.

    A model begun from or resumed binds its encoder; ``name`` may then only say where that one lies now.
    """
    if bound is not None:
        place = bound.name if name in (None, "auto") else str(name)
        encoder = load_encoder(place, device, progress=progress)
        check_same(asdict(bound), encoder)
        return encoder, f"{place}: the model's own"
    if vectors is not None and name in (None, "auto"):
        raise CaptionlessError(
            f"{vectors} does not say which encoder made its vectors. Name it with --encoder, "
            "such as --encoder openai/clip-vit-base-patch32."
        )
    images = sample_images(folder, DOMAIN_SAMPLE) if name in (None, "auto") else []
    return choose_encoder(name or "auto", images, device=device, progress=progress)


def sides(size: int, small: int | None) -> tuple[int, ...]:
    """Return the sides at which a training's pictures are read."""
    return (size,) if small is None else (size, small)


def split(found: ImageArrays, vectors: Vectors, settings: TrainConfig, small: int | None = None) -> tuple[Part, Part]:
    """Keep one of each set of identical pictures, the first; part what is trained on from what is held out."""
    digests = found.digests
    kept = found.unique
    aside = [i for i in kept if held_out(digests[i], settings.hold_out)]
    train = sorted(set(kept) - set(aside))
    return _part(found, vectors, train, settings.size, small), _part(found, vectors, aside, settings.size)


def _part(found: ImageArrays, vectors: Vectors, index: Sequence[int], size: int, small: int | None = None) -> Part:
    # All of them, the usual case, is no copy: the pixels of a large folder are most of a training's memory.
    names, digests = found.names, found.digests
    where = slice(None) if len(index) == len(names) else np.asarray(index, dtype=np.int64)

    def pixels(side: int) -> Tensor:
        return torch.from_numpy(found.pixels[side][where]).permute(0, 3, 1, 2)

    return Part(
        tuple(names[i] for i in index),
        tuple(digests[i] for i in index),
        pixels(size),
        torch.from_numpy(vectors[where]),
        None if small is None else pixels(small),
    )


def tell(found: ImageArrays, report: Path, say: Callable[[str], None], hold_out: float = 0.0) -> None:
    """Say what was read and what was not, and write the whole of it to ``report``."""
    write_report(report, found.entries, hold_out)
    fresh = f" ({found.computed:,} newly embedded)" if isinstance(found, EmbeddedImages) else ""
    say(
        f"Pictures: {len(found.names):,} usable, {len(found.skipped):,} files skipped{fresh}. "
        f"What became of each file: {report}"
    )
    for skipped in found.skipped[:5]:
        say(f"  skipped {skipped.name}: {skipped.reason}")
    if len(found.skipped) > 5:
        say(f"  and {len(found.skipped) - 5:,} more, listed in the report.")
    for names in found.duplicates[:3]:
        say(f"  identical, counted once: {', '.join(names[:4])}{' …' if len(names) > 4 else ''}")
    if len(found.duplicates) > 3:
        say(f"  and {len(found.duplicates) - 3:,} more sets of identical pictures.")
