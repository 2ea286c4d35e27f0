"""Write the card of an exported model: what the Hub reads, example images, and the text of the model's own card."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionless.checkpoints.card import CARD, CREDITS, INHERITED_CREDITS
from captionless.checkpoints.config import BASE, ModelConfig, base_folder, model_folder
from captionless.checkpoints.hub import is_downloaded
from captionless.checkpoints.image_list import TRAIN, read_image_list
from captionless.conditioning.subject import folder_words
from captionless.config.export import ExportRequest
from captionless.encoders.hub import quiet_hub
from captionless.errors import CaptionlessError
from captionless.exports.names import folder_names, without_paths
from captionless.exports.push import TAG
from captionless.files import atomic_write
from captionless.generation.generator import Generator
from captionless.generation.prompts import label_prompt
from captionless.links import is_publishable
from captionless.progress import Progress
from captionless.text_files import read_json, read_text, write_text

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCard

EXAMPLES = "examples"
"""The sub-folder of the example images."""
MOST = 6
"""Number of example images, if no prompts are given."""
_COMMAND = re.compile(r"^    captionless generate .*$", re.MULTILINE)
_TITLE = re.compile(r"^# .*$", re.MULTILINE)
_TASK = "text-to-image"


def write_card(
    generator: Generator,
    request: ExportRequest,
    folder: Path,
    use: str,
    progress: Progress,
    library: str = "captionless",
) -> None:
    """Write ``README.md``, the example images that the Hub shows with it, and the credits.

    The text is that of the model's own card, with changes by hand and its evaluation. Its front matter is completed.

    Args:
        generator: the loaded model.
        request: the options of the export.
        folder: the folder to write into.
        use: Markdown that says how to use the export; it takes the place of the command in the model's card.
        progress: receives progress and remarks.
        library: the ``library_name`` by which the Hub knows how to load the files.
    """
    config, place = generator.model.config, model_folder(request.model)
    card = _read(place / CARD, place.resolve().name)
    begun = config.training.initialised_from
    data: Any = card.data
    data.library_name, data.pipeline_tag = library, _TASK
    data.license = request.license or data.license or "other"
    data.tags = list(dict.fromkeys([*(data.tags or ()), TAG]))
    data.base_model = begun.partition("@")[0] if begun and is_downloaded(begun) else None
    if request.report is not None:
        data.model_name = Path(request.push or request.out or place).name
        data.eval_results = _figures(request.report, request.model)
    data["widget"] = _examples(generator, request.prompts or _prompts(generator), folder / EXAMPLES, progress)
    text = public_text(card.text.strip(), config, use)
    card.text = "\n" + _TITLE.sub(lambda title: f"{title.group()}\n\n<Gallery />", text, count=1) + "\n"
    write_text(folder / CARD, str(card))
    for source, target in ((place, folder), (base_folder(place), folder / BASE)):
        for name in (CREDITS, INHERITED_CREDITS):
            if not (target / name).exists() and is_publishable(source / name):
                with atomic_write(target / name) as path:
                    shutil.copyfile(source / name, path)


def public_text(text: str, config: ModelConfig, use: str) -> str:
    """Return the text of a card with ``use`` instead of its command, and names instead of paths."""
    text, found = _COMMAND.subn(lambda _: use, text, count=1)
    return without_paths(text if found else f"{text}\n\n{use}", folder_names(config))


def _read(path: Path, name: str) -> ModelCard:
    """Read a model card; one that is missing has only a title."""
    from huggingface_hub import ModelCard
    from yaml import YAMLError  # type: ignore[import-untyped]

    try:
        text = read_text(path, "replace") if is_publishable(path) else f"# {name}\n"
        _check_fields(text)
        with quiet_hub():
            card = ModelCard(text, ignore_metadata_errors=True)
            str(card)  # fails for values that the Hub's library reads but cannot write
        return card
    except (OSError, ValueError, TypeError, AttributeError, YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CaptionlessError(
            f"the front matter of {path} cannot be read ({reason}). Correct what is between its two lines of ---."
        ) from error


def _check_fields(text: str) -> None:
    """Raise a ValueError for fields that are not what the Hub's library takes them for without a check."""
    import yaml
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    found = REGEX_YAML_BLOCK.search(text)
    fields = yaml.safe_load(found[2]) if found else None
    if not isinstance(fields, dict):
        return
    tags = fields.get("tags") or []
    if not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
        raise ValueError("`tags` must be a list of words")
    if fields.get("eval_results") is not None:
        raise ValueError("`eval_results` is no field of a card; figures are in `model-index`")
    if others := [name for name in fields if not isinstance(name, str)]:
        raise ValueError(f"the field {others[0]} must have a word as its name")


def _prompts(generator: Generator) -> list[str]:
    """Return prompts for example images: the classes, or what the sub-folders of the training images are called."""
    if generator.classes:
        return list(generator.classes[:MOST])
    listed = read_image_list(model_folder(generator.model.name))
    words = folder_words([name for name, _, role in listed if role == TRAIN])
    return [label_prompt(word).text for word in words if len(word) > 1][:MOST]


def _examples(
    generator: Generator, prompts: Sequence[str], folder: Path, progress: Progress
) -> list[dict[str, Any]] | None:
    """Write an example image of each prompt, and return the entries of the card that show them."""
    if not prompts:
        progress.say("The card has no example images. Say what they should show with `prompts`.")
        return None
    folder.mkdir()
    entries = []
    for i, image in enumerate(generator.stream(prompts, progress=progress), start=1):
        image.image.save(folder / f"{i}.png")  # without metadata, which would say where the model was
        entries.append({"text": image.prompt, "output": {"url": f"{EXAMPLES}/{i}.png"}})
    return entries


def _figures(report: Path, model: str) -> list[EvalResult]:
    """Return the figures of a model in a report of `captionless evaluate`."""
    from huggingface_hub import EvalResult

    path = report / "report.json" if report.is_dir() else report
    try:
        content = read_json(path)
        models = {one["name"]: one["figures"] for one in content["models"]}
        figures = models[model] if len(models) > 1 else next(iter(models.values()))
        about: dict[str, Any] = {
            "task_type": _TASK,
            "task_name": "Text-to-Image",
            "dataset_type": "imagefolder",
            "dataset_name": Path(content["data"]).name,
        }
        return [
            EvalResult(metric_type=key, metric_name=one["label"], metric_value=one["value"]["value"], **about)
            for key, one in figures.items()
        ]
    except (OSError, ValueError, LookupError, TypeError, StopIteration, AttributeError) as error:
        raise CaptionlessError(
            f"{path} is no report of `captionless evaluate` about {model}. Pass the folder that it wrote.",
            parameter="report",
            value=report,
        ) from error
