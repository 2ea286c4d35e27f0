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

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captionless.config.sampling import Threshold
from captionless.diffusion.objective import Denoise, Network, to_x0
from captionless.diffusion.schedules import Schedule

ALWAYS = (0.0, 1.0)
"""The interval of all times."""

ROUNDING = 1e-6
"""A time this little above a bound counts as on it: 0.3 is 0.3 in float32 and float64, summed or counted down."""


@dataclass(frozen=True)
class Guidance:
    """How strongly, when and within which limits an image follows its prompt.

    Args:
        scale: ``w``.
        interval: the times (low, high] at which guidance acts; at others ``w`` is 0, at half the cost. Guidance
            costs variety at high noise and is largely unnecessary at low noise (arXiv:2404.07724, eq. 6). That paper
            counts in ``sigma``, the std of the noise on an unscaled image, here ``sigma(t) / alpha(t)``: its bound
            ``s`` is the time ``time_at(schedule, -2 * log(s))``. On the cosine schedule its (0.28, 2.9], the best FID
            of a small ImageNet model, is (0.17, 0.79].
        rescale: ``phi`` of ``rescale``, from 0 (none) to 1.
        threshold: how predicted images are brought back into [-1, 1], the range of images, beyond which guidance
            drives colours: ``static`` clips them, ``dynamic`` is ``dynamic_threshold``, ``none`` leaves them
            (Imagen, arXiv:2205.11487, section 2.3).
    """

    scale: float = 0.0
    interval: tuple[float, float] = ALWAYS
    rescale: float = 0.0
    threshold: Threshold = "static"


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
    """

    condition: Tensor
    weight: float = 1.0
    interval: tuple[float, float] = ALWAYS


def guide(cond: Tensor, uncond: Tensor, w: float) -> Tensor:
    """Return ``(1 + w) * cond - w * uncond``."""
    return cond + w * (cond - uncond)  # in this form exactly cond where w is 0


def rescale(guided: Tensor, cond: Tensor, phi: float) -> Tensor:
    """Bring the std of each guided prediction back towards that of the conditional one (arXiv:2305.08891, eq. 14-16).

    Guidance widens predictions, and images come out overexposed. ``phi`` 0 changes nothing, 1 restores the std fully,
    which looks plain; the paper's choice is 0.7.
    """
    std, wanted = (value.std(dim=(1, 2, 3), correction=0, keepdim=True) for value in (guided, cond))
    ratio = torch.where(std > 0, wanted / std, 1.0)
    return guided * (1 + phi * (ratio - 1))


def dynamic_threshold(x0: Tensor, percentile: float = 0.995) -> Tensor:
    """Clip each image to [-s, s] and divide by s, a percentile (in (0, 1]) of its absolute values, at least 1.

    Unlike clipping to [-1, 1] it keeps strongly guided colours apart (Imagen, arXiv:2205.11487, section 2.3).
    """
    s = x0.abs().flatten(1).quantile(percentile, dim=1).clamp(min=1).reshape(-1, 1, 1, 1)
    return torch.clamp(x0, -s, s) / s


class GuidedPrediction:
    """The guided, thresholded prediction of ``x0``, in two parts: the network's inputs, and the use of its output.

    Between the two, any network call that evaluates these rows serves, also one shared with other requests (see
    ``captionless.diffusion.reverse.advance``). The base is left out where its factor is 0: outside the guidance
    interval, if no weight is negative. Where no prompt is active, the base is predicted.

    Args:
        schedule: the noise schedule that the network was trained with.
        prompts: one or several weighted conditions; a tensor (n, d) is one prompt per image, at all times.
        guidance: how; a number is the scale ``w``.
        prediction: what the network predicts; see ``captionless.diffusion.objective``.
        negative: conditions (n, d) to guide away from, used as the base instead of the null condition.
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
        self.base = torch.zeros_like(self.prompts[0].condition) if negative is None else negative

    def rows(self, xt: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the network's inputs at time ``t``, k rows per image: images, times (float32) and conditions."""
        active = self._active(t)
        conditions = [prompt.condition for prompt in active]
        if self._guided(t) or _factors(active)[-1] != 0:
            conditions.append(self.base)
        k = len(conditions)
        return torch.cat([xt] * k), t.to(torch.float32).to(xt.device).expand(k * len(xt)), torch.cat(conditions)

    def combine(self, xt: Tensor, t: Tensor, output: Tensor) -> Tensor:
        """Return ``x0``, in float32, from the network's output for these rows."""
        outputs = output.float().chunk(len(output) // len(xt))
        factors = _factors(self._active(t))  # there is one more of them than outputs where the base is left out
        value = sum((a * each for a, each in zip(factors, outputs, strict=False)), torch.zeros(()))
        if self._guided(t):
            value = rescale(guide(value, outputs[-1], self.guidance.scale), value, self.guidance.rescale)
        alpha, sigma = (float(factor) for factor in self.schedule.alpha_sigma(t))
        x0 = to_x0(self.prediction, xt.float(), value, alpha, sigma)
        match self.guidance.threshold:
            case "static":
                return x0.clamp(-1, 1)
            case "dynamic":
                return dynamic_threshold(x0)
        return x0

    def _active(self, t: Tensor) -> list[WeightedCondition]:
        return [prompt for prompt in self.prompts if _contains(prompt.interval, t)]

    def _guided(self, t: Tensor) -> bool:
        return self.guidance.scale != 0 and _contains(self.guidance.interval, t)


def guided_denoiser(
    network: Network,
    schedule: Schedule,
    prompts: Sequence[WeightedCondition] | Tensor,
    guidance: Guidance | float = 0.0,
    *,
    prediction: str = "v",
    negative: Tensor | None = None,
) -> Denoise:
    """Turn a network into the guided prediction ``(xt, t) -> x0``, one batched call each; see ``GuidedPrediction``."""
    guided = GuidedPrediction(schedule, prompts, guidance, prediction=prediction, negative=negative)
    return lambda xt, t: guided.combine(xt, t, network(*guided.rows(xt, t)))


def _factors(prompts: Sequence[WeightedCondition]) -> list[float]:
    """Return the factor of each prompt, and lastly of the base, in the composed prediction; their sum is 1."""
    total = sum(abs(prompt.weight) for prompt in prompts) or 1.0
    return [prompt.weight / total for prompt in prompts] + [1 - sum(prompt.weight for prompt in prompts) / total]


def _contains(interval: tuple[float, float], t: Tensor) -> bool:
    """Tell whether ``t`` lies in (low, high]; 0 belongs to the interval that starts there."""
    low, high = interval
    return (low == 0 or float(t) > low + ROUNDING) and float(t) <= high + ROUNDING
