"""How like real pictures painted ones are: distances of the two sets, beside those of real pictures from real ones.

Painted picture ``i`` was painted from the vector of real picture ``i``. To compare a picture with the one it came
from would flatter the model, so pictures are split into random halves A and B:

    model     = figure(real[A], painted[B])
    reference = figure(real[A], real[B])

Equal sizes on all sides, so that what bias a figure has is the same in both columns. A model that copied its pictures
would read exactly as the reference does; `captionless.evaluation.metrics.memorisation` tells the two apart.

**The range** is where the figure lies in 95% of the splits. Halves are drawn without replacement, so a mean over half
of n pictures has the variance ``(s^2 / (n/2)) * (1 - (n/2)/n) = s^2 / n``: that of the mean over all n. The spread over
random halves is thus the standard error of the full sample, with no factor, for a mean and for figures that behave
like one (the delete-d jackknife with d = n/2; Shao and Wu, Annals of Statistics 17, 1989). It errs on the wide side:
painted pictures resemble those they came from, which lie in the other half. For the reference both halves come from
one set, so what it gains the other loses: its range is how far chance alone sets two such halves apart, and a model
within it is not clearly worse than chance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

from torch import Tensor
from torch.nn import functional as F

from captionless.evaluation.metrics.estimate import Estimate, TooFewError
from captionless.evaluation.metrics.frechet import frechet_distance
from captionless.evaluation.metrics.manifold import distances, precision_recall_from
from captionless.evaluation.metrics.mmd import SCALE, mmd2, polynomial_kernel, rbf_kernel
from captionless.evaluation.metrics.resampling import percentiles, random_halves

MINIMUM = 20
"""Pictures for KID and CMMD. They are unbiased for any number, but fewer than 10 a half give a range without use."""

MINIMUM_MANIFOLD = 50
"""Pictures for precision and the like. 2 (k + 1) could be computed, but then every ball spans its whole half; with 50,
it holds a fifth of it, and a share of 25 pictures is known to within 20 points."""

MANIFOLD = ("precision", "recall", "density", "coverage")

Splits = Sequence[tuple[Tensor, Tensor]]
Matrices = tuple[Tensor, Tensor, Tensor]
Measure = Callable[[Tensor, Tensor, Tensor], tuple[float, ...]]


@dataclass(frozen=True)
class Comparison:
    """One figure of a model, and the same of real pictures.

    Args:
        name: ``kid``, ``cmmd``, ``precision``, ``recall``, ``density``, ``coverage`` or ``fid``.
        model: real against painted pictures.
        real: real against real ones.
    """

    name: str
    model: Estimate
    real: Estimate


def compare_sets(
    real: Tensor, fake: Tensor, *, seed: int = 0, usable: int | None = None
) -> tuple[list[Comparison], list[tuple[str, str]]]:
    """Return the figures of painted pictures, and which were left out and why.

    Args:
        real: features of real pictures, (n, d).
        fake: features of painted ones, (n, d); ``fake[i]`` was painted from real picture ``i``.
        seed: of the random halves.
        usable: how many real pictures ``--samples`` chose from, so that what is said of too few can be followed.

    Returns:
        ``kid`` and ``cmmd`` (both times 1000), ``precision``, ``recall``, ``density``, ``coverage`` from
        `MINIMUM_MANIFOLD` pictures on, ``fid`` where each half has more pictures than a feature has numbers (its
        covariance would be singular otherwise); then (name, reason) of the others.

    Raises:
        TooFewError: fewer than `MINIMUM` pictures.
    """
    n, d = real.shape
    if n < MINIMUM and usable is not None:
        raise TooFewError(f"likeness {_needs(MINIMUM, n, usable)}")
    splits = _splits(real, fake, seed)
    found = _figures(splits, ("kid",), _scaled_mmd2, _matrices(polynomial_kernel, real, fake))
    unit = F.normalize(real.double(), dim=1), F.normalize(fake.double(), dim=1)
    found += _figures(splits, ("cmmd",), _scaled_mmd2, _matrices(rbf_kernel, *unit))
    missing = []
    if n >= MINIMUM_MANIFOLD:
        found += _figures(splits, MANIFOLD, _manifold, _matrices(distances, real, fake))
    else:
        missing += [(name, _needs(MINIMUM_MANIFOLD, n, usable)) for name in MANIFOLD]
    if n // 2 > d:
        found.append(_fid(splits, real, fake))
    else:
        missing.append(("fid", _needs(2 * d + 2, n, usable, f" for features of {d} numbers")))
    return found, missing


def _needs(least: int, n: int, usable: int | None, of: str = "") -> str:
    """Say how many pictures a figure needs, and what to do."""
    text = f"needs at least {least} pictures{of}, and there are {n}"
    if usable is None:
        return text
    if usable >= least:
        return f"{text}: raise --samples to {least} or more (the folder has {usable:,})"
    return f"{text}: the folder has only {usable:,}, so name one with more"


def paired_kid(real: Tensor, altered: Tensor, *, seed: int = 0) -> Estimate:
    """Return KID (times 1000) of real pictures from altered ones: a mark on the scale, such as "a little noise".

    With the same seed it uses the same halves as `compare`, so the two can be laid side by side.

    Args:
        real: features, (n, d).
        altered: features, (n, d); ``altered[i]`` is real picture ``i``, altered.
        seed: of the random halves.

    Raises:
        TooFewError: fewer than `MINIMUM` pictures.
    """
    splits = _splits(real, altered, seed)
    draws = _draws(splits, _scaled_mmd2, _matrices(polynomial_kernel, real, altered))
    return percentiles(draws[0], len(real))


def unpaired_kid(x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
    """Return KID (times 1000) of two sets of pictures that have nothing to do with each other, each halved on its own.

    Args:
        x: features, (n, d).
        y: features, (m, d).
        seed: of the random halves.

    Raises:
        TooFewError: fewer than `MINIMUM` pictures in a set.
    """
    _enough(min(len(x), len(y)))
    pairs = zip(random_halves(len(x), seed), random_halves(len(y), seed), strict=True)
    draws = _draws([(a, b) for (a, _), (_, b) in pairs], _scaled_mmd2, _matrices(polynomial_kernel, x, y))
    return percentiles(draws[0], min(len(x), len(y)))


def _splits(real: Tensor, fake: Tensor, seed: int) -> Splits:
    if real.shape != fake.shape:
        raise ValueError(f"painted picture i belongs to real picture i, but there are {real.shape} and {fake.shape}")
    _enough(len(real))
    return random_halves(len(real), seed)


def _enough(n: int) -> None:
    if n < MINIMUM:
        raise TooFewError(f"likeness is measured on at least {MINIMUM} pictures, and there are {n}. Give more of them.")


def _matrices(kernel: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Matrices:
    """Return all pairs within x, within y and between them, computed once: what the splits pick from."""
    return kernel(x, x), kernel(y, y), kernel(x, y)


def _draws(splits: Splits, measure: Measure, matrices: Matrices) -> list[tuple[float, ...]]:
    """Measure half A of x against half B of y in every split; return the draws of each figure."""
    xx, yy, xy = matrices

    def pick(matrix: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        return matrix[rows.unsqueeze(1), columns]

    draws = [measure(pick(xx, a, a), pick(yy, b, b), pick(xy, a, b)) for a, b in splits]
    return list(zip(*draws, strict=True))


def _figures(splits: Splits, names: tuple[str, ...], measure: Measure, matrices: Matrices) -> list[Comparison]:
    """Measure real against painted pictures, and real against real ones."""
    rr, _, _ = matrices
    model, real = _draws(splits, measure, matrices), _draws(splits, measure, (rr, rr, rr))
    figures = zip(names, model, real, strict=True)
    return [Comparison(name, percentiles(m, len(rr)), percentiles(r, len(rr))) for name, m, r in figures]


def _fid(splits: Splits, real: Tensor, fake: Tensor) -> Comparison:
    model = [frechet_distance(real[a], fake[b]) for a, b in splits]
    reference = [frechet_distance(real[a], real[b]) for a, b in splits]
    return Comparison("fid", percentiles(model, len(real)), percentiles(reference, len(real)))


def _scaled_mmd2(kxx: Tensor, kyy: Tensor, kxy: Tensor) -> tuple[float, ...]:
    return (SCALE * mmd2(kxx, kyy, kxy),)


def _manifold(rr: Tensor, ff: Tensor, rf: Tensor) -> tuple[float, ...]:
    return astuple(precision_recall_from(rr, ff, rf))
