"""Load the training data: a folder's images and their conditions, deduplicated and split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from captionless.checkpoints.config import base_folder
from captionless.checkpoints.image_list import HELD_OUT, TRAIN, listed_labels, read_image_list
from captionless.checkpoints.model import BANK
from captionless.checkpoints.tensors import read_tensors
from captionless.data.arrays import ImageArrays, normalise, read_arrays
from captionless.data.images import is_held_out, write_images_report
from captionless.data.labels import normalise_label
from captionless.encoders.cache import Vectors
from captionless.encoders.choice import AUTO, choose_encoder
from captionless.encoders.dual_encoder import check_same_encoder, load_encoder
from captionless.encoders.embeddings import EmbeddedImages, embed
from captionless.encoders.vector_csv import match_vectors, read_vectors
from captionless.errors import CaptionlessError, shorten
from captionless.progress import Progress
from captionless.training.resolve import TrainPlan
from captionless.training.start import cannot_resume
from captionless.training.step import Batch

if TYPE_CHECKING:
    from captionless.encoders.dual_encoder import Encoder

REPORT = "images-report.csv"


@dataclass(frozen=True)
class Examples:
    """Training images, or held-out ones, in memory."""

    pixels: Tensor  # uint8 (n, channels, size, size)
    conditions: Tensor  # unit vectors or one-hot classes, float32 (n, d)
    names: tuple[str, ...] = ()  # paths inside the folder
    digests: tuple[str, ...] = ()  # content hashes
    low_res: Tensor | None = None  # for a super-resolution stage: the images at the base model's size, like ``pixels``

    def batch(self, index: Tensor, device: torch.device) -> Batch:
        """Return some of the images as the input of a training step."""
        low_res = None if self.low_res is None else normalise(self.low_res[index].to(device))
        return Batch(normalise(self.pixels[index].to(device)), self.conditions[index].to(device), low_res)

    def reordered(self, order: Sequence[int]) -> Examples:
        """Return the images in another order."""
        names, digests = (tuple(values[i] for i in order) for values in (self.names, self.digests))
        low_res = None if self.low_res is None else self.low_res[order]
        return Examples(self.pixels[order], self.conditions[order], names, digests, low_res)


@dataclass(frozen=True)
class Dataset:
    """The training and held-out images, and the source of their conditions: either an encoder or classes."""

    train: Examples
    held_out: Examples
    encoder: Encoder | None = None
    encoder_reason: str = ""  # why that encoder was chosen
    classes: tuple[str, ...] = ()  # their names, in the order of the conditions' elements
    label_source: str = ""  # see ``captionless.data.labels``

    @property
    def condition_width(self) -> int:
        """Length of the conditions."""
        return self.train.conditions.shape[1]

    def labels(self, examples: Examples) -> list[str]:
        """Return the class of each image."""
        return [self.classes[index] for index in examples.conditions.argmax(1).tolist()]

    def class_counts(self) -> dict[str, int]:
        """Return the number of training images of each class."""
        counts = self.train.conditions.sum(0).long().tolist()
        return dict(zip(self.classes, counts, strict=True)) if self.classes else {}

    def image_list(self) -> list[tuple[str, ...]]:
        """Return the rows of ``pictures.csv``: name, content hash, role and, for classes, label."""
        rows: list[tuple[str, ...]] = []
        for examples, role in ((self.train, TRAIN), (self.held_out, HELD_OUT)):
            labels = [(label,) for label in self.labels(examples)] if self.classes else [()] * len(examples.names)
            known = zip(examples.names, examples.digests, labels, strict=True)
            rows += [(name, digest, role, *label) for name, digest, label in known]
        return rows


def load_dataset(plan: TrainPlan, progress: Progress, device: torch.device) -> Dataset:
    """Read, embed (or look up), deduplicate and split the images of a text-conditional run.

    Writes ``images-report.csv`` into the model folder: the status of every file.
    """
    request, hold_out = plan.request, plan.config.hold_out
    reference = plan.start.bound.encoder if plan.start.bound else None
    if request.vectors is not None and request.encoder in (None, AUTO) and reference is None:
        raise CaptionlessError(
            f"{request.vectors} does not say which encoder made its vectors. Name it, as in "
            "`encoder=openai/clip-vit-base-patch32`.",
            parameter="encoder",
            code="missing_setting",
        )
    chosen, reason = dataset_encoder(plan, progress, str(device))
    progress.say(f"Encoder: {reason}.")
    found: ImageArrays
    if request.vectors:
        found = read_arrays(request.folder, plan.sizes, grey=plan.config.grey, progress=progress)
        vectors = match_vectors(read_vectors(request.vectors, chosen.width), found.names, request.folder)
    else:
        found = embed(request.folder, chosen, sizes=plan.sizes, grey=plan.config.grey, progress=progress)
        vectors = found.vectors
    report_dataset_images(found, request.out / REPORT, progress.say, hold_out)
    train, aside = split_dataset(found, vectors, plan)
    if not len(train.names):
        raise CaptionlessError(
            f"`hold_out={hold_out}` sets all {len(aside.names)} usable images of {request.folder} aside, so no image "
            "is left to train on. Choose a smaller share.",
            parameter="hold_out",
            value=hold_out,
            code="not_enough_images",
        )
    return Dataset(train, aside, chosen, reason)


def dataset_encoder(plan: TrainPlan, progress: Progress, device: str) -> tuple[Encoder, str]:
    """Return the encoder for the images and why it was chosen.

    A model that is resumed or started from binds to its own encoder; the requested name then only says where it is now.
    """
    named = plan.request.encoder or AUTO
    bound = plan.start.bound.encoder if plan.start.bound else None
    if bound is None:
        return choose_encoder(named, plan.request.folder, device=device, progress=progress)
    encoder = load_encoder(bound.name if named == AUTO else named, device, progress=progress)
    check_same_encoder(asdict(bound), encoder)
    return encoder, f"{encoder.name}, the model's own"


def split_dataset(found: ImageArrays, conditions: Vectors, plan: TrainPlan) -> tuple[Examples, Examples]:
    """Return training and held-out images; of identical images only the first is kept."""
    aside = [i for i in found.unique if is_held_out(found.digests[i], plan.config.hold_out)]
    train = sorted(set(found.unique) - set(aside))
    return _take(found, conditions, train, plan.sizes), _take(found, conditions, aside, plan.sizes[:1])


def _take(found: ImageArrays, conditions: Vectors, index: Sequence[int], sizes: Sequence[int]) -> Examples:
    # Taking all of them, the usual case, copies nothing: the pixels of a large folder are most of the memory in use.
    names, digests = found.names, found.digests
    where = slice(None) if len(index) == len(names) else np.asarray(index, dtype=np.int64)
    pixels, *low_res = (torch.from_numpy(found.pixels[size][where]).permute(0, 3, 1, 2) for size in sizes)
    return Examples(
        pixels,
        torch.from_numpy(conditions[where]),
        tuple(names[i] for i in index),
        tuple(digests[i] for i in index),
        low_res[0] if low_res else None,
    )


def report_dataset_images(found: ImageArrays, report: Path, say: Callable[[str], None], hold_out: float = 0.0) -> None:
    """Say which images were read and which were not, and write the whole list to ``report``."""
    write_images_report(report, found.entries, hold_out)
    fresh = f" ({found.computed:,} newly embedded)" if isinstance(found, EmbeddedImages) else ""
    say(
        f"Images: {len(found.names):,} usable, {len(found.skipped):,} files skipped{fresh}. "
        f"Status of each file: {report}"
    )
    skipped = [f"skipped {one.name}: {one.reason}" for one in found.skipped]
    identical = [f"identical, counted once: {', '.join(shorten(names, 4))}" for names in found.duplicates]
    for line in [*shorten(skipped, 5, "more, listed in the report"), *shorten(identical, 3, "more sets of copies")]:
        say(f"  {line}")


def resumed_dataset(plan: TrainPlan, dataset: Dataset) -> Dataset:
    """Put the images of a resumed run into their recorded order, whatever the files are called now.

    Raises:
        CaptionlessError: images were added or removed since, or their vectors or labels differ.
    """
    folder, out, train = plan.request.folder, plan.request.out, dataset.train
    recorded = [digest for _, digest, role in read_image_list(out) if role == TRAIN]
    now = {digest: i for i, digest in enumerate(train.digests)}
    gone, new = set(recorded) - set(now), set(now) - set(recorded)
    if gone or new:
        raise cannot_resume(out, f"{folder} has changed since ({len(gone):,} images removed, {len(new):,} added)")
    if dataset.classes:
        before = listed_labels(out)
        for name, digest, label in zip(train.names, train.digests, dataset.labels(train), strict=True):
            if before.get(digest) != label:
                was = normalise_label(before.get(digest, "nothing"))
                raise cannot_resume(out, f"the labels have changed since ({name} was {was}, now it is {label})")
    order = [now[digest] for digest in recorded]
    if order != sorted(order):
        dataset = replace(dataset, train=train.reordered(order))
    if dataset.encoder and not base_folder(out).is_dir():  # else the bank is the base model's, of its own images
        bank = read_tensors(out / BANK)["vectors"].float()
        if len(bank) == len(order) and not torch.allclose(bank, dataset.train.conditions, atol=2e-3):
            raise cannot_resume(out, "the images' vectors differ. Pass the `vectors` that it was started with")
    return dataset
