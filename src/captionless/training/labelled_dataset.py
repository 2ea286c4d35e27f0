"""Load the data of a class-conditional run, whose conditions are one-hot labels instead of image vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from captionless.conditioning.classes import list_classes, one_hot
from captionless.data.arrays import ImageArrays, Visitor, read_arrays
from captionless.data.folder import find_images, relative_name
from captionless.data.images import ImageFile
from captionless.data.labels import Labels, find_labels, require_two_classes
from captionless.device import memory_bytes
from captionless.errors import CaptionlessError, shorten
from captionless.progress import Progress
from captionless.training.dataset import Dataset, report_dataset_images, resumed_dataset, split_dataset
from captionless.training.resolve import TrainPlan
from captionless.training.start import REPORT


def load_labelled_dataset(plan: TrainPlan, progress: Progress) -> Dataset:
    """Read, deduplicate and split the images that have a label.

    The status of every file is written to ``images-report.csv`` in the model folder.

    Raises:
        CaptionlessError: there are no usable images, fewer than 2 classes or a class without training images, or the
            classes differ from those of the model that the run continues.
    """
    folder, before = plan.request.folder, plan.start.bound
    names = [relative_name(file, folder) for file in find_images(folder)]
    labels = find_labels(folder, names, plan.label_source or "")
    if before and not set(before.classes) <= set(labels.by_name.values()):
        raise _other_classes(before.classes, sorted(set(labels.by_name.values())))
    found = read_arrays(
        folder,
        plan.sizes,
        grey=plan.config.grey,
        background=plan.config.background,
        verify=plan.request.verify,
        visitor=_Labelled(labels),
        progress=progress,
    )
    require_two_classes(folder, labels, found.names)
    classes = tuple(sorted({labels.by_name[name] for name in found.names}))
    if before and before.classes:
        if set(classes) != set(before.classes):
            raise _other_classes(before.classes, classes)
        classes = before.classes
    needed = 12 * len(found.names) * len(classes)  # float32, and parts of it twice
    if needed > memory_bytes():
        raise CaptionlessError(
            f"{len(found.names):,} images of {len(classes):,} classes need {needed / 1e9:,.0f} GB of memory. Check "
            "that labels name what several images show, and not single images.",
            parameter="classes",
            code="invalid_setting",
        )
    conditions = one_hot([labels.by_name[name] for name in found.names], classes).numpy()
    train, aside = split_dataset(found, conditions, plan)
    dataset = Dataset(train, aside, classes=classes, label_source=labels.source)
    empty = [name for name, count in dataset.class_counts().items() if not count]
    if empty:
        raise CaptionlessError(
            f"the class {empty[0]} has no training images: all are held out (`hold_out={plan.config.hold_out}`) or are "
            "copies of images of another class. Choose a smaller `hold_out`, or add images to the class.",
            parameter="hold_out",
            value=plan.config.hold_out,
            code="not_enough_images",
        )
    dataset = resumed_dataset(plan, dataset)
    report_dataset_images(found, plan.request.out / REPORT, progress.say, plan.config)
    _report_labels(dataset, found, labels, progress.say)
    return dataset


class _Labelled(Visitor):
    """Skips the images without a label."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels

    def visit(self, image: ImageFile) -> str:
        """Return why an image has no label, or ""."""
        return "" if image.name in self._labels.by_name else self._labels.missing_reason


def _other_classes(before: Sequence[str], now: Sequence[str]) -> CaptionlessError:
    gone, new = ", ".join(sorted(set(before) - set(now))[:5]), ", ".join(sorted(set(now) - set(before))[:5])
    change = "; ".join([f"missing: {gone}"] * bool(gone) + [f"new: {new}"] * bool(new))
    return CaptionlessError(
        f"the classes differ from those of the `start_from` model ({change}). {list_classes(before)} Train on the same "
        "classes, start from a text-conditional model such as `start_from=bundled`, or leave `start_from` out.",
        parameter="start_from",
        code="contradicts_model",
    )


def _report_labels(dataset: Dataset, found: ImageArrays, labels: Labels, say: Callable[[str], None]) -> None:
    """Report the number of images per class, and the images without a label and labels without an image."""
    counts = [f"{name} {count:,}" for name, count in Counter(dataset.class_counts()).most_common()]
    say(f"Classes from {labels.source}: {', '.join(shorten(counts, 10))}.")
    unlabelled = [entry.name for entry in found.skipped if entry.reason == labels.missing_reason]
    if unlabelled:
        say(f"  {len(unlabelled):,} images skipped ({labels.missing_reason}), such as {unlabelled[0]}")
    if labels.unmatched:
        say(
            f"  {len(labels.unmatched):,} lines of {labels.source} match no file or several files in the folder, such "
            f"as {labels.unmatched[0]}"
        )
    mixed = [
        f"identical images of different classes: {', '.join(f'{name} ({labels.by_name[name]})' for name in same[:4])}; "
        f"used once, as {labels.by_name[same[0]]}"
        for same in found.duplicates
        if len({labels.by_name[name] for name in same}) > 1
    ]
    for line in shorten(mixed, 3, "more groups of identical images of different classes"):
        say(f"  {line}")
