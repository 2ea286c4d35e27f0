"""Classifier-free guidance: guide predictions away from the unconditional one, towards the condition.

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
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captionless.config.sampling import THRESHOLDS
from captionless.diffusion.objective import Network, to_x0
from captionless.diffusion.reverse import Denoise, network_rows
from captionless.diffusion.schedules import Schedule
from captionless.errors import CaptionlessError, one_of

MAX_SCALE = 100.0

ALWAYS = (0.0, 1.0)
"""The interval of all times."""

ROUNDING = 1e-6
"""A time this little above a bound counts as on it: 0.3 is 0.3 in float32 and float64, summed or counted down."""


@dataclass(frozen=True)
class Guidance:
    """Settings of guidance: how strongly, when and within which limits an image follows its prompt.

    Args:
        scale: ``w``, from -100 to 100; one for all images, or one per image, (n,).
        interval: the times (low, high] at which guidance acts; at others ``w`` is 0, at half the cost. Guidance
            costs variety at high noise and is largely unnecessary at low noise (arXiv:2404.07724, eq. 6). That paper
            counts in ``sigma``, the std of the noise on an unscaled image, here ``sigma(t) / alpha(t)``: its bound
            ``s`` is the time ``time_at(schedule, -2 * log(s))``. On the cosine schedule its (0.28, 2.9], the best FID
            of a small ImageNet model, is (0.17, 0.79].
        rescale: ``phi`` of ``rescale``, from 0 (none) to 1.
        threshold: how predicted images are brought back into [-1, 1], the range of images, beyond which guidance
            drives colours: ``static`` clips them, ``dynamic`` is ``dynamic_threshold``, ``none`` leaves them
            (arXiv:2205.11487, section 2.3).
        percentile: the percentile of dynamic thresholding, in (0, 1].

    Raises:
        CaptionlessError: a value is out of its range.
    """

    scale: float | Tensor = 0.0
    interval: tuple[float, float] = ALWAYS
    rescale: float = 0.0
    threshold: str = "static"
    percentile: float = 0.995

    def __post_init__(self) -> None:
        """Check the ranges before any work is done."""
        for w in torch.as_tensor(self.scale).flatten().tolist():
            if not abs(w) <= MAX_SCALE:
                raise CaptionlessError(
                    f"the guidance scale must be a number from {-MAX_SCALE:g} to {MAX_SCALE:g}, not {w}. Try 5."
                )
        _check_interval("guidance", self.interval)
        if not 0 <= self.rescale <= 1:
            raise CaptionlessError(
                f"the guidance rescale must be from 0 to 1, not {self.rescale}. Try 0.7, or 0 for none."
            )
        one_of("threshold", self.threshold, THRESHOLDS)
        if not 0 < self.percentile <= 1:
            raise CaptionlessError(
                f"the percentile of dynamic thresholding must be above 0 and at most 1, not {self.percentile}. "
                "Try 0.995."
            )


@dataclass(frozen=True, eq=False)
class WeightedCondition:
    """One prompt of a composition: its conditions, its weight, and when it is active.

    Args:
        condition: (n, d), one row per image.
        weight: its share among the prompts active at the same time (only ratios count); a negative weight guides away
            from it.
        interval: the times (low, high] at which it is active; one that starts at 0 includes 0. A prompt schedule is
            two prompts with adjoining intervals: times fall from 1, so (0.6, 1) is the early prompt, which sets the
            layout, and (0, 0.6) the late one, which draws the details.

    Raises:
        CaptionlessError: the weight is 0 or not finite, or the interval is empty.
    """

    condition: Tensor
    weight: float = 1.0
    interval: tuple[float, float] = ALWAYS

    def __post_init__(self) -> None:
        """Require a finite, non-zero weight and a rising interval."""
        if not math.isfinite(self.weight) or self.weight == 0:
            raise CaptionlessError(
                f"a prompt's weight must be a finite number other than 0, not {self.weight}. "
                "Leave the prompt out, or try 1."
            )
        _check_interval("prompt", self.interval)


def guide(cond: Tensor, uncond: Tensor, w: Tensor | float) -> Tensor:
    """Return ``(1 + w) * cond - w * uncond``; ``w`` is a number or one per image, shaped (n, 1, 1, 1)."""
    return cond + w * (cond - uncond)  # in this form exactly cond where w is 0


def rescale(guided: Tensor, cond: Tensor, phi: float) -> Tensor:
    """Bring the std of each guided prediction back towards that of the conditional one (arXiv:2305.08891, eq. 14-16).

    Guidance widens predictions, and images come out overexposed.

    Args:
        guided: predictions, (n, channels, size, size).
        cond: the same without guidance.
        phi: 0 changes nothing, 1 restores the std fully, which looks plain; the paper's choice is 0.7.
    """
    std, wanted = (value.std(dim=(1, 2, 3), correction=0, keepdim=True) for value in (guided, cond))
    ratio = torch.where(std > 0, wanted / std, 1.0)
    return guided * (1 + phi * (ratio - 1))


def dynamic_threshold(x0: Tensor, percentile: float) -> Tensor:
    """Clip each image to [-s, s] and divide by s, a percentile of its absolute values, at least 1.

    Unlike clipping to [-1, 1] it keeps strongly guided colours apart (Imagen, arXiv:2205.11487, section 2.3).

    Args:
        x0: predicted images, (n, channels, size, size).
        percentile: the percentile of absolute values, in (0, 1]; 1 is the largest.
    """
    s = x0.abs().flatten(1).quantile(percentile, dim=1).clamp(min=1).reshape(-1, 1, 1, 1)
    return torch.clamp(x0, -s, s) / s


class GuidedPrediction:
    """The guided, thresholded prediction of ``x0``, in two parts: the conditions to evaluate, and their combination.

    Between the two, any network call that evaluates these conditions serves, also one shared with other requests (see
    ``captionless.diffusion.reverse.advance``). The base is left out where its factor is 0: outside the guidance
    interval, if no weight is negative.

    Args:
        schedule: the noise schedule that the network was trained with.
        prompts: which together must cover all times; a tensor (n, d) is one prompt per image, at all times.
        guidance: how; a number is the scale ``w``.
        prediction: what the network predicts; see ``captionless.diffusion.objective``.
        negative: conditions (n, d) to guide away from, used as the base instead of the null condition.

    Raises:
        CaptionlessError: no prompt is active at some time, or shapes do not match.
    """

    def __init__(
        self,
        schedule: Schedule,
        prompts: Sequence[WeightedCondition] | Tensor,
        guidance: Guidance | float = 0.0,
        *,
        prediction: str = "v",
        negative: Tensor | None = None,
    ) -> None:
        self.schedule, self.prediction = schedule, prediction
        self.prompts = [WeightedCondition(prompts)] if isinstance(prompts, Tensor) else list(prompts)
        self.guidance = guidance if isinstance(guidance, Guidance) else Guidance(guidance)
        _check_cover([prompt.interval for prompt in self.prompts])
        self.base = torch.zeros_like(self.prompts[0].condition) if negative is None else negative
        w = torch.as_tensor(self.guidance.scale, dtype=torch.float32, device=self.base.device)
        self.w, self.guides = w.reshape(-1, 1, 1, 1), bool((w != 0).any())
        _check_shapes([prompt.condition for prompt in self.prompts] + [self.base], len(self.w))

    def conditions(self, t: Tensor) -> list[Tensor]:
        """Return the conditions to evaluate at time ``t``, each (n, d)."""
        active = self._active(t)
        bases = [self.base] if self._guided(t) or _factors(active)[-1] != 0 else []
        return [prompt.condition for prompt in active] + bases

    def combine(self, xt: Tensor, t: Tensor, outputs: Sequence[Tensor]) -> Tensor:
        """Return ``x0``, in float32, from the network's outputs for each of ``conditions(t)``."""
        factors = _factors(self._active(t))  # there is one more of them than outputs where the base is left out
        value = sum((a * each for a, each in zip(factors, outputs, strict=False)), torch.zeros(()))
        if self._guided(t):
            value = rescale(guide(value, outputs[-1], self.w), value, self.guidance.rescale)
        alpha, sigma = (float(factor) for factor in self.schedule.alpha_sigma(t))
        return _threshold(to_x0(self.prediction, xt.float(), value, alpha, sigma), self.guidance)

    def _active(self, t: Tensor) -> list[WeightedCondition]:
        return [prompt for prompt in self.prompts if _contains(prompt.interval, t)]

    def _guided(self, t: Tensor) -> bool:
        return self.guides and _contains(self.guidance.interval, t)


def guided_denoiser(
    network: Network,
    schedule: Schedule,
    prompts: Sequence[WeightedCondition] | Tensor,
    guidance: Guidance | float = 0.0,
    *,
    prediction: str = "v",
    negative: Tensor | None = None,
) -> Denoise:
    """Turn a network into the guided prediction ``(xt, t) -> x0``, one batched call each.

    Args:
        network: the denoiser.
        schedule: see ``GuidedPrediction``, as for all others.
        prompts: conditions (n, d), or several weighted ones.
        guidance: a scale ``w``, or more.
        prediction: what the network predicts.
        negative: conditions (n, d) to guide away from.
    """
    guided = GuidedPrediction(schedule, prompts, guidance, prediction=prediction, negative=negative)

    def denoise(xt: Tensor, t: Tensor) -> Tensor:
        conditions = guided.conditions(t)
        outputs = network(*network_rows(xt, t, conditions)).float().chunk(len(conditions))
        return guided.combine(xt, t, outputs)

    return denoise


def _factors(prompts: Sequence[WeightedCondition]) -> list[float]:
    """Return the factor of each prompt, and lastly of the base, in the composed prediction; their sum is 1."""
    total = sum(abs(prompt.weight) for prompt in prompts)
    return [prompt.weight / total for prompt in prompts] + [1 - sum(prompt.weight for prompt in prompts) / total]


def _threshold(x0: Tensor, guidance: Guidance) -> Tensor:
    match guidance.threshold:
        case "static":
            return x0.clamp(-1, 1)
        case "dynamic":
            return dynamic_threshold(x0, guidance.percentile)
    return x0


def _contains(interval: tuple[float, float], t: Tensor) -> bool:
    """Tell whether ``t`` lies in (low, high]; 0 belongs to the interval that starts there."""
    low, high = interval
    return (low == 0 or float(t) > low + ROUNDING) and float(t) <= high + ROUNDING


def _check_interval(of: str, interval: tuple[float, float]) -> None:
    low, high = interval
    if not 0 <= low < high <= 1:
        raise CaptionlessError(
            f"the {of} interval must satisfy 0 <= low < high <= 1, not ({low}, {high}). "
            "Try (0.2, 0.8), or (0, 1) for all times; sampling begins at 1, pure noise."
        )


def _check_cover(intervals: Sequence[tuple[float, float]]) -> None:
    """Raise unless every time lies in one of the intervals."""
    if not intervals:
        raise CaptionlessError(
            "there is no prompt. Give at least one condition; an all-zero condition means unconditional."
        )
    reached = 0.0
    for low, high in [*sorted(intervals), (1.0, 1.0)]:
        if low > reached:
            raise CaptionlessError(
                f"no prompt is active from t = {reached} to {low}. "
                "Let the prompts' intervals adjoin, as (0, 0.6) and (0.6, 1) do."
            )
        reached = max(reached, high)


def _check_shapes(conditions: Sequence[Tensor], scales: int) -> None:
    shapes = [tuple(condition.shape) for condition in conditions]
    if len(shapes[0]) != 2 or shapes.count(shapes[0]) != len(shapes):
        raise CaptionlessError(
            "all conditions, the negative one too, must have the same shape (n, d), not "
            f"{', '.join(map(str, shapes))}. Give one row per image."
        )
    n = shapes[0][0]
    if scales not in (1, n):
        raise CaptionlessError(f"{scales} guidance scales for {n} images: give one for all, or one per image.")
