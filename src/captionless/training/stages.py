"""Plan the stages of a training run: a base model and, for a cascade, the super-resolution stage on top of it.

A cascade is trained base model first, in the sub-folder ``base`` of the model folder. Each stage is a run of its own
with its own share of the length, so an interrupted cascade resumes in the stage where it stopped, and a longer one
extends both stages. The base model records in its ``config.json`` what the second stage needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic cannot use that of typing before Python 3.12

from captionless.checkpoints.config import BASE, CONFIG, ModelConfig, base_folder, load_config
from captionless.checkpoints.model import STATE
from captionless.config.length import DEFAULT_MINUTES
from captionless.config.train_request import TrainRequest
from captionless.config.training import LIMITS, TrainConfig, continued
from captionless.data.folder import find_images, relative_name
from captionless.data.labels import FOLDERS, find_labels
from captionless.data.summary import FolderFacts, sample_facts
from captionless.encoders.choice import AUTO
from captionless.encoders.hub import find_encoder_folder
from captionless.errors import CaptionlessError
from captionless.progress import PartProgress, Progress
from captionless.training.expectation import STAGE_ENOUGH, stage_warning, unguarded
from captionless.training.plan import SHAPE, Outlook, extended, plan_run, stage_images
from captionless.training.rehearsal import Rehearse
from captionless.training.resolve import TrainPlan, resolve
from captionless.training.start import check_own, model_exists

BASE_SHARE = 0.65
"""Share of the length of a new cascade that its base model gets, which decides what the images show."""
KNOWN_BASE_SHARE = 0.75
"""The same for a cascade that starts from another one, whose second stage already knows how to add detail."""
CASCADE_IMAGES = 200_000
"""Images that the base model of a new cascade should see at least; with less time there is a single model."""
OF_THE_BASE = SHAPE | {
    "tokens",
    "prediction",
    "schedule",
    "schedule_steps",
    "zero_terminal_snr",
    "weighting",
    "early_stopping",
}
"""Settings that only the base model of a cascade is given; the super-resolution stage has its own."""


class _Record(TypedDict):
    """What the base model of a cascade records of it."""

    sizes: tuple[int, int]
    share: float
    second_stage: dict[str, Any]


@dataclass(frozen=True)
class StageRequest:
    """One stage of a training run.

    Args:
        request: the request of the stage.
        given: its settings.
        span: the shares of the whole run that are done before and after it.
        record: what ``config.json`` is to keep of the plan.
    """

    request: TrainRequest
    given: dict[str, Any]
    span: tuple[float, float] = (0.0, 1.0)
    record: dict[str, Any] = field(default_factory=dict)

    def progress(self, whole: Progress) -> Progress:
        """Return a ``Progress`` that reports this stage as a part of the whole training."""
        return PartProgress(whole, *self.span)

    def finished(self) -> bool:
        """Return whether the stage is resumed and has already been trained for its length."""
        if not (self.request.resume and (self.request.out / CONFIG).exists()):
            return False
        record = load_config(self.request.out).training
        TrainConfig.from_record(record.settings)  # raises if they are damaged
        length = continued(record.settings, self.given)
        seen = {"minutes": record.minutes, "images": record.images_seen}
        return any(length[name] is not None and seen[name] >= round(length[name], 2) for name in LIMITS)


def plan_stages(
    request: TrainRequest, given: dict[str, Any], rehearse: Rehearse, say: Callable[[str], None]
) -> list[StageRequest]:
    """Return the stages of a run, the first of them complete, and say what to expect.

    Raises:
        CaptionlessError: the request contradicts itself or the model that it continues.
    """
    check_own(request.out)  # of a cascade, the first stage is trained in a sub-folder
    stages, look = split(request, given), cache(lambda: look_at(request.folder))
    first, outlook = _completed(stages[0], rehearse, look)
    if outlook is None:
        first = _with_length(first, _told_second(stages))
        say(f"Plan of this run: {first.record.get('text', 'as recorded in config.json')}")
        return [first, *stages[1:]]
    if len(stages) == 1 and (base_size := _affordable_base(request, given, outlook, look)):
        stages = _cascade(request, given, (base_size, 2 * base_size), BASE_SHARE)
        first, outlook = _completed(stages[0], rehearse, look)
    text = outlook.describe() + _told_second(stages, outlook) if outlook else ""
    say(f"Plan: {text} Reading the images and drawing sample grids come on top.")
    return [replace(first, record=first.record | {"text": text}), *stages[1:]]


def _told_second(stages: list[StageRequest], outlook: Outlook | None = None) -> str:
    """Return what the plan says of the second stage, if there is one; with the outlook of the first, also a warning if
    a stage that starts from random weights would see too few images.
    """
    if len(stages) == 1:
        return ""
    base, given = stages[0].given, stages[1].given
    told = " and ".join(f"{given[name]:,.4g} {name}" for name in LIMITS if given.get(name))
    text = f" Then, for {told}, a super-resolution stage to {given['size']} pixels."
    if outlook and stages[1].request.start_from is None:
        whole = {name: base[name] + given[name] for name in LIMITS if given.get(name)}
        text += stage_warning(stage_images(outlook, given), whole, base["size"])
    return text


def _with_length(stage: StageRequest, more: str) -> StageRequest:
    """Return a resumed stage with what is to be expected of the length that it is given, if it is given one."""
    config = load_config(stage.request.out)
    outlook = extended(config, stage.given) if any(stage.given.get(name) for name in LIMITS) else None
    if outlook is None:
        return stage
    alone = config.base_size is None
    text = outlook.describe() + more + (unguarded(outlook.images, config.training) if alone else "")
    return replace(stage, record=stage.record | {"expected_images": outlook.images, "text": text})


def complete(stage: StageRequest, rehearse: Rehearse) -> StageRequest:
    """Return a later stage with its plan made, unless it is resumed."""
    return _completed(stage, rehearse, lambda: look_at(stage.request.folder))[0]


def look_at(folder: str | Path) -> tuple[int, FolderFacts]:
    """Return the number of files in a folder, and what its images are like."""
    return len(find_images(folder)), sample_facts(folder)


def _completed(
    stage: StageRequest, rehearse: Rehearse, look: Callable[[], tuple[int, FolderFacts]]
) -> tuple[StageRequest, Outlook | None]:
    """Return the stage with all its settings, and its outlook; None if the stage is resumed."""
    checked = resolve(stage.request, stage.given, lambda _: None)
    start = checked.start
    if start.resumed:
        recorded = start.config.training.plan if start.config else {}
        return replace(stage, record=recorded | stage.record), None
    _check_conditions(checked)
    files, facts = look()
    outlook = plan_run(start, stage.given, files, rehearse, by_class=checked.by_class, facts=facts)
    measured = {"images_per_second": outlook.per_second, "threads": outlook.threads}
    record = stage.record | {"expected_images": outlook.images} | measured
    return replace(stage, given=outlook.given, record=record), outlook


def _check_conditions(plan: TrainPlan) -> None:
    """Raise if the labels or the encoder are missing, which should not take a rehearsal to find out."""
    folder, encoder = plan.request.folder, plan.request.encoder
    if plan.label_source is not None:
        find_labels(folder, [relative_name(file, folder) for file in find_images(folder)], plan.label_source)
    elif encoder not in (None, AUTO) and not plan.request.plan:  # may download it
        find_encoder_folder(str(encoder))


def _affordable_base(
    request: TrainRequest, given: dict[str, Any], outlook: Outlook, look: Callable[[], tuple[int, FolderFacts]]
) -> int | None:
    """Return the size of a base model if the time allows for a cascade that nothing speaks against, else None."""
    if not outlook.fresh or request.base_size or request.autoencoder or SHAPE & given.keys():
        return None
    size = given.get("size")
    base_size = outlook.given["size"] if size is None else size // 2
    if size is None and 2 * base_size > look()[1].shorter_side:
        return None  # the images have no detail for a second stage
    later = {"size": 2 * base_size, **_divided(request, given, BASE_SHARE)[1]}
    enough = BASE_SHARE * outlook.images >= CASCADE_IMAGES and stage_images(outlook, later) >= STAGE_ENOUGH
    return base_size if enough and base_size >= 32 and size in (None, 2 * base_size) else None


def split(request: TrainRequest, given: dict[str, Any]) -> list[StageRequest]:
    """Return the stages of a run: two for a cascade that is asked for, resumed or started from, else one.

    Raises:
        CaptionlessError: ``base_size`` does not fit the request, or the cascade exists and is not to be resumed.
    """
    size, base_size, out = given.get("size"), request.base_size, request.out
    recorded = _recorded(out)
    if recorded and not request.resume:
        raise model_exists(out)
    if recorded:
        base_size, size = recorded["sizes"]
        first, second = _cascade(request, given, (base_size, size), recorded["share"])
        kept = continued(recorded["second_stage"], second.given)  # the next resume needs them again
        first = replace(first, record=first.record | {"second_stage": kept})
        return [first, _resumed(second, kept, load_config(base_folder(out)))]
    alone = request.enlarge is not None or (out / CONFIG).exists()
    if alone and base_size:
        raise CaptionlessError(
            f"`base_size={base_size}` needs a new training of both stages. Leave it out when you resume a run or give "
            "a base model with `enlarge`.",
            parameter="base_size",
            value=base_size,
            code="conflicting_settings",
        )
    known = load_config(request.start_from) if request.start_from is not None and not alone else None
    if known and known.base_size and size in (None, known.size) and base_size in (None, known.base_size):
        return _cascade(request, given, (known.base_size, known.size), KNOWN_BASE_SHARE)
    if base_size and base_size != size:
        return _cascade(request, given, (base_size, size or 2 * base_size), BASE_SHARE)
    return [StageRequest(request, given)]


def _cascade(request: TrainRequest, given: dict[str, Any], sizes: tuple[int, int], share: float) -> list[StageRequest]:
    """Return the two stages of a cascade from ``sizes[0]`` to ``sizes[1]`` pixels, with the length divided."""
    out, lengths = request.out, _divided(request, given, share)
    own = {name: value for name, value in given.items() if name not in OF_THE_BASE} | {"size": sizes[1]} | lengths[1]
    start = request.start_from
    if start is not None and load_config(start).base_size is None:
        start = None  # the initial model has no second stage
    base = _changed(request, out=out / BASE, base_size=None)
    upper = _changed(request, base_size=None, start_from=start, enlarge=None if (out / CONFIG).exists() else out / BASE)
    record = {"sizes": list(sizes), "share": share, "second_stage": own}
    return [
        StageRequest(base, given | {"size": sizes[0]} | lengths[0], (0.0, share), record),
        StageRequest(upper, own, (share, 1.0)),
    ]


def _divided(request: TrainRequest, given: dict[str, Any], share: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the lengths of the two stages; those of a resumed run change only if a length is given."""
    first: dict[str, Any] = {}
    second: dict[str, Any] = {}
    total = {name: given[name] for name in LIMITS if given.get(name) is not None}
    if not total and not _recorded(request.out):
        total = {"minutes": DEFAULT_MINUTES}
    if "minutes" in total:
        first["minutes"], second["minutes"] = share * total["minutes"], (1 - share) * total["minutes"]
    if "images" in total:
        first["images"] = max(1, round(share * total["images"]))
        second["images"] = max(1, total["images"] - first["images"])
    return first, second


def _resumed(stage: StageRequest, kept: dict[str, Any], base: ModelConfig) -> StageRequest:
    """Return the second stage of a resumed cascade; if it has not begun, with the settings that the first one kept."""
    request = stage.request
    if request.enlarge is None:
        return stage
    changes: dict[str, Any] = {}
    if base.classes and not (request.classes or request.labels):
        source = base.training.labels or FOLDERS
        changes = {"classes": True} if source == FOLDERS else {"labels": Path(source)}
    start = base.training.initialised_from
    if request.start_from is None and start is not None and load_config(start).base_size:
        changes["start_from"] = start
    return replace(stage, request=_changed(request, **changes), given=kept)


def _recorded(out: Path) -> dict[str, Any]:
    """Return what the base model in ``out`` recorded of its cascade; empty if it was not trained as part of one."""
    base = out / BASE
    if not (base / CONFIG).is_file() or not (base / STATE).is_file():
        return {}
    plan = load_config(base).training.plan
    if "second_stage" not in plan:
        return {}
    try:
        return dict(TypeAdapter(_Record).validate_python(plan))
    except ValidationError as error:
        raise CaptionlessError(
            f"{base / CONFIG} is damaged: what it records of the second stage is invalid. Restore the original file.",
            code="damaged_model",
        ) from error


def _changed(request: TrainRequest, **changes: Any) -> TrainRequest:
    return TrainRequest(**(request.given() | changes))
