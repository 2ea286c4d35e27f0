"""Write the model card, the ``README.md`` of a model folder."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from captionless.checkpoints.config import BASE, BUNDLED, ModelConfig, base_folder, load_config, model_folder
from captionless.checkpoints.image_list import TRAIN, read_image_list
from captionless.checkpoints.summary import model_facts
from captionless.data.csv_rows import guarded, unguarded
from captionless.data.folder import match_names
from captionless.errors import CaptionlessError
from captionless.files import atomic_write, remark_once, require_file
from captionless.links import is_publishable
from captionless.models.unet import Denoiser, weight_count
from captionless.paths import quoted
from captionless.text_files import read_text, write_text

CREDITS = "CREDITS.csv"
INHERITED_CREDITS = "CREDITS-begun-from.csv"
"""Image credits of the model that this model was initialised from; they apply to this model too."""
CARD = "README.md"
_BEGIN, _END = "<!-- evaluation: begin -->", "<!-- evaluation: end -->"


def write_model_card(folder: Path, config: ModelConfig, denoiser: Denoiser, images_folder: str | Path) -> None:
    """Write ``README.md``, and copy the credits of the training images into ``CREDITS.csv`` if there are any."""
    names = {name for name, _, role in read_image_list(folder) if role == TRAIN}
    _write_credits(folder / CREDITS, images_folder, partial(_own_credits, Path(images_folder), names))
    begun = config.training.initialised_from
    if begun and not (folder / INHERITED_CREDITS).exists():
        _write_credits(folder / INHERITED_CREDITS, begun, partial(_inherited_credits, begun, config))
    # This also removes an earlier evaluation from the card, because it applied to the previous weights.
    text = _front_matter(config) + _body(folder, config, denoiser)
    write_text(folder / CARD, text, "replace")  # paths may hold any bytes


def add_evaluation(folder: Path, text: str) -> None:
    """Insert an evaluation into a model card or replace an earlier evaluation; the rest of the card is unchanged.

    The evaluation is enclosed in two HTML comments. A new one is inserted before the credits, or at the end if there
    are no credits. A folder without a card gets one.

    Args:
        folder: the model folder.
        text: Markdown without a heading, as returned by ``evaluation.report.markdown.evaluation_markdown``.

    Raises:
        CaptionlessError: the folder does not exist, or its card cannot be read or written.
    """
    if not folder.is_dir():
        raise CaptionlessError(f"there is no model folder {folder}. Pass a folder written by `captionless train`.")
    path = require_file(folder / CARD)
    try:
        # Invalid UTF-8 and line endings in manual edits are preserved.
        card = path.read_bytes().decode(errors="surrogateescape") if path.exists() else f"# {folder.resolve().name}\n"
    except OSError as error:
        raise CaptionlessError(
            f"cannot read {path}: {error.strerror or error}. Make it readable, or move it away and evaluate again."
        ) from error
    section = f"{_BEGIN}\n## Evaluation\n\n{text.replace('<!--', '&lt;!--').strip()}\n{_END}"
    with atomic_write(path) as temporary:
        temporary.write_bytes(_with_evaluation(card, section).encode(errors="surrogateescape"))


def _with_evaluation(card: str, section: str) -> str:
    """Return the card with its evaluation replaced, or else inserted before the credits or at the end."""
    before, begin, rest = card.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if begin and end:
        return before + section + after
    if at := re.search(r"^## Credits\s*$", card, re.MULTILINE):
        return f"{card[: at.start()]}{section}\n\n{card[at.start() :]}"
    return f"{card.rstrip()}\n\n{section}\n"


def _front_matter(config: ModelConfig) -> str:
    """Return the metadata for model hubs, as YAML front matter."""
    values: dict[str, object] = {
        "library_name": "captionless",
        "pipeline_tag": "text-to-image",
        "license": "other",
        "tags": ["captionless", "diffusion", "class-conditional" if config.classes else "text-to-image"],
    }
    if begun := config.training.initialised_from:
        values["base_model"] = Path(begun).name  # not the full path, which is private
    # JSON is valid YAML, so special characters in names need no further escaping.
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]
    return "\n".join(["---", *lines, "---", "", ""])


def _body(folder: Path, config: ModelConfig, denoiser: Denoiser) -> str:
    if config.classes:
        kind = "A class-conditional image model trained with captionless: it generates images of the class you name."
        limit = "The names of its classes are the only words it accepts."
    else:
        kind = "A text-to-image model trained with captionless from images alone, without captions."
        limit = "It follows words only as far as its encoder distinguishes them."
    name = BUNDLED if folder.resolve() == model_folder(BUNDLED).resolve() else folder
    facts = model_facts(config, denoiser)
    if base := config.base_size:
        weights = f"{weight_count(load_config(base_folder(folder)).denoiser) / 1e6:.1f} million weights"
        where = f"the base model in [{BASE}]({BASE}), which has {weights} of its own"
        facts["Super-resolution"] = f"upsamples the {base} x {base} pixel images of {where}"
    lines = "\n".join(f"- **{label}**: {value}" for label, value in facts.items())
    return (
        f"# {folder.name}\n\n{kind}\n\n{lines}\n\n"
        f"    captionless generate --model {quoted(name)} {example_request(config)}\n\n"
        f"It generates what its training images show and little else.\n{limit}\n\n"
        f"## Credits\n\n{_credits(folder, config)}\n"
    )


def _credits(folder: Path, config: ModelConfig) -> str:
    """Return the text of the card's credits section."""
    credit = (
        f"The authors and sources of the training images are listed in [{CREDITS}]({CREDITS})."
        if (folder / CREDITS).exists()
        else "The image folder had no CREDITS.csv. If its images require attribution, name their authors here."
    )
    if (folder / INHERITED_CREDITS).exists():
        credit += f"\nCredits of the model that it was initialised from: [{INHERITED_CREDITS}]({INHERITED_CREDITS})."
    if config.base_size and (base_folder(folder) / CREDITS).exists():
        base = f"{base_folder(folder).name}/{CREDITS}"
        credit += f"\nCredits of the base model: [{base}]({base})."
    return credit


def example_request(config: ModelConfig) -> str:
    """Return example arguments of ``captionless generate`` for a model."""
    return f"--class {quoted(config.classes[0])}" if config.classes else '"your prompt"'


def _write_credits(path: Path, source: str | Path, read: Callable[[], str]) -> None:
    """Write the credits that a function returns, if there are any; that they cannot be read costs no checkpoint."""
    try:
        text = read()
    except (OSError, ValueError, csv.Error, CaptionlessError) as error:
        why = f"the {CREDITS} of {source} cannot be read ({error})"
        remark_once(path.name, f"{why}, so the model folder has no {path.name}.")
        return
    if text:
        write_text(path, text)


def _inherited_credits(begun: str, config: ModelConfig) -> str:
    """Return the credits of the model ``begun`` that a model was initialised from."""
    parent = model_folder(begun)
    if config.base_size is None and base_folder(parent).is_dir():
        parent = base_folder(parent)  # the source of the weights: see ``captionless.training.start``
    return read_text(parent / CREDITS, "replace") if is_publishable(parent / CREDITS) else ""


def _find_credits(images: Path) -> Path | None:
    """Return the credits file in the image folder or its parent (where a data set keeps it next to the splits).

    A link is not followed, because a model folder gets published, and the link may lead to anything.
    """
    found = [path for path in (images / CREDITS, images.parent / CREDITS) if path.is_file()]
    for path in found:
        if path.is_symlink():
            remark_once("credits", f"{path} is a link, and not copied into the model folder. Replace it by the file.")
    return next((path for path in found if not path.is_symlink()), None)


def _own_credits(images: Path, names: set[str]) -> str:
    """Return the rows of the credits for the training images, or the whole table if no row matches."""
    if (path := _find_credits(images)) is None:
        return ""
    usual = csv.field_size_limit(2**31 - 1)  # a field may be of any length, as it is only copied
    try:
        table = csv.reader(io.StringIO(read_text(path, "replace"), newline=""))
        header, *rows = [[unguarded(cell) for cell in row] for row in table] or [[""]]
    finally:
        csv.field_size_limit(usual)
    # A table in the parent folder lists the image "daisy/1.jpg" as "train/daisy/1.jpg".
    matched = set(match_names(names, dict.fromkeys(row[0] for row in rows if row), images).values())
    own = [row for row in rows if row and row[0] in matched]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([guarded(cell) for cell in row] for row in [header, *(own or rows)])
    return text.getvalue()
