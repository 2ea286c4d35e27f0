"""Write the model card: what a person who finds a model folder should know."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

from captionless.checkpoints.config import BASE, BUNDLED, ModelConfig, base_folder, model_folder
from captionless.checkpoints.image_list import TRAIN, read_image_list
from captionless.checkpoints.summary import model_facts
from captionless.errors import CaptionlessError
from captionless.files import atomic_write
from captionless.models.unet import Denoiser

CREDITS = "CREDITS.csv"
INHERITED_CREDITS = "CREDITS-begun-from.csv"
"""Credits of the model whose weights this one was initialised from: it owes them too."""
CARD = "README.md"
_BEGIN, _END = "<!-- evaluation: begin -->", "<!-- evaluation: end -->"


def write_model_card(folder: Path, config: ModelConfig, denoiser: Denoiser, images_folder: Path) -> None:
    """Write ``README.md``, and ``CREDITS.csv`` where the image folder has one (weights owe the same credit)."""
    credits = _find_credits(images_folder)
    if credits:
        names = {name for name, _, role in read_image_list(folder) if role == TRAIN}
        with atomic_write(folder / CREDITS) as path:
            path.write_text(_own_credits(credits, names), encoding="utf-8")
    _inherit_credits(folder, config)
    # Each checkpoint writes the card anew and so removes an evaluation: it was of the weights before.
    with atomic_write(folder / CARD) as path:
        path.write_text(_front_matter(config) + _body(folder, config, denoiser), encoding="utf-8")


def add_evaluation(folder: Path, text: str) -> None:
    """Write an evaluation into a model's card, in place of an earlier one; all else in the card stays as it is.

    Two HTML comments mark it. It stands where the earlier one was, or else before the credits, or at the end. A folder
    without a card gets one.

    Args:
        folder: the model folder.
        text: Markdown without a heading, such as ``evaluation.report.markdown`` makes.

    Raises:
        CaptionlessError: there is no such folder, or its card cannot be read or written.
    """
    if not folder.is_dir():
        raise CaptionlessError(f"there is no model folder {folder}. Name the folder that `captionless train` wrote.")
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
    """Return the card with the section in place of an earlier one, or else before the credits or at the end."""
    before, begin, rest = card.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if begin and end:
        return before + section + after
    if at := re.search(r"^## Credits\s*$", card, re.MULTILINE):
        return f"{card[: at.start()]}{section}\n\n{card[at.start() :]}"
    return f"{card.rstrip()}\n\n{section}\n"


def _front_matter(config: ModelConfig) -> str:
    """Return the metadata that model hubs read, as YAML between two lines of dashes."""
    values: dict[str, object] = {
        "library_name": "captionless",
        "pipeline_tag": "text-to-image",
        "license": "other",
        "tags": ["captionless", "diffusion", "class-conditional" if config.classes else "text-to-image"],
    }
    if begun := config.training.initialised_from:
        values["base_model"] = Path(begun).name  # a path would tell of the machine
    # JSON values are valid YAML, whatever characters a name has.
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]
    return "\n".join(["---", *lines, "---", "", ""])


def _body(folder: Path, config: ModelConfig, denoiser: Denoiser) -> str:
    if config.classes:
        kind = "A class-conditional image model trained with captionless: it generates images of the class you name."
        limit = "The names of its classes are the only words it accepts."
    else:
        kind = "A text-to-image model trained with captionless from images alone, without captions."
        limit = "It follows words only as far as its encoder distinguishes them."
    name = BUNDLED if folder.resolve() == model_folder(BUNDLED).resolve() else str(folder)
    facts = model_facts(config, denoiser)
    if base := config.base_size:
        facts["Super-resolution"] = f"of images of {base} x {base} pixels from the base model in [{BASE}]({BASE})"
    lines = "\n".join(f"- **{label}**: {value}" for label, value in facts.items())
    return (
        f"# {folder.name}\n\n{kind}\n\n{lines}\n\n"
        f"    captionless generate --model {name} {example_request(config)}\n\n"
        f"It generates what its training images show and little else.\n{limit}\n\n"
        f"## Credits\n\n{_credits(folder, config)}\n"
    )


def _credits(folder: Path, config: ModelConfig) -> str:
    """Return where the authors of the training images are listed."""
    credit = (
        f"The authors and sources of the training images are listed in [{CREDITS}]({CREDITS})."
        if (folder / CREDITS).exists()
        else "The image folder held no CREDITS.csv. If its images require credit, name their authors here."
    )
    if (folder / INHERITED_CREDITS).exists():
        credit += f"\nThose of the model it was initialised from: [{INHERITED_CREDITS}]({INHERITED_CREDITS})."
    if config.base_size and (base_folder(folder) / CREDITS).exists():
        base = f"{base_folder(folder).name}/{CREDITS}"
        credit += f"\nThose of the base model: [{base}]({base})."
    return credit


def example_request(config: ModelConfig) -> str:
    """Return example arguments of ``captionless generate`` for a model."""
    return f"--class {shlex.quote(config.classes[0])}" if config.classes else '"your prompt"'


def _inherit_credits(folder: Path, config: ModelConfig) -> None:
    """Copy the credits of the model that this one was initialised from."""
    begun = config.training.initialised_from
    if not begun:
        return
    parent = model_folder(begun)
    if config.base_size is None and base_folder(parent).is_dir():
        parent = base_folder(parent)  # the weights came from there: see ``captionless.training.start``
    if (parent / CREDITS).is_file() and not (folder / INHERITED_CREDITS).exists():
        with atomic_write(folder / INHERITED_CREDITS) as path:
            path.write_bytes((parent / CREDITS).read_bytes())


def _find_credits(images: Path) -> Path | None:
    """Return the credits in the image folder, or one above (where a data set keeps them next to its splits)."""
    return next((path for path in (images / CREDITS, images.parent / CREDITS) if path.is_file()), None)


def _own_credits(path: Path, names: set[str]) -> str:
    """Return the lines of a credits table that concern the training images (the whole table if none does)."""
    header, *lines = path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    files = [next(csv.reader([line]), [""])[0] for line in lines]
    # A table one folder up names "train/daisy/1.jpg" where the folder itself says "daisy/1.jpg".
    own = [line for line, file in zip(lines, files, strict=True) if {file, file.partition("/")[2]} & names]
    return "\n".join([header, *(own or lines)]) + "\n"
