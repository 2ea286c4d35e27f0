"""The verb ``evaluate``: how good models are, measured on a folder of pictures."""

from __future__ import annotations

import platform
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from captionless._version import __version__
from captionless.checkpoints.card import add_evaluation
from captionless.checkpoints.config import BUNDLED, load_config, model_folder
from captionless.config.sampling import SamplingConfig
from captionless.device import resolve_precision
from captionless.encoders.dual_encoder import Encoder
from captionless.errors import CaptionlessError
from captionless.evaluation import SAMPLES
from captionless.evaluation.data import EvaluationData, Images, Listener, Silent, gather
from captionless.evaluation.one_model import Plan, examine
from captionless.evaluation.report.html import card_lines, write
from captionless.evaluation.report.results import ModelEvaluation, Report
from captionless.generation.generator import MAX_SEED, Generator, load
from captionless.generation.prompts import read_prompts

ENOUGH = 50
"""Held-out pictures that several models must have in common to be measured on those alone."""


def evaluate(
    models: Sequence[str | Path] | str | Path = BUNDLED,
    *,
    data: str | Path,
    out: str | Path,
    prompts: str | Path | None = None,
    labels: str | Path | None = None,
    samples: int = SAMPLES,
    features: str | None = None,
    encoder: str | None = None,
    sampling: SamplingConfig | None = None,
    seed: int = 0,
    listener: Listener | None = None,
) -> Report:
    """Measure models on a folder of pictures, and write a report with ``index.html`` and ``report.json`` into ``out``.

    Pictures that a model was not trained on (its folder records their content hashes) are held out; with several
    models, those that none of them has seen.

    Args:
        models: one model or several, to stand side by side.
        data: a folder of pictures: the one trained on, another one, or one that holds both.
        out: the folder to write.
        prompts: a file of prompts, see ``captionless.generation.prompts.read_prompts``; without it, the names of
        sub-folders. labels: a CSV with the columns ``file`` and ``label``, in place of the sub-folders.
        samples: pictures painted from held-out pictures' vectors, at most.
        features: what pictures are compared by: a hub id or folder of a transformers image model; None: the model's own
            encoder (of a model of classes, the bundled one).
        encoder: where the models' own encoder lies now, if it has moved.
        sampling: how pictures are drawn.
        seed: of noise and choices.
        listener: whom to tell.

    Returns:
        What was found.

    Raises:
        CaptionlessError: bad input, or nothing at all could be measured.
    """
    names = [models] if isinstance(models, str | Path) else list(models)
    check_request(names, samples, seed, Path(out))
    asked = () if prompts is None else tuple(read_prompts(Path(prompts)))
    listener = listener or Silent()
    plan = Plan(asked, str(prompts), samples, features, sampling or SamplingConfig(), seed, listener)
    generators = [load(name, None if load_config(name).classes else encoder) for name in names]
    share_encoders(generators)
    read: dict[object, Images] = {}
    evidence = [gather(data, generator, listener, labels, read) for generator in generators]
    evidence, remarks = alike(evidence)
    remarks += differences(generators, features)
    found = [examine(generator, pictures, plan) for generator, pictures in zip(generators, evidence, strict=True)]
    if not any(examination.figures for examination in found):
        whys = [why.rstrip(".") for one in found for part in one.sections for _, why in part.missing]
        reasons = "; ".join(dict.fromkeys(whys))
        raise CaptionlessError(f"nothing could be measured: {reasons}. Give a folder with more pictures.")
    found = [replace(one, warnings=(*one.warnings, *remarks)) for one in found]
    given = {"data": data, "out": out, "prompts": prompts, "labels": labels, "features": features, "encoder": encoder}
    report = Report(str(data), _settings(plan, generators[0]), tuple(found), command(names, given, plan))
    write(Path(out), report)
    for examination in found:
        add_to_card(examination, report, listener)
    return report


def add_to_card(examination: ModelEvaluation, report: Report, listener: Listener) -> None:
    """Write the figures into the model's card, unless it is the installed one; where that fails, only say so."""
    if examination.model == BUNDLED:
        return
    try:
        add_evaluation(model_folder(examination.model), card_lines(examination, report))
    except CaptionlessError as error:
        listener.say(f"The figures were not added to the model card: {error}")


def share_encoders(generators: Sequence[Generator]) -> None:
    """Load an encoder that several models have in common only once."""
    loaded: dict[str, Encoder] = {}
    for generator in generators:
        if reference := generator.model.config.encoder:
            generator.encoder = loaded.setdefault(reference.digest, loaded.get(reference.digest) or generator.encoder)


def differences(generators: Sequence[Generator], features: str | None) -> tuple[str, ...]:
    """Return what a reader must know before comparing the figures of several models."""
    configs = [generator.model.config for generator in generators]
    found = []
    if len({config.encoder and config.encoder.digest for config in configs}) > 1 and features is None:
        found.append(
            "These models were each measured with their own encoder, and those differ: figures of likeness and words "
            "cannot be compared. Name one for all with --features."
        )
    if len({(config.size, config.denoiser.channels) for config in configs}) > 1:
        found.append("These models paint in different sizes or colours: the smaller has the easier task.")
    return tuple(found)


def command(models: Sequence[str | Path], given: Mapping[str, str | Path | None], plan: Plan) -> str:
    """Return the command line that does the same."""
    words = ["captionless", "evaluate", *map(str, models)]
    for name, place in given.items():
        words += [] if place is None else [f"--{name}", str(place)]
    chosen: dict[str, object] = {"samples": plan.samples, "seed": plan.seed}
    usual: dict[str, object] = {"samples": SAMPLES, "seed": 0}
    for name in ("guidance", "steps", "sampler", "precision", "batch"):
        chosen[name], usual[name] = getattr(plan.sampling, name), getattr(SamplingConfig(), name)
    for name, value in chosen.items():
        words += [] if value == usual[name] else [f"--{name}", str(value)]
    return shlex.join(words)


def check_request(names: Sequence[str | Path], samples: int, seed: int, out: Path) -> None:
    """Refuse what no evaluation can be done with, before any work.

    Raises:
        CaptionlessError: no model or the same twice, too few samples, an impossible seed, or a place that cannot be
            written.
    """
    if len({str(name) for name in names}) < max(1, len(names)):
        raise CaptionlessError("name each model once, and at least one.")
    if samples < 1:
        raise CaptionlessError(f"--samples must be at least 1, not {samples}. Try {SAMPLES}.")
    check_seed(seed)
    check_out(out)


def check_seed(seed: int) -> None:
    """Raise unless ``seed`` is one that pictures can be drawn from."""
    if not 0 <= seed <= MAX_SEED:
        raise CaptionlessError(f"--seed must be a whole number from 0 to {MAX_SEED}, not {seed}.")


def check_out(out: Path) -> None:
    """Make the folder that results go into, unless it is there; raise where it cannot be written."""
    if out.exists() and not out.is_dir():
        raise CaptionlessError(f"--out {out} is a file. Choose a folder.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise CaptionlessError(
            f"--out {out} cannot be written: {error.strerror or error}. Choose another folder."
        ) from error


def alike(evidence: Sequence[EvaluationData]) -> tuple[list[EvaluationData], tuple[str, ...]]:
    """Let several models be measured on the same held-out pictures: those that none of them was trained on.

    Returns:
        The evidence, and what to tell where there are too few of those.
    """
    common = set.intersection(*(set(one.held_out.digests) for one in evidence))
    if len(evidence) < 2 or all(common == set(one.held_out.digests) for one in evidence):
        return list(evidence), ()
    if len(common) < ENOUGH:
        return list(evidence), (
            f"Only {len(common)} pictures are unknown to all these models, so each was measured on its own held-out "
            "pictures: their figures of likeness are not of the same pictures.",
        )
    return [_only(one, common) for one in evidence], ()


def _only(evidence: EvaluationData, digests: set[str]) -> EvaluationData:
    kept = [i for i, digest in enumerate(evidence.held_out.digests) if digest in digests]
    return replace(evidence, held_out=evidence.held_out.take(kept))


def _settings(plan: Plan, generator: Generator) -> tuple[tuple[str, str], ...]:
    sampling = plan.sampling
    precision = resolve_precision(sampling.precision, generator.device)
    return (
        ("SamplingConfig", f"{sampling.sampler}, {sampling.steps} steps, guidance {sampling.guidance:g}, {precision}"),
        ("Seed", str(plan.seed)),
        ("Held-out pictures painted after", f"at most {plan.samples:,}"),
        ("Compared by", plan.features or "the model's own encoder"),
        ("captionless", f"{__version__}, torch {torch.__version__}, {platform.machine()}"),
    )
