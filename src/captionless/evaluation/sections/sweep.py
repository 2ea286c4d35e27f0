"""Sweep guidance and steps: what each setting changes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from captionless.evaluation.metrics import TooFewError, unpaired_kid
from captionless.evaluation.report.results import ImageGrid, Section, Table
from captionless.evaluation.samples import SWEEP_SEEDS, EvaluationContext
from captionless.generation.grids import sample_grid
from captionless.generation.sample import to_images

SHOWN = 5
"""Images of each setting that the page shows."""


def sweep_section(context: EvaluationContext) -> Section:
    """Generate images from some real images' conditions in several settings, and measure each.

    The KID of a setting compares its images with the other real images, which they were not generated from.
    """
    config, sampling = context.config, context.sampler.sampling
    count = min(config.sweep_images, len(context.real) // 2)
    if not count:
        why = f"{len(context.real)} images are too few to sweep with; 2 are needed"
        return Section("sweeps", missing=(("Sweeps", why),))
    order = torch.randperm(len(context.real), generator=torch.Generator().manual_seed(config.seed + 1)).tolist()
    scales, steps = sorted({*config.sweep_guidance, sampling.guidance}), sorted({*config.sweep_steps, sampling.steps})
    found = [
        _sweep(context, "guidance", "Guidance scale w", scales, order, count),
        _sweep(context, "steps", "Steps", steps, order, count),
    ]
    note = (
        "Images generated from real images' conditions, with the same noise in each column, and compared with the "
        "other real images."
    )
    return Section(
        "sweeps", tables=tuple(table for table, _ in found), grids=tuple(sheet for _, sheet in found), notes=(note,)
    )


def _sweep(
    context: EvaluationContext, name: str, title: str, values: Sequence[float], order: list[int], count: int
) -> tuple[Table, ImageGrid]:
    """Sweep one setting, generating from the first ``count`` images of ``order``."""
    sources, others = context.real_samples.take(order[:count]), context.real_samples.take(order[count:])
    conditions = context.real.conditions[order[:count]]
    rows, columns = [], []
    for value in values:
        samples = context.sample(conditions, SWEEP_SEEDS, **{name: value})
        cosine = F.cosine_similarity(samples.features, sources.features).mean()
        rows.append((f"{value:g}", _kid(others.features, samples.features, context.config.seed), f"{cosine:.3f}"))
        columns.append(to_images(samples.pixels[:SHOWN]))
    heads = (title, "KID × 1000 (range)", "cosine with the real image")
    table = Table(title, heads, tuple(rows), f"{count} images in each row.")
    grid = [list(row) for row in zip(*columns, strict=True)]
    return table, ImageGrid(title, sample_grid(grid, [""] * len(grid), heads=[row[0] for row in rows]))


def _kid(real: Tensor, generated: Tensor, seed: int) -> str:
    try:
        found = unpaired_kid(real, generated, seed=seed)
    except TooFewError as error:
        return str(error)
    return f"{found.value:.1f} ({found.low:.1f} to {found.high:.1f})"
