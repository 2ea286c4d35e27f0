"""What a training on classes learns from: pictures whose labels are their conditions. No encoder takes part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from captionless.checkpoints.config import ModelConfig
from captionless.conditioning.classes import list_classes, one_hot
from captionless.config.training import TrainConfig
from captionless.data.arrays import ImageArrays, read_arrays
from captionless.data.folder import find_images, relative_name
from captionless.data.labels import FOLDERS, Labels, find_labels, normalise_label, require_two_classes
from captionless.errors import CaptionlessError
from captionless.training.dataset import Listener, TrainingImages, sides, split, tell


def label_source(config: ModelConfig | None, resumed: bool, classes: bool, labels: str | Path | None) -> str | None:
    """Return where labels come from, ``FOLDERS`` or a table's path; None for a training on words.

    Args:
        config: of the model begun from or resumed, if any.
        resumed: whether it is resumed; then its own labels are taken unless others are named.
        classes: whether sub-folders are asked for.
        labels: the table asked for; it goes before ``classes``.

    Raises:
        CaptionlessError: a model of words is to be resumed with classes.
    """
    source = str(labels) if labels is not None else FOLDERS if classes else None
    if not resumed or config is None:
        return source
    if source and not config.classes:
        raise CaptionlessError(
            "--classes contradicts the model that is to be resumed, begun with words. Leave it out, or start anew with "
            "--from in another folder."
        )
    return source or (config.training.labels or FOLDERS if config.classes else None)


def refuse_words(encoder: str | None, vectors: str | Path | None, prompts: Sequence[str]) -> None:
    """Raise where something is given that only a training on words uses."""
    for option, value in (("--encoder", encoder), ("--vectors", vectors), ("--sample-prompt", prompts or None)):
        if value is not None:
            raise CaptionlessError(f"{option} is for a training on words, and this one is on classes. Leave it out.")


def gather_classes(
    folder: Path,
    out: Path,
    settings: TrainConfig,
    source: str,
    before: ModelConfig | None,
    listener: Listener,
    small: int | None = None,
) -> TrainingImages:
    """Read, deduplicate and split the pictures of ``folder`` that have a label.

    Writes ``images-report.csv`` into ``out``: every file, and what became of it.

    Args:
        folder: the pictures.
        out: the model folder.
        settings: size, grey and hold-out count here.
        source: of the labels, see ``label_source``.
        before: the model begun from or resumed; if it is one of classes, they must be the same.
        listener: whom to tell.
        small: as in ``captionless.training.dataset.gather``.

    Raises:
        CaptionlessError: no usable pictures, fewer than 2 classes, other classes than before, or a class of which no
            picture is left to train on.
    """
    files = find_images(folder)
    labels = find_labels(folder, [relative_name(file, folder) for file in files], source)
    if before and not set(before.classes) <= set(labels.by_name.values()):
        raise _other_classes(before.classes, sorted(set(labels.by_name.values())))
    found = read_arrays(
        folder,
        sides(settings.size, small),
        grey=settings.grey,
        files=files,
        reject=lambda picture: "" if picture.name in labels.by_name else labels.missing_reason,
        progress=listener,
    )
    tell(found, out / "images-report.csv", listener.say, settings.hold_out)
    require_two_classes(folder, labels, found.names)
    classes = tuple(sorted({labels.by_name[name] for name in found.names}))
    if before and before.classes:
        if set(classes) != set(before.classes):
            raise _other_classes(before.classes, classes)
        classes = before.classes
    conditions = one_hot([labels.by_name[name] for name in found.names], classes).numpy()
    train, aside = split(found, conditions, settings, small)
    pictures = TrainingImages(train, aside, None, "", classes, source)
    _check_filled(pictures, settings)
    _tell_labels(pictures, found, labels, listener.say)
    return pictures


def _other_classes(before: Sequence[str], now: Sequence[str]) -> CaptionlessError:
    gone, new = ", ".join(sorted(set(before) - set(now))[:5]), ", ".join(sorted(set(now) - set(before))[:5])
    change = "; ".join([f"without {gone}"] * bool(gone) + [f"with {new}"] * bool(new))
    return CaptionlessError(
        f"these are not the classes that the model was begun with ({change}). {list_classes(before)} "
        "Train on the same, or begin from a model of words, such as --from bundled, or from none."
    )


def _check_filled(pictures: TrainingImages, settings: TrainConfig) -> None:
    empty = [name for name, count in pictures.class_counts().items() if not count]
    if empty:
        raise CaptionlessError(
            f"no picture of the class {empty[0]} is left to train on: --hold-out {settings.hold_out} sets them aside, "
            "or they are copies of another class's. Choose a smaller share, or give it more pictures."
        )


def _tell_labels(pictures: TrainingImages, found: ImageArrays, labels: Labels, say: Callable[[str], None]) -> None:
    """Say how many pictures each class has, and which labels and pictures go without each other."""
    counts = Counter(pictures.class_counts()).most_common()
    few = ", ".join(f"{name} {count:,}" for name, count in counts[:10])
    say(f"Classes, by {labels.source}: {few}" + (f" and {len(counts) - 10:,} more." if len(counts) > 10 else "."))
    unlabelled = [entry.name for entry in found.skipped if entry.reason == labels.missing_reason]
    if unlabelled:
        say(f"  {len(unlabelled):,} pictures left out, {labels.missing_reason}, such as {unlabelled[0]}")
    if labels.unmatched:
        say(
            f"  {len(labels.unmatched):,} lines of {labels.source} fit no file of the folder, or several, such as "
            f"{labels.unmatched[0]}"
        )
    mixed = [same for same in found.duplicates if len({labels.by_name[name] for name in same}) > 1]
    for same in mixed[:3]:
        both = ", ".join(f"{name} ({labels.by_name[name]})" for name in same[:4])
        say(f"  identical, but of different classes: {both}; counted once, as {labels.by_name[same[0]]}")
    if len(mixed) > 3:
        say(f"  and {len(mixed) - 3:,} more sets of identical pictures of different classes.")


def check_labels(out: Path, pictures: TrainingImages, recorded: dict[str, str]) -> None:
    """Raise unless every picture has the label it had when the training in ``out`` was begun.

    Args:
        out: the model folder.
        pictures: as they are labelled now.
        recorded: label by content hash.
    """
    part = pictures.train
    for name, digest, label in zip(part.names, part.digests, pictures.labels(part), strict=True):
        if recorded.get(digest) != label:
            before = normalise_label(recorded.get(digest, "nothing"))
            raise CaptionlessError(
                f"the labels have changed since {out} was begun ({name} was {before}, "
                f"now it is {label}), so it cannot be resumed exactly. Restore them, or begin anew from it: "
                f"--from {out} --out ANOTHER."
            )
