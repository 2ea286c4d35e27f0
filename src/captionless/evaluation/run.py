"""Evaluate models on a folder of images, and write the report."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import torch

from captionless._version import __version__
from captionless.checkpoints.card import add_evaluation
from captionless.checkpoints.config import BUNDLED, load_config, model_folder
from captionless.checkpoints.hub import FETCHED
from captionless.config.evaluation import QUICK, QUICK_SAMPLING, EvaluationConfig
from captionless.config.keyword_types import EvaluateKeywords
from captionless.config.keywords import keywords
from captionless.config.sampling import SamplingConfig
from captionless.device import resolve_precision
from captionless.encoders.dual_encoder import Encoder
from captionless.errors import CaptionlessError
from captionless.evaluation.data import EvaluationData, ImageSet, load_evaluation_data
from captionless.evaluation.metrics import MINIMUM
from captionless.evaluation.one_model import EvaluationPlan, evaluate_model
from captionless.evaluation.report.markdown import evaluation_markdown
from captionless.evaluation.report.page import check_replaceable, write_report
from captionless.evaluation.report.results import ModelEvaluation, Report
from captionless.files import make_folder
from captionless.generation.generator import Generator, load
from captionless.generation.prompts import read_prompts
from captionless.paths import user_path
from captionless.progress import Progress, choose_progress


@keywords(EvaluationConfig, SamplingConfig)
def evaluate(
    models: Sequence[str | Path] | str | Path = BUNDLED,
    *,
    data: str | Path,
    out: str | Path,
    prompts: str | Path | None = None,
    labels: str | Path | None = None,
    features: str | None = None,
    encoder: Encoder | str | Path | None = None,
    sampling: SamplingConfig | None = None,
    config: EvaluationConfig | None = None,
    progress: Progress | bool | None = None,
    **settings: Unpack[EvaluateKeywords],
) -> Report:
    """Evaluate models on a folder of images, and write ``index.html`` and ``report.json`` into ``out``.

    Images that a model was not trained on count as held out; a model's folder records the content hashes of its
    training images. Several models are compared on the images that no model was trained on.

    Args:
        models: one model, or several models to compare side by side.
        data: a folder of images, which may contain training images, other images, or both.
        out: the output folder.
        prompts: a file of prompts, see ``captionless.generation.prompts.read_prompts``; by default prompts are made
            from the names of sub-folders.
        labels: a CSV with the columns ``file`` and ``label``, used instead of the sub-folders.
        features: the image model for comparing images, as the hub id or folder of a transformers model; by default the
            model's own encoder (for a class-conditional model, the bundled encoder).
        encoder: the models' own encoder or its location; only needed if the encoder has moved.
        sampling: the sampling settings.
        config: the evaluation settings, including the seed.
        progress: whether to show a progress bar (by default only in terminals and notebooks), or an object that
            receives messages and progress updates.
        **settings: fields of ``EvaluationConfig`` and ``SamplingConfig``, such as ``samples=100``; they override the
            fields of ``config`` and ``sampling``.

    Returns:
        The results of all models.

    Raises:
        CaptionlessError: the input is invalid, or nothing could be measured.
    """
    names = [models] if isinstance(models, str | Path) else list(models)
    if len({os.path.realpath(user_path(name)) for name in names}) < max(1, len(names)):
        raise CaptionlessError("`models` must name at least one model, and each only once.")
    for_sampling = {name: value for name, value in settings.items() if name in SamplingConfig.model_fields}
    sampling = (sampling or SamplingConfig()).replace(**for_sampling)
    config = (config or EvaluationConfig()).replace(**{k: v for k, v in settings.items() if k not in for_sampling})
    if config.quick:
        config = config.replace(**{**QUICK, **config.given()})
        sampling = sampling.replace(**{**QUICK_SAMPLING, **sampling.given()})
    out = user_path(out)
    make_folder(out)
    check_replaceable(out)
    texts = () if prompts is None else tuple(read_prompts(Path(prompts)))
    plan = EvaluationPlan(texts, str(prompts), features, sampling, config, choose_progress(progress))
    generators = [load(name, None if load_config(name).classes else encoder) for name in names]
    try:
        evaluated = _evaluate_all(generators, data, labels, plan)
    except KeyboardInterrupt:
        plan.progress.say("Stopped. The same command continues with the images that were sampled so far.")
        raise
    report = Report(str(data), _settings(plan, generators[0]), evaluated)
    write_report(out, report)
    for one in evaluated:
        _add_to_card(one, report, plan.progress)
    return report


def _evaluate_all(
    generators: Sequence[Generator], data: str | Path, labels: str | Path | None, plan: EvaluationPlan
) -> tuple[ModelEvaluation, ...]:
    """Evaluate each model, if possible on the same held-out images."""
    cache: dict[object, ImageSet] = {}
    sizes = [plan.sampling_for(generator).size or 0 for generator in generators]
    folders = [
        load_evaluation_data(data, generator, size, plan.progress, labels, cache)
        for generator, size in zip(generators, sizes, strict=True)
    ]
    folders, remarks = _keep_common(folders)
    remarks += differences(generators, sizes, plan.features)
    found = [evaluate_model(generator, folder, plan) for generator, folder in zip(generators, folders, strict=True)]
    if not any(one.figures for one in found):
        reasons = (why.rstrip(".") for one in found for section in one.sections for _, why in section.missing)
        raise CaptionlessError(
            f"nothing could be measured: {'; '.join(dict.fromkeys(reasons))}. Use a folder with more images."
        )
    return tuple(replace(one, warnings=(*one.warnings, *remarks)) for one in found)


def _keep_common(data: Sequence[EvaluationData]) -> tuple[list[EvaluationData], tuple[str, ...]]:
    """Restrict the held-out images to those shared by all models; return a warning if there are too few of them."""
    common = set.intersection(*(set(one.held_out.digests) for one in data))
    if len(data) > 1 and len(common) < MINIMUM:
        return list(data), (
            f"Only {len(common)} images are held out for all of these models, so each model was measured on "
            "its own held-out images. Their fidelity figures are therefore based on different images.",
        )
    rows = ([i for i, digest in enumerate(one.held_out.digests) if digest in common] for one in data)
    return [replace(one, held_out=one.held_out.take(kept)) for one, kept in zip(data, rows, strict=True)], ()


def differences(generators: Sequence[Generator], sizes: Sequence[int], features: str | None) -> tuple[str, ...]:
    """Return warnings about differences between models that limit the comparison of their figures."""
    configs = [generator.model.config for generator in generators]
    found = []
    if len({config.encoder and config.encoder.digest for config in configs}) > 1 and features is None:
        found.append(
            "These models have different encoders and each was measured with its own, so their fidelity and text "
            "alignment figures cannot be compared. Choose one image model for all with `features`."
        )
    if len({(size, config.image_channels) for size, config in zip(sizes, configs, strict=True)}) > 1:
        found.append("These models generate images of different sizes or colours; smaller images are an easier task.")
    return tuple(found)


def _add_to_card(evaluated: ModelEvaluation, report: Report, progress: Progress) -> None:
    """Write the figures into the model card, except for bundled and Hub models; failures are only reported."""
    if evaluated.name == BUNDLED or evaluated.name in FETCHED:
        return
    try:
        add_evaluation(model_folder(evaluated.name), evaluation_markdown(evaluated, report))
    except CaptionlessError as error:
        progress.say(f"The figures were not added to the model card: {error}")


def _settings(plan: EvaluationPlan, generator: Generator) -> dict[str, str]:
    sampling = plan.sampling
    precision = resolve_precision(sampling.precision, generator.device)
    size = f", size {sampling.size}" if sampling.size else ""
    return {
        "Sampling": f"{sampling.sampler}, {sampling.steps} steps, guidance {sampling.guidance:g}, {precision}{size}",
        "Seed": str(plan.config.seed),
        "Images generated from held-out images": f"at most {plan.config.samples:,}",
        "Compared by": plan.features or "the model's own encoder",
        "captionless": f"{__version__}, torch {torch.__version__}, {platform.machine()}",
    }
