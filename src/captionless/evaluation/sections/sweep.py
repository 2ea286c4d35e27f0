"""The part of an evaluation that sweeps guidance and steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from captionless.config.sampling import SamplingConfig
from captionless.evaluation.data import Images
from captionless.evaluation.metrics import Estimate, TooFewError, unpaired_kid
from captionless.evaluation.report.results import ImageGrid, Section, Table
from captionless.evaluation.samples import EvaluationSampler
from captionless.generation.grids import sample_grid
from captionless.generation.sample import to_images

IMAGES = 48
"""Painted in each setting."""
SCALES = (0.0, 1.0, 3.0, 5.0, 8.0)
STEPS = (4, 8, 15, 30)
SHOWN = 5
SEEDS = 3_000_000


def sweeps(sampling: SamplingConfig) -> dict[str, tuple[str, list[dict[str, float]]]]:
    """Return what is swept: its field of ``SamplingConfig``, its name for people, and the settings, in order."""
    scales = sorted({*SCALES, sampling.guidance})
    steps = sorted({*STEPS, sampling.steps})
    return {
        "guidance": ("Guidance scale w", [{"guidance": scale} for scale in scales]),
        "steps": ("Steps", [{"steps": count} for count in steps]),
    }


def sweep_cost(sampling: SamplingConfig, real: int) -> tuple[int, int]:
    """Return how many pictures all sweeps paint together, and the denoising steps of them (before any that enlarge)."""
    few = min(IMAGES, real // 2)
    steps = [
        int(changes.get("steps", sampling.steps)) for _, settings in sweeps(sampling).values() for changes in settings
    ]
    return few * len(steps), few * sum(steps)


def sweep_section(studio: EvaluationSampler, real: Images, features: Tensor) -> Section:
    """Paint some real pictures' vectors in several settings, and measure each.

    Args:
        studio: the model.
        real: real pictures.
        features: theirs, (n, f).
    """
    count = min(IMAGES, len(real) // 2)
    if not count:
        return Section("sweeps", (), (("Sweeps", f"{len(real)} pictures are too few to sweep with; 2 are needed"),))
    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(studio.seed + 1)).tolist()
    sources, others = order[:count], order[count:]
    asked = real.conditions[sources]
    tables, grids = [], []
    for name, settings in sweeps(studio.sampling).values():
        rows, columns = [], []
        for changes in settings:
            (setting,) = changes.values()
            sampled = studio.paint(asked, offset=SEEDS, **changes)
            found = studio.look(sampled, "Looking at paintings")
            closeness = F.cosine_similarity(found, features[sources]).mean()
            rows.append((f"{setting:g}", _kid(features[others], found, studio.seed), f"{float(closeness):.3f}"))
            columns.append(to_images(sampled[:SHOWN]))
        heads = (name, "KID × 1000 (range)", "cosine with the real picture")
        tables.append(Table(name, heads, tuple(rows), f"{count} pictures in each row."))
        grids.append(_sheet(name, [row[0] for row in rows], columns))
    note = (
        "Painted from real pictures' vectors (or classes), the same noise in each column; compared with the other real "
        "pictures."
    )
    return Section("sweeps", (), (), (), tuple(tables), tuple(grids), (note,))


def _kid(real: Tensor, sampled: Tensor, seed: int) -> str:
    try:
        found: Estimate = unpaired_kid(real, sampled, seed=seed)
    except TooFewError as error:
        return str(error)
    return f"{found.value:.1f} ({found.low:.1f} to {found.high:.1f})"


def _sheet(name: str, heads: Sequence[str], columns: Sequence[Sequence[object]]) -> ImageGrid:
    rows = [list(row) for row in zip(*columns, strict=True)]
    sheet = sample_grid(rows, [""] * len(rows), heads=list(heads))  # type: ignore[arg-type]
    return ImageGrid(name, sheet)
