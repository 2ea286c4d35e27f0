"""What a training learns from: the folder's pictures and their vectors, checked, deduplicated and split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from captionless.checkpoint import EncoderReference, ModelConfig
from captionless.encoders import check_same, choose_encoder, load_encoder
from captionless.errors import CaptionlessError
from captionless.pictures import held_out, sample_pictures, write_report
from captionless.settings import TrainSettings
from captionless.vectors import Embedded, embed, read_csv

if TYPE_CHECKING:
    from captionless.encoders import Encoder

DOMAIN_SAMPLE = 48
"""Pictures looked at to decide whether the bundled encoder knows a folder."""


class Listener(Protocol):
    """Who is told what goes on."""

    def say(self, message: str) -> None:
        """Take a sentence."""

    def reading(self, done: int, total: int) -> None:
        """Take the progress of reading."""


@dataclass(frozen=True)
class Part:
    """Some pictures: names, content hashes, uint8 pixels (n, channels, size, size), unit vectors (n, d)."""

    names: tuple[str, ...]
    digests: tuple[str, ...]
    pixels: Tensor
    vectors: Tensor


@dataclass(frozen=True)
class TrainingPictures:
    """The pictures of a training and the encoder that embedded them, with the reason for its choice."""

    train: Part
    held_out: Part
    encoder: Encoder
    reason: str


def gather(
    folder: Path,
    out: Path,
    settings: TrainSettings,
    before: ModelConfig | None,
    encoder: str | None,
    vectors: str | Path | None,
    listener: Listener,
    device: torch.device,
) -> TrainingPictures:
    """Read, embed (or look up), deduplicate and split the pictures of ``folder``.

    Writes ``pictures-report.csv`` into ``out``: every file, and what became of it.

    Args:
        folder: the pictures.
        out: the model folder.
        settings: size, grey and hold-out count here.
        before: the model begun from or resumed, whose encoder is binding.
        encoder: name of an encoder, or None.
        vectors: CSV of precomputed vectors, or None.
        listener: whom to tell.
        device: where the encoder computes.
    """
    bound = before.encoder if before else None
    chosen, reason = pick_encoder(folder, encoder, bound, vectors, listener.say, str(device))
    listener.say(f"Encoder: {reason}.")
    table = read_csv(vectors, chosen.width) if vectors else None
    embedded = embed(
        folder, chosen, sizes=(settings.size,), grey=settings.grey, given=table, on_progress=listener.reading
    )
    tell(embedded, out / "pictures-report.csv", listener.say, settings.hold_out)
    train, aside = split(embedded, settings)
    if not len(train.names):
        raise CaptionlessError(
            f"--hold-out {settings.hold_out} sets every usable picture of {folder} aside ({len(aside.names)}); "
            "nothing is left to train on. Choose a smaller share."
        )
    return TrainingPictures(train, aside, chosen, reason)


def pick_encoder(
    folder: Path,
    name: str | None,
    bound: EncoderReference | None,
    vectors: str | Path | None,
    say: Callable[[str], None],
    device: str = "cpu",
) -> tuple[Encoder, str]:
    """Return the encoder to use and why.

    A model begun from or resumed binds its encoder; ``name`` may then only say where that one lies now.
    """
    if bound is not None:
        place = bound.name if name in (None, "auto") else str(name)
        encoder = load_encoder(place, device, announce=say)
        check_same(asdict(bound), encoder)
        return encoder, f"{place}: the model's own"
    if vectors is not None and name in (None, "auto"):
        raise CaptionlessError(
            f"{vectors} does not say which encoder made its vectors. Name it with --encoder, "
            "such as --encoder openai/clip-vit-base-patch32."
        )
    images = sample_pictures(folder, DOMAIN_SAMPLE) if name in (None, "auto") else []
    return choose_encoder(name or "auto", images, device=device, announce=say)


def split(embedded: Embedded, settings: TrainSettings) -> tuple[Part, Part]:
    """Keep one of each set of identical pictures; part what is trained on from what is held out."""
    first = {digest: i for i, digest in reversed(list(enumerate(embedded.digests)))}
    kept = sorted(first.values())
    aside = [i for i in kept if held_out(embedded.digests[i], settings.hold_out)]
    train = sorted(set(kept) - set(aside))
    return _part(embedded, train, settings.size), _part(embedded, aside, settings.size)


def _part(embedded: Embedded, index: Sequence[int], size: int) -> Part:
    # All of them, the usual case, is no copy: the pixels of a large folder are most of a training's memory.
    where = slice(None) if len(index) == len(embedded.names) else np.asarray(index, dtype=np.int64)
    pixels = torch.from_numpy(embedded.squares[size][where]).permute(0, 3, 1, 2)
    return Part(
        tuple(embedded.names[i] for i in index),
        tuple(embedded.digests[i] for i in index),
        pixels,
        torch.from_numpy(embedded.vectors[where]),
    )


def tell(embedded: Embedded, report: Path, say: Callable[[str], None], hold_out: float = 0.0) -> None:
    """Say what was read and what was not, and write the whole of it to ``report``."""
    write_report(report, embedded.entries, hold_out)
    say(
        f"Pictures: {len(embedded.names):,} usable, {len(embedded.skipped):,} files skipped"
        f" ({embedded.computed:,} newly embedded). What became of each file: {report}"
    )
    for skipped in embedded.skipped[:5]:
        say(f"  skipped {skipped.name}: {skipped.reason}")
    if len(embedded.skipped) > 5:
        say(f"  and {len(embedded.skipped) - 5:,} more, listed in the report.")
    for names in embedded.duplicates[:3]:
        say(f"  identical, counted once: {', '.join(names[:4])}{' …' if len(names) > 4 else ''}")
    if len(embedded.duplicates) > 3:
        say(f"  and {len(embedded.duplicates) - 3:,} more sets of identical pictures.")
