"""The model card: what a person who finds a model folder should know."""

from __future__ import annotations

import csv
import io
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from captionless.checkpoints.model import BUNDLED, SMALL, ModelConfig, model_folder
from captionless.errors import CaptionlessError
from captionless.files import atomic_write
from captionless.models.unet import Denoiser, parameter_count

CREDITS = "CREDITS.csv"
ANCESTORS_CREDITS = "CREDITS-begun-from.csv"
TRAIN, HELD_OUT, COPY = "train", "held out", "copy"
"""Roles in ``pictures.csv``. A copy is another file (other bytes) of the picture trained on that has the same name: the
model has seen it, but not as one more picture."""
CARD = "README.md"
_BEGIN, _END = "<!-- evaluation: begin -->", "<!-- evaluation: end -->"
# Of two beginnings the nearer to the end counts: what a person wrote after a stray one is theirs.
_EVALUATION = re.compile(f"{_BEGIN}(?:(?!{_BEGIN}).)*?{_END}", re.DOTALL)


def write_model_card(folder: Path, config: ModelConfig, denoiser: Denoiser, images_folder: Path) -> None:
    """Write ``README.md``, and ``CREDITS.csv`` where the picture folder has one (weights owe the same credit)."""
    credits = _find_credits(images_folder)
    if credits:
        names = {row[0] for row in read_images(folder) if row[2] == TRAIN}
        with atomic_write(folder / CREDITS) as path:
            path.write_text(_own_credits(credits, names), encoding="utf-8")
    _keep_ancestors_credits(folder, config)
    # At each checkpoint the card is written anew, and an evaluation in it is gone. That is intended: it was of the
    # weights before.
    with atomic_write(folder / CARD) as path:
        path.write_text(_card(folder, config, denoiser, credits is not None), encoding="utf-8")


def add_evaluation(folder: Path, text: str) -> None:
    """Write an evaluation into a model's card, in place of one that is there; all else in the card stays as it is.

    It stands between two HTML comments, by which it is found again: where it was, or else before the credits, or at
    the end. A folder without a card gets one.

    Args:
        folder: of the model.
        text: Markdown without a heading, such as ``captionless.evaluation.report.card.card_lines`` returns.

    Raises:
        CaptionlessError: there is no such folder, or its card cannot be read or written.
    """
    if not folder.is_dir():
        raise CaptionlessError(f"there is no model folder {folder}. Give the folder that --out of train named.")
    path = folder / CARD
    try:
        # As bytes that need not be text: line ends and all else that people wrote into it stay.
        card = path.read_bytes().decode(errors="surrogateescape") if path.exists() else f"# {folder.resolve().name}\n"
    except OSError as error:
        raise CaptionlessError(
            f"cannot read {path}: {error.strerror or error}. Make it readable, or move it away and evaluate again."
        ) from error
    section = f"{_BEGIN}\n## Evaluation\n\n{text.replace('<!--', '&lt;!--').strip()}\n{_END}"
    with atomic_write(path) as temporary:
        temporary.write_bytes(_with_evaluation(card, section).encode(errors="surrogateescape"))


def _with_evaluation(card: str, section: str) -> str:
    """Return the card with the section where one was, else before the credits, else at the end."""
    before, *after = _EVALUATION.split(card)
    before, rest = (_without_marks(part) for part in (before, "".join(after)))
    if after:
        return before + section + rest
    at = re.search(r"^## Credits\s*$", before, re.MULTILINE)
    if at:
        return f"{before[: at.start()]}{section}\n\n{before[at.start() :]}"
    return f"{before.rstrip()}\n\n{section}\n"


def _without_marks(text: str) -> str:
    return text.replace(_BEGIN, "").replace(_END, "")


def _card(folder: Path, config: ModelConfig, denoiser: Denoiser, credited: bool) -> str:
    training = config.training
    facts: Mapping[str, object] = {
        "Images": f"{config.size} x {config.size} pixels, {'grey' if config.denoiser.channels == 1 else 'colour'}",
        "Trained on": f"{training.get('pictures', 0):,} pictures of the folder `{training.get('folder', '?')}`"
        f" ({training.get('held_out', 0):,} more held out)",
        "Denoiser": f"U-Net, {parameter_count(denoiser) / 1e6:.1f} million weights, {config.prediction}-prediction, "
        f"{training.get('settings', {}).get('schedule', 'cosine')} schedule",
        **_enlarging(config),
        **_asked_by(config),
        "Training": f"{training.get('images', 0):,} pictures seen in {training.get('minutes', 0):.0f} minutes"
        + (f", begun from `{training['from']}`" if training.get("from") else ""),
    }
    lines = [f"- **{name}**: {value}" for name, value in facts.items()]
    credit = (
        f"The photographers and pages of the pictures are listed in [{CREDITS}]({CREDITS})."
        if credited
        else "The picture folder held no CREDITS.csv. If its pictures ask for credit, name their makers here."
    )
    if (folder / ANCESTORS_CREDITS).exists():
        credit += f" Those of the model it was begun from: [{ANCESTORS_CREDITS}]({ANCESTORS_CREDITS})."
    if config.enlarges and (folder / SMALL / CREDITS).exists():
        credit += f" Those of the model of small pictures: [{SMALL}/{CREDITS}]({SMALL}/{CREDITS})."
    name = BUNDLED if folder.resolve() == model_folder(BUNDLED).resolve() else str(folder)
    return (
        f"# {folder.name}\n\n{_KIND[bool(config.classes)]}\n\n"
        + "\n".join(lines)
        + f"\n\n    captionless generate --model {name} {example(config)}\n\n"
        + f"It paints what its training pictures show and little else. {_LIMIT[bool(config.classes)]}\n\n"
        + f"## Credits\n\n{credit}\n"
    )


_KIND = {
    False: "A text-to-image model made by captionless from pictures alone, without captions.",
    True: "A model of classes made by captionless: it paints a picture of the class it is asked for.",
}
_LIMIT = {
    False: "Its words are its encoder's: what that does\nnot know, the model cannot follow.",
    True: "It knows no words but the\nnames of its classes.",
}


def _enlarging(config: ModelConfig) -> dict[str, str]:
    """Return what is told of the first model of a cascade."""
    if config.enlarges is None:
        return {}
    first = f"pictures of {config.enlarges} x {config.enlarges} pixels, painted by the model in [{SMALL}]({SMALL})"
    return {"Enlarges": first}


def _asked_by(config: ModelConfig) -> dict[str, str]:
    """Return what the model's conditions are."""
    if config.encoder:
        return {"Encoder": f"{config.encoder.name} (content hash {config.encoder.digest[:12]})"}
    return {"Classes": class_counts(config)}


def example(config: ModelConfig) -> str:
    """Return what a first command asks the model for."""
    return f"--class {shlex.quote(config.classes[0])}" if config.classes else '"what to paint"'


def class_counts(config: ModelConfig) -> str:
    """Return the classes of a model, each with how many pictures it was trained on."""
    counts = config.training.get("class_pictures")
    counts = counts if isinstance(counts, dict) else {}
    return ", ".join(
        f"{name} ({counts[name]:,})" if isinstance(counts.get(name), int) else name for name in config.classes
    )


def write_images(folder: Path, rows: Iterable[tuple[str, ...]]) -> None:
    """Write ``pictures.csv``: name, content hash and role of every picture (``TRAIN`` …), and its label if any."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    rows = list(rows)
    writer.writerow(["file", "sha256", "role", "label"][: len(rows[0]) if rows else 3])
    writer.writerows(rows)
    with atomic_write(folder / "pictures.csv") as path:
        path.write_text(text.getvalue(), encoding="utf-8")


def read_images(folder: Path) -> list[tuple[str, str, str]]:
    """Read name, content hash and role back from ``pictures.csv``; an empty list where there is none."""
    return [(row[0], row[1], row[2]) for row in _read_rows(folder) if len(row) in (3, 4)]


def read_labels(folder: Path) -> dict[str, str]:
    """Read label by content hash from ``pictures.csv``; nothing of a model of words."""
    return {row[1]: row[3] for row in _read_rows(folder) if len(row) == 4}


def _read_rows(folder: Path) -> list[list[str]]:
    path = folder / "pictures.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]


def _keep_ancestors_credits(folder: Path, config: ModelConfig) -> None:
    """Copy the credits of the model begun from: these weights owe them too."""
    begun = config.training.get("from")
    if not begun:
        return
    ancestor = model_folder(begun)
    # What paints from noise alone began with the small model of one that enlarges, as ``enlargement.begun_from`` says.
    inside = config.enlarges is None and (ancestor / SMALL).is_dir()
    source = (ancestor / SMALL if inside else ancestor) / CREDITS
    if source.is_file() and not (folder / ANCESTORS_CREDITS).exists():
        with atomic_write(folder / ANCESTORS_CREDITS) as path:
            path.write_bytes(source.read_bytes())


def _find_credits(pictures: Path) -> Path | None:
    """Look for credits in the folder, then one above (where a data set keeps them beside its splits)."""
    found = (path / CREDITS for path in (pictures, pictures.parent))
    return next((path for path in found if path.is_file()), None)


def _own_credits(path: Path, names: set[str]) -> str:
    """Return the lines of a credits table that concern the pictures trained on (all of it where none is named so)."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    own = [line for line in lines[1:] if _concerns(next(csv.reader([line]), [""])[0], names)]
    return "\n".join([lines[0], *(own or lines[1:])]) + "\n" if lines else ""


def _concerns(file: str, names: set[str]) -> bool:
    # A table one folder up names "train/daisy/1.jpg" where the folder itself says "daisy/1.jpg".
    return file in names or file.partition("/")[2] in names
