"""Classifier-free guidance: move predictions away from the unconditional prediction, towards the conditional one.

The guidance scale ``w`` follows Ho & Salimans (arXiv:2207.12598, eq. 6):

    guided = (1 + w) * cond - w * uncond

``w = 0`` gives the conditional prediction and ``w = -1`` the unconditional one; useful values lie between 0.5 and 6.
``diffusers`` and the later papers cited below write ``uncond + g * (cond - uncond)``, where ``g = w + 1``.

Several prompts are combined as in Composable Diffusion (arXiv:2206.01714, conjunction and negation), where ``base``
takes the place of ``uncond``:

    guided = base + (1 + w) * sum_i a_i * (cond_i - base),    a_i = weight_i / sum_j |weight_j|

The sum runs over the prompts active at the current time. The weight that the paper gives each prompt is
``(1 + w) * a_i`` here, so that several prompts together have the same strength as one. If all weights are positive,
this equals the first formula with ``cond`` replaced by the weighted mean of the ``cond_i``. The base is the prediction
for the null condition (zeros) or for a negative prompt. If all weights are positive, the base has no effect at
``w = 0``.

Perturbed attention (PAG, arXiv:2403.17377) moves predictions away from those of a network without self-attention,
whose objects fall apart. The paper evaluates that network in addition to ``uncond``; here the base is evaluated
without self-attention, so that guidance strengthens prompt and form together, at no additional cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from captionless.config.sampling import Threshold
from captionless.diffusion.objective import Denoise, Network, to_x0
from captionless.diffusion.schedules import Schedule

ALWAYS = (0.0, 1.0)
"""The interval that contains all times."""

NEVER = 1.0
"""The time above which there are none."""

ROUNDING = 1e-6
"""Tolerance for comparing a time with the bounds of an interval, because times are subject to rounding errors."""


@dataclass(frozen=True)
class Guidance:
    """Settings of classifier-free guidance.

    Args:
        scale: the guidance scale ``w``.
        interval: the times (low, high] at which guidance is applied. At all other times ``w`` is 0, which halves the
            cost of a step. Guidance reduces diversity at high noise levels and is largely unnecessary at low ones
            (arXiv:2404.07724, eq. 6). That paper gives the bounds as noise levels ``sigma(t) / alpha(t)``; a noise
            level ``s`` corresponds to the time ``time_at(schedule, -2 * log(s))``. On the cosine schedule, the
            paper's interval (0.28, 2.9], which gave the best FID of a small ImageNet model, is (0.17, 0.79].
        rescale: the factor ``phi`` of ``rescale``, from 0 (no rescaling) to 1.
        threshold: how predicted images are limited to the pixel range [-1, 1], which guidance tends to exceed:
            ``static`` clips them, ``dynamic`` applies ``dynamic_threshold``, and ``none`` does not limit them
            (Imagen, arXiv:2205.11487, section 2.3).
        perturbed_above: the time above which a positive ``scale`` also guides away from the prediction without
            self-attention (perturbed attention). Guidance without it makes textures sharper at low noise levels.
    """

    scale: float = 0.0
    interval: tuple[float, float] = ALWAYS
    rescale: float = 0.0
    threshold: Threshold = "static"
    perturbed_above: float = NEVER


class Rows(NamedTuple):
    """Network inputs for a prediction, k rows per image: noisy images, times and conditions.

    ``identity`` is how far each row disables self-attention, (k * n,), or None if no row does.
    """

    xt: Tensor
    t: Tensor
    condition: Tensor
    identity: Tensor | None = None


def predict(network: Network, rows: Rows) -> Tensor:
    """Call a network, with a fourth argument only if some rows disable self-attention."""
    return network(*rows) if rows.identity is not None else network(*rows[:3])


def join_rows(parts: Sequence[Rows]) -> Rows:
    """Join the network inputs of several predictions."""
    xt, t, condition = (torch.cat(each) for each in zip(*(part[:3] for part in parts), strict=True))
    if all(part.identity is None for part in parts):
        return Rows(xt, t, condition)
    whole = [torch.zeros_like(part.t) if part.identity is None else part.identity for part in parts]
    return Rows(xt, t, condition, torch.cat(whole))


@dataclass(frozen=True, eq=False)
class WeightedCondition:
    """One prompt of a composition, with its weight and the times at which it is active.

    Args:
        condition: condition vectors, one per image, (n, d).
        weight: relative weight among the prompts active at the same time; a negative weight guides away from the
            prompt.
        interval: the times (low, high] at which the prompt is active; an interval that starts at 0 includes 0. For a
            prompt schedule, give two prompts adjacent intervals: sampling runs from time 1 to 0, so a prompt with the
            interval (0.6, 1) determines the layout and one with (0, 0.6) the details.
    """

    condition: Tensor
    weight: float = 1.0
    interval: tuple[float, float] = ALWAYS


def guide(cond: Tensor, uncond: Tensor, w: float) -> Tensor:
    """Return ``(1 + w) * cond - w * uncond``."""
    return cond + w * (cond - uncond)  # written so that w = 0 gives exactly cond


def rescale(guided: Tensor, cond: Tensor, phi: float) -> Tensor:
    """Rescale guided predictions towards the std of the conditional prediction (arXiv:2305.08891, eq. 14-16).

    Guidance increases the std of predictions, which leads to overexposed images. ``phi = 0`` changes nothing;
    ``phi = 1`` restores the std completely, but the images look plain. The paper uses 0.7.
    """
    std, wanted = (value.std(dim=(1, 2, 3), correction=0, keepdim=True) for value in (guided, cond))
    ratio = torch.where(std > 0, wanted / std, 1.0)
    return guided * (1 + phi * (ratio - 1))


def dynamic_threshold(x0: Tensor, percentile: float = 0.995) -> Tensor:
    """Apply dynamic thresholding: clip each image to [-s, s] and divide it by ``s``.

    ``s`` is the given percentile, in (0, 1], of the image's absolute values, but at least 1. Unlike static
    clipping, this avoids saturated colours under strong guidance (Imagen, arXiv:2205.11487, section 2.3).
    """
    s = x0.abs().flatten(1).quantile(percentile, dim=1).clamp(min=1).reshape(-1, 1, 1, 1)
    return torch.clamp(x0, -s, s) / s


class GuidedPrediction:
    """The guided and thresholded prediction of ``x0``.

    ``rows`` returns the network inputs, and ``combine`` turns the network output into ``x0``. The caller evaluates the
    network, possibly in one batch with the rows of other requests (see ``captionless.diffusion.sampler_run.advance``).
    The base is not evaluated where its factor is 0, which is the case outside the guidance interval if no weight is
    negative. If no prompt is active, the prediction is that for the base.

    Args:
        schedule: the noise schedule that the network was trained with.
        prompts: weighted conditions, or a tensor of condition vectors (n, d), one prompt per image.
        guidance: the guidance settings, or only the guidance scale ``w``.
        prediction: the quantity that the network predicts; see ``captionless.diffusion.objective``.
        negative: conditions to guide away from, in place of the null condition, (n, d).
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

    def rows_per_image(self, t: Tensor) -> int:
        """Return how many rows of network inputs each image has at time ``t``."""
        return len(self._conditions(t))

    def rows(self, xt: Tensor, t: Tensor) -> Rows:
        """Return the network inputs at time ``t``, k rows per image; times are float32."""
        conditions = self._conditions(t)
        k = len(conditions)
        times = torch.full(
            (k * len(xt),), float(t), device=xt.device
        )  # filled, because a copy would wait for the device
        rows = Rows(torch.cat([xt] * k), times, torch.cat(conditions))
        if self.guidance.scale > 0 and self._guided(t) and float(t) > self.guidance.perturbed_above + ROUNDING:
            is_base = torch.arange(len(times), device=xt.device) >= len(times) - len(xt)
            rows = rows._replace(identity=is_base.to(times))
        return rows

    def combine(self, xt: Tensor, t: Tensor, output: Tensor) -> Tensor:
        """Return the predicted ``x0``, in float32, given the network output for ``rows``."""
        outputs = output.float().chunk(len(output) // len(xt))
        factors = _factors(self._active(t))  # one more than there are outputs if the base is not evaluated
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

    def _conditions(self, t: Tensor) -> list[Tensor]:
        active = self._active(t)
        based = self._guided(t) or _factors(active)[-1] != 0
        return [prompt.condition for prompt in active] + [self.base] * based

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
    """Return a function ``(xt, t) -> x0`` that predicts with guidance in one batched network call.

    The arguments are those of ``GuidedPrediction``.
    """
    guided = GuidedPrediction(schedule, prompts, guidance, prediction=prediction, negative=negative)
    return lambda xt, t: guided.combine(xt, t, predict(network, guided.rows(xt, t)))


def _factors(prompts: Sequence[WeightedCondition]) -> list[float]:
    """Return the factors of all prompts and, last, of the base in the combined prediction; they sum to 1."""
    total = sum(abs(prompt.weight) for prompt in prompts) or 1.0
    return [prompt.weight / total for prompt in prompts] + [1 - sum(prompt.weight for prompt in prompts) / total]


def _contains(interval: tuple[float, float], t: Tensor) -> bool:
    """Tell whether ``t`` lies in (low, high], or in [0, high] if ``low`` is 0."""
    low, high = interval
    return (low == 0 or float(t) > low + ROUNDING) and float(t) <= high + ROUNDING
