"""Load the training data: a folder's images and their conditions, deduplicated and split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from captionless.checkpoints.config import LEARNED, base_folder, encoder_place
from captionless.checkpoints.image_list import HELD_OUT, TRAIN, listed_labels, read_image_list
from captionless.checkpoints.model import read_bank
from captionless.config.training import TrainConfig
from captionless.data.arrays import ImageArrays, read_arrays
from captionless.data.images import is_held_out, write_images_report
from captionless.data.labels import normalise_label
from captionless.data.summary import image_remarks
from captionless.encoders.cache import Vectors
from captionless.encoders.choice import AUTO, choose_encoder, outside_domain
from captionless.encoders.dual_encoder import check_same_encoder, load_encoder
from captionless.encoders.embeddings import EmbeddedImages, embed
from captionless.encoders.shard_files import read_about, read_shard_vectors
from captionless.encoders.vector_csv import match_vectors, read_vectors
from captionless.errors import CaptionlessError, shorten
from captionless.latents.space import PIXELS, Space
from captionless.progress import Progress
from captionless.training.crops import source_size
from captionless.training.processes import Processes
from captionless.training.start import REPORT, cannot_resume

if TYPE_CHECKING:
    from captionless.encoders.dual_encoder import Encoder
    from captionless.training.resolve import TrainPlan


@dataclass(frozen=True)
class Examples:
    """Training or held-out images and their conditions; the pixels are memory-mapped."""

    pixels: Tensor  # uint8 (n, channels, size, size), a view of (n, size, size, channels)
    conditions: Tensor  # unit vectors or one-hot classes, float32 (n, d)
    names: tuple[str, ...] = ()  # paths relative to the folder
    digests: tuple[str, ...] = ()  # content hashes
    low_res: Tensor | None = None  # ``pixels`` at the base model's size, for a super-resolution stage
    source: Tensor | None = None  # read in place of ``pixels``: those at ``source_size`` for crops, or latents

    @property
    def read(self) -> Tensor:
        """What training reads, uint8 (n, channels, side, side)."""
        return self.pixels if self.source is None else self.source

    def reordered(self, order: Sequence[int]) -> Examples:
        """Return the images in another order."""
        names, digests = (tuple(values[i] for i in order) for values in (self.names, self.digests))
        low_res, source = (None if images is None else images[order] for images in (self.low_res, self.source))
        return Examples(self.pixels[order], self.conditions[order], names, digests, low_res, source)


@dataclass(frozen=True)
class Dataset:
    """The training and held-out images, and the source of their conditions: either an encoder or classes."""

    train: Examples
    held_out: Examples
    encoder: Encoder | None = None
    encoder_reason: str = ""  # why that encoder was chosen
    classes: tuple[str, ...] = ()  # class names, in the order of the one-hot elements
    label_source: str = ""  # see ``captionless.data.labels``
    space: Space = PIXELS  # what is denoised

    @property
    def condition_width(self) -> int:
        """Number of elements of each condition."""
        return self.train.conditions.shape[1]

    def labels(self, examples: Examples) -> list[str]:
        """Return the class name of each image."""
        return [self.classes[index] for index in examples.conditions.argmax(1).tolist()]

    def class_counts(self) -> dict[str, int]:
        """Return the number of training images of each class."""
        counts = self.train.conditions.sum(0).long().tolist()
        return dict(zip(self.classes, counts, strict=True)) if self.classes else {}

    def image_list(self) -> list[tuple[str, ...]]:
        """Return the rows of ``pictures.csv``: name, content hash, role and, in a class-conditional run, label."""
        rows: list[tuple[str, ...]] = []
        for examples, role in ((self.train, TRAIN), (self.held_out, HELD_OUT)):
            labels = [(label,) for label in self.labels(examples)] if self.classes else [()] * len(examples.names)
            known = zip(examples.names, examples.digests, labels, strict=True)
            rows += [(name, digest, role, *label) for name, digest, label in known]
        return rows


def load_dataset(plan: TrainPlan, progress: Progress, device: torch.device) -> Dataset:
    """Read, embed, deduplicate and split the images of a text-conditional run.

    Vectors are looked up instead of computed if the request has ``vectors``: a table, or a folder of shards. The status
    of every file is written to ``images-report.csv`` in the model folder.
    """
    request, hold_out = plan.request, plan.config.hold_out
    reference = plan.start.bound.encoder if plan.start.bound else None
    table = request.vectors is not None and not request.vectors.is_dir()
    if table and request.encoder in (None, AUTO) and reference is None:
        raise CaptionlessError(
            f"the encoder of the vectors in {request.vectors} is unknown. Pass the encoder that computed them, for "
            "example `encoder=openai/clip-vit-base-patch32`.",
            parameter="encoder",
            code="missing_setting",
        )
    chosen, reason = dataset_encoder(plan, progress, str(device))
    progress.say(f"Encoder: {reason}.")
    grey, background, verify = plan.config.grey, plan.config.background, request.verify
    found: ImageArrays
    if request.vectors:
        found = read_arrays(
            request.folder, plan.sizes, grey=grey, background=background, verify=verify, progress=progress
        )
        if table:
            vectors = match_vectors(read_vectors(request.vectors, chosen.width), found.names, request.folder)
        else:
            vectors = read_shard_vectors(request.vectors, found.images, chosen, background)
    else:
        found = embed(
            request.folder,
            chosen,
            sizes=plan.sizes,
            grey=grey,
            background=background,
            verify=verify,
            progress=progress,
        )
        vectors = found.vectors
    train, aside = split_dataset(found, vectors, plan)
    asked = plan.start.bound is not None or request.encoder not in (None, AUTO)
    if asked and not plan.start.resumed and (remark := outside_domain(chosen, train.conditions)):
        progress.say(remark)
    if not len(train.names):
        raise CaptionlessError(
            f"`hold_out={hold_out}` holds out all {len(aside.names)} usable images of {request.folder}, so none are "
            "left for training. Choose a smaller `hold_out`, or add images.",
            parameter="hold_out",
            value=hold_out,
            code="not_enough_images",
        )
    dataset = resumed_dataset(plan, Dataset(train, aside, chosen, reason))
    report_dataset_images(found, request.out / REPORT, progress.say, plan.config)
    return dataset


def dataset_encoder(plan: TrainPlan, progress: Progress, device: str) -> tuple[Encoder, str]:
    """Return the encoder for the images and the reason for choosing it.

    A run that continues a model must use that model's encoder; the requested name then only gives its new location.
    """
    named = plan.request.encoder or AUTO
    if named == AUTO and plan.request.vectors is not None and plan.request.vectors.is_dir():
        named = read_about(plan.request.vectors).get("encoder", AUTO)
    bound = plan.start.bound.encoder if plan.start.bound else None
    if bound is None:
        config = plan.config
        return choose_encoder(
            named,
            plan.request.folder,
            device=device,
            learned=plan.request.out / LEARNED,
            hold_out=config.hold_out,
            background=config.background,
            progress=progress,
        )
    recorded = encoder_place(plan.request.out, bound)
    encoder = load_encoder(recorded if named == AUTO else named, device, progress=progress)
    check_same_encoder(asdict(bound), encoder)
    return encoder, f"{encoder.name}, the model's own"


def in_space(
    dataset: Dataset, plan: TrainPlan, device: torch.device, progress: Progress, processes: Processes
) -> Dataset:
    """Return the dataset with what is denoised in place of the pixels that training reads.

    Of held-out images, early stopping alone reads it.
    """
    space = plan.start.space.fitted(dataset.train.pixels, device, processes.least)

    def stored(images: Examples) -> Examples:
        source = space.stored(images.pixels, device, plan.config.flip, progress.advance)
        return images if source is images.pixels else replace(images, source=source)

    with processes.main_first():  # the others find them in the cache
        held_out = stored(dataset.held_out) if plan.config.early_stopping else dataset.held_out
        return replace(dataset, train=stored(dataset.train), held_out=held_out, space=space)


def split_dataset(found: ImageArrays, conditions: Vectors, plan: TrainPlan) -> tuple[Examples, Examples]:
    """Return the training and held-out images; only the first of identical images is kept."""
    aside = [i for i in found.unique if is_held_out(found.digests[i], plan.config.hold_out)]
    train = sorted(set(found.unique) - set(aside))
    examples = _take(found, conditions, train, plan.sizes)
    if plan.config.crop < 1:
        examples = replace(examples, source=_images(found, source_size(plan.config.size), train))
    return examples, _take(found, conditions, aside, plan.sizes)


def _take(found: ImageArrays, conditions: Vectors, index: Sequence[int], sizes: Sequence[int]) -> Examples:
    names, digests = found.names, found.digests
    # A slice of all vectors, the usual case, avoids a copy.
    where = slice(None) if len(index) == len(names) else np.asarray(index, dtype=np.int64)
    pixels, *low_res = (_images(found, size, index) for size in sizes)
    return Examples(
        pixels,
        torch.from_numpy(conditions[where]),
        tuple(names[i] for i in index),
        tuple(digests[i] for i in index),
        low_res[0] if low_res else None,
    )


def _images(found: ImageArrays, size: int, index: Sequence[int]) -> Tensor:
    return torch.from_numpy(found.array(size, index)).permute(0, 3, 1, 2)


def report_dataset_images(
    found: ImageArrays, report: Path, say: Callable[[str], None], config: TrainConfig | None = None
) -> None:
    """Report which images were read and which were skipped, and write the full list to ``report``.

    With the ``config`` of a training run, held-out images are marked, and what was done to small or transparent images
    is reported too.
    """
    try:
        write_images_report(report, found.entries, config.hold_out if config else 0)
        status = f"Status of each file: {report}"
    except CaptionlessError as error:  # it is not worth a training
        status = f"Their status is not listed: {error}"
    fresh = f" ({found.computed:,} newly embedded)" if isinstance(found, EmbeddedImages) else ""
    say(f"Images: {len(found.names):,} usable, {len(found.skipped):,} files skipped{fresh}. {status}")
    if config:
        for remark in image_remarks(found.images, config.size, config.background):
            say(f"  {remark}")
    skipped = [f"skipped {one.name}: {one.reason}" for one in found.skipped]
    identical = [f"identical, used once: {', '.join(shorten(names, 4))}" for names in found.duplicates]
    for line in [
        *shorten(skipped, 5, "more, listed in the report"),
        *shorten(identical, 3, "more groups of identical images"),
    ]:
        say(f"  {line}")


def resumed_dataset(plan: TrainPlan, dataset: Dataset) -> Dataset:
    """Restore the recorded order of the images if the run is resumed, even if files were renamed.

    Raises:
        CaptionlessError: images were added or removed, or their vectors or labels have changed.
    """
    folder, out, train = plan.request.folder, plan.request.out, dataset.train
    if not plan.start.resumed:
        return dataset
    recorded = [digest for _, digest, role in read_image_list(out) if role == TRAIN]
    now = {digest: i for i, digest in enumerate(train.digests)}
    gone, new = set(recorded) - set(now), set(now) - set(recorded)
    if gone or new:
        raise cannot_resume(out, f"the images in {folder} have changed ({len(gone):,} removed, {len(new):,} added)")
    if dataset.classes:
        before = listed_labels(out)
        for name, digest, label in zip(train.names, train.digests, dataset.labels(train), strict=True):
            if before.get(digest) != label:
                was = normalise_label(before.get(digest, "nothing"))
                raise cannot_resume(out, f"the labels have changed ({name} was {was} and is now {label})")
    order = [now[digest] for digest in recorded]
    if order != sorted(order):
        dataset = replace(dataset, train=train.reordered(order))
    config = plan.start.config
    if dataset.encoder and config and not base_folder(out).is_dir():  # a base model's bank holds that model's images
        bank, _ = read_bank(out, config)
        if len(bank) == len(order) and not torch.allclose(bank, dataset.train.conditions, atol=2e-3):
            raise cannot_resume(out, "the image vectors differ from the recorded ones. Pass the original `vectors`")
    return dataset
