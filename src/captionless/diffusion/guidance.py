"""Classifier-free guidance: lean away from the unconditional prediction, towards the condition.

The guidance scale ``w`` here is that of Ho & Salimans (arXiv:2207.12598, eq. 6):

    guided = (1 + w) * cond - w * uncond

0 is the plain conditional prediction, -1 the unconditional one; useful values lie between 0.5 and 6. ``diffusers``
and the later papers cited below write ``uncond + g * (cond - uncond)``: their scale ``g`` is ``w + 1``.

With several prompts (Composable Diffusion, arXiv:2206.01714, conjunction and negation) and ``base`` for ``uncond``,

    guided = base + (1 + w) * sum_i a_i * (cond_i - base),    a_i = weight_i / sum_j |weight_j|

over the prompts active at that time. That paper gives each prompt a weight of its own; it is ``(1 + w) * a_i``
here, so that several prompts together pull as strongly as one. With positive weights this is ``guided`` from above
with the weighted mean of the ``cond_i`` for ``cond``. The base is the null condition (zeros), or a negative prompt,
which then has no effect where ``w`` is 0 (unless a weight is negative).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captionless.config.sampling import THRESHOLDS
from captionless.diffusion.objective import Network, to_x0
from captionless.diffusion.schedules import Schedule
from captionless.errors import CaptionlessError, one_of

Denoise = Callable[[Tensor, Tensor], Tensor]
"""What a sampler calls: ``(xt, t) -> x0``, the predicted clean picture, with ``t`` a scalar tensor."""

MAX_SCALE = 100.0

ALWAYS = (0.0, 1.0)
"""The interval of all times."""

ROUNDING = 1e-6
"""A time this little above a bound counts as on it: 0.3 is 0.3 in float32 and float64, summed or counted down."""


@dataclass(frozen=True)
class Guidance:
    """How strongly, when and within which limits a picture follows its prompt.

    Args:
        scale: ``w``, from -100 to 100; one for all, or one a picture, (n,).
        interval: the times (low, high] at which guidance acts; at others ``w`` is 0, at half the cost. Guidance
            costs variety at high noise and is largely unnecessary at low noise (arXiv:2404.07724, eq. 6). That paper
            counts in ``sigma``, the std of the noise beside an unscaled picture, here ``sigma(t) / alpha(t)``: its
            bound ``s`` is the time ``time_at(schedule, -2 * log(s))``. On the cosine schedule its (0.28, 2.9], the
            best FID of a small ImageNet model, is (0.17, 0.79].
        rescale: ``phi`` of ``rescale``, from 0 (none) to 1.
        threshold: what becomes of predicted pictures beyond [-1, 1], the range of pictures, into which guidance
            drives colours: ``static`` clips them, ``dynamic`` is ``dynamic_threshold``, ``none`` leaves them
            (arXiv:2205.11487, section 2.3).
        percentile: of dynamic thresholding, in (0, 1].
    """

    scale: float | Tensor = 0.0
    interval: tuple[float, float] = ALWAYS
    rescale: float = 0.0
    threshold: str = "static"
    percentile: float = 0.995

    def __post_init__(self) -> None:
        """Refuse values before any work is done."""
        for w in torch.as_tensor(self.scale).flatten().tolist():
            if not abs(w) <= MAX_SCALE:
                raise CaptionlessError(
                    f"the guidance scale must be a number from {-MAX_SCALE:g} to {MAX_SCALE:g}, not {w}. Try 5."
                )
        _check_interval("guidance", self.interval)
        if not 0 <= self.rescale <= 1:
            raise CaptionlessError(
                f"guidance is rescaled by a share from 0 to 1, not {self.rescale}. Try 0.7, or 0 for none."
            )
        one_of("threshold", self.threshold, THRESHOLDS)
        if not 0 < self.percentile <= 1:
            raise CaptionlessError(
                f"the percentile of dynamic thresholding must lie in (0, 1], not {self.percentile}. Try 0.995."
            )


@dataclass(frozen=True, eq=False)
class Part:
    """One prompt's share in a picture.

    Args:
        condition: (n, d), one row a picture.
        weight: its share among the parts active at the same time (only ratios count); negative leads away from it.
        interval: the times (low, high] at which it takes part; one that starts at 0 includes 0. A prompt schedule
            is two parts with adjoining intervals: times fall from 1, so (0.6, 1) is the early prompt, which sets the
            layout, and (0, 0.6) the late one, which paints the details.
    """

    condition: Tensor
    weight: float = 1.0
    interval: tuple[float, float] = ALWAYS

    def __post_init__(self) -> None:
        """Refuse a share that is none."""
        if not math.isfinite(self.weight) or self.weight == 0:
            raise CaptionlessError(
                f"a prompt's weight must be a finite number other than 0, not {self.weight}. "
                "Leave the prompt out, or try 1."
            )
        _check_interval("a prompt", self.interval)


def guide(cond: Tensor, uncond: Tensor, w: Tensor | float) -> Tensor:
    """Return ``(1 + w) * cond - w * uncond``; ``w`` is a number or one a picture, shaped (n, 1, 1, 1)."""
    return cond + w * (cond - uncond)  # in this form exactly cond where w is 0


def rescale(guided: Tensor, cond: Tensor, phi: float) -> Tensor:
    """Bring the std of each guided prediction back towards that of the conditional one (arXiv:2305.08891, eq. 14-16).

    Guidance widens predictions, and pictures come out overexposed.

    Args:
        guided: predictions, (n, channels, size, size).
        cond: the same without guidance.
        phi: 0 changes nothing, 1 restores the std fully, which looks plain; the paper's choice is 0.7.
    """
    std, wanted = (value.std(dim=(1, 2, 3), correction=0, keepdim=True) for value in (guided, cond))
    ratio = torch.where(std > 0, wanted / std, 1.0)
    return guided * (1 + phi * (ratio - 1))


def dynamic_threshold(x0: Tensor, percentile: float) -> Tensor:
    """Clip each picture to [-s, s] and divide by s, a percentile of its absolute values, at least 1.

    Unlike clipping to [-1, 1] it keeps strongly guided colours apart (Imagen, arXiv:2205.11487, section 2.3).

    Args:
        x0: predicted pictures, (n, channels, size, size).
        percentile: in (0, 1]; 1 is the largest absolute value.
    """
    s = x0.abs().flatten(1).quantile(percentile, dim=1).clamp(min=1).reshape(-1, 1, 1, 1)
    return torch.clamp(x0, -s, s) / s


def guided_denoiser(
    network: Network,
    schedule: Schedule,
    parts: Sequence[Part] | Tensor,
    guidance: Guidance | float = 0.0,
    *,
    prediction: str = "v",
    negative: Tensor | None = None,
) -> Denoise:
    """Turn a network into the guided, thresholded prediction of ``x0`` that samplers use, in float32.

    A step is one batched call, without ``base`` where its factor is 0: no guidance acts, no weight is negative.

    Args:
        network: the denoiser.
        schedule: the noise schedule it was trained with.
        parts: the prompts, which together must cover all times; a tensor (n, d) is one prompt a picture, at all times.
        guidance: how; a number is the scale ``w``.
        prediction: what the network predicts; see ``captionless.diffusion.objective``.
        negative: conditions (n, d) to lead away from: the ``base`` in place of the null condition.

    Raises:
        CaptionlessError: no prompt is active at some time, or shapes do not match.
    """
    parts = [Part(parts)] if isinstance(parts, Tensor) else list(parts)
    guidance = guidance if isinstance(guidance, Guidance) else Guidance(guidance)
    _check_cover([part.interval for part in parts])
    base = torch.zeros_like(parts[0].condition) if negative is None else negative
    w = torch.as_tensor(guidance.scale, dtype=torch.float32, device=base.device).reshape(-1, 1, 1, 1)
    _check_shapes([part.condition for part in parts] + [base], len(w))
    leads = bool((w != 0).any())

    def denoise(xt: Tensor, t: Tensor) -> Tensor:
        active = [part for part in parts if _holds(part.interval, t)]
        guided = leads and _holds(guidance.interval, t)
        shares = _shares(active)  # the last is that of base in the composed prediction
        bases = [base] if guided or shares[-1] != 0 else []
        predictions = _predict(network, xt, t, [part.condition for part in active] + bases)
        cond = sum((a * each for a, each in zip(shares, predictions, strict=False)), torch.zeros(()))
        value = rescale(guide(cond, predictions[-1], w), cond, guidance.rescale) if guided else cond
        alpha, sigma = (float(level) for level in schedule.alpha_sigma(t))
        return _threshold(to_x0(prediction, xt.float(), value, alpha, sigma), guidance)

    return denoise


def _shares(parts: Sequence[Part]) -> list[float]:
    """Return what each part, and lastly base, counts in the composed prediction; the sum is 1."""
    total = sum(abs(part.weight) for part in parts)
    return [part.weight / total for part in parts] + [1 - sum(part.weight for part in parts) / total]


def _predict(network: Network, xt: Tensor, t: Tensor, conditions: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return the network's prediction for each of the conditions, all from one call."""
    k = len(conditions)
    times = t.to(torch.float32).to(xt.device).expand(k * len(xt))
    return network(torch.cat([xt] * k), times, torch.cat(list(conditions))).float().chunk(k)


def _threshold(x0: Tensor, guidance: Guidance) -> Tensor:
    match guidance.threshold:
        case "static":
            return x0.clamp(-1, 1)
        case "dynamic":
            return dynamic_threshold(x0, guidance.percentile)
    return x0


def _holds(interval: tuple[float, float], t: Tensor) -> bool:
    """Tell whether ``t`` lies in (low, high]; 0 belongs to the interval that starts there."""
    low, high = interval
    return (low == 0 or float(t) > low + ROUNDING) and float(t) <= high + ROUNDING


def _check_interval(what: str, interval: tuple[float, float]) -> None:
    low, high = interval
    if not 0 <= low < high <= 1:
        raise CaptionlessError(
            f"the interval of {what} must rise within [0, 1], not be ({low}, {high}). "
            "Try (0.2, 0.8), or (0, 1) for all times; 1 is noise, where drawing begins."
        )


def _check_cover(intervals: Sequence[tuple[float, float]]) -> None:
    """Raise unless every time lies in one of the intervals."""
    if not intervals:
        raise CaptionlessError("there is no prompt to paint. Give at least one part, or one of zeros for any picture.")
    reached = 0.0
    for low, high in [*sorted(intervals), (1.0, 1.0)]:
        if low > reached:
            raise CaptionlessError(
                f"no prompt takes part from t = {reached} to {low}. "
                "Let the prompts' intervals adjoin, as (0, 0.6) and (0.6, 1) do."
            )
        reached = max(reached, high)


def _check_shapes(conditions: Sequence[Tensor], scales: int) -> None:
    shapes = [tuple(condition.shape) for condition in conditions]
    if len(shapes[0]) != 2 or shapes.count(shapes[0]) != len(shapes):
        raise CaptionlessError(
            "all conditions, the negative one too, must have the same shape (n, d), not "
            f"{', '.join(map(str, shapes))}. Give one row a picture."
        )
    n = shapes[0][0]
    if scales not in (1, n):
        raise CaptionlessError(f"{scales} guidance scales for {n} pictures: give one for all, or one a picture.")
