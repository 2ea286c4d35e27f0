"""How pictures are drawn: the one source of these defaults for library, command line and records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from captionless.device import PRECISIONS
from captionless.errors import CaptionlessError, one_of

SAMPLERS = ("dpmpp-2m", "unipc", "dpmpp-2m-sde", "heun", "euler", "euler-ancestral", "ddim", "ddpm")
BRIDGES = ("nearest", "mean", "none")
SPACINGS = ("even", "karras")
THRESHOLDS = ("static", "dynamic", "none")
VARIANCES = ("lower", "upper")
GUIDED_LEVELS = (0.16, 6.27)
"""Noise levels ``sigma / alpha`` between which guidance towards the words measured best: on the cosine schedule, the
times from 0.1 to 0.9."""

ENLARGING_STEPS = 8
"""Denoising steps of the second model of a cascade."""

OPTIONS: dict[str, tuple[str, ...]] = {
    "eta": ("ddim", "dpmpp-2m-sde", "euler-ancestral"),
    "churn": ("heun", "euler"),
    "variance": ("ddpm",),
}
"""Which samplers know an option; the others refuse it."""


@dataclass(frozen=True)
class SamplingConfig:
    """How pictures are drawn from noise. The defaults are what measured best: see ``docs/ablations.md``.

    Args:
        guidance: the scale ``w`` of ``(1 + w) * cond - w * uncond``; 0 is none, larger follows the words
            more closely and varies less.
        interval: the times t, from 0 (picture) to 1 (noise), between which guidance acts. None: those of the noise
            levels ``GUIDED_LEVELS`` where it leans towards the words; all times where it does not, so that -1 is a
            picture without words.
        rescale: share of the loss of contrast by which guided predictions are brought back, in [0, 1].
        threshold: how predicted pictures are kept in range, one of ``THRESHOLDS``.
        steps: denoising steps; each is one (guided) network call, with ``heun`` two. Where a second model enlarges the
            pictures, they are the first one's.
        sampler: one of ``SAMPLERS``; see ``captionless.diffusion.samplers``.
        spacing: of the noise levels, one of ``SPACINGS``; see ``captionless.diffusion.schedules``.
        eta: how much fresh noise ``ddim`` (0: none, its default), ``dpmpp-2m-sde`` and ``euler-ancestral`` (1) add.
        churn: the ``S_churn`` of ``heun`` and ``euler``; 0 by default.
        variance: of ``ddpm``'s steps: ``lower`` (the posterior's, its default) or ``upper`` (beta).
        bridge: one of ``BRIDGES``; see ``captionless.conditioning.bridge``.
        precision: ``auto``, ``float32`` or ``bf16``.
        batch: pictures computed together; changes memory and speed, not the pictures.
    """

    guidance: float = 5.0
    interval: tuple[float, float] | None = None
    rescale: float = 0.0
    threshold: str = "static"
    steps: int = 15
    sampler: str = "dpmpp-2m"
    spacing: str = "even"
    eta: float | None = None
    churn: float | None = None
    variance: str | None = None
    bridge: str = "nearest"
    precision: str = "auto"
    batch: int = 32

    def __post_init__(self) -> None:
        """Refuse values before any work is done."""
        if self.steps < 1:
            raise CaptionlessError(f"a picture needs at least 1 sampling step, not {self.steps}. Try --steps 20.")
        if self.batch < 1:
            raise CaptionlessError(f"a batch must hold at least 1 picture, not {self.batch}.")
        if not abs(self.guidance) <= 100:
            raise CaptionlessError(f"--guidance must be a number from -100 to 100, not {self.guidance}. Try 5.")
        low, high = self.interval or (0.0, 1.0)
        if not 0 <= low < high <= 1:
            raise CaptionlessError(
                f"--guidance-interval must be two times with 0 <= low < high <= 1, not {low},{high}. Try 0.1,0.9."
            )
        if not 0 <= self.rescale <= 1:
            raise CaptionlessError(f"--guidance-rescale must lie in [0, 1], not {self.rescale}. Try 0.7.")
        one_of("sampler", self.sampler, SAMPLERS)
        one_of("bridge", self.bridge, BRIDGES)
        one_of("precision", self.precision, PRECISIONS)
        one_of("spacing", self.spacing, SPACINGS)
        one_of("threshold", self.threshold, THRESHOLDS)
        self._check_options()

    def _check_options(self) -> None:
        for name in self.options:
            if self.sampler not in OPTIONS[name]:
                raise CaptionlessError(
                    f"the sampler {self.sampler} has no --{name}. Leave it out, or choose --sampler "
                    f"{' or '.join(OPTIONS[name])}."
                )
        if self.variance is not None:
            one_of("variance", self.variance, VARIANCES)
        for name, highest in (("eta", 1.0), ("churn", 100.0)):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= highest:
                raise CaptionlessError(f"--{name} must lie from 0 to {highest:.0f}, not {value}.")

    @property
    def options(self) -> dict[str, Any]:
        """The options that were chosen for the sampler."""
        return {name: value for name in OPTIONS if (value := getattr(self, name)) is not None}


def enlarging(sampling: SamplingConfig) -> SamplingConfig:
    """Return how the second model of a cascade paints where the first one paints as ``sampling`` says.

    The small picture has settled what the words ask for: guidance towards them has nothing to add. A scale of -1,
    a picture without words, leaves them out here too.
    """
    return SamplingConfig(
        guidance=min(0.0, max(-1.0, sampling.guidance)),
        steps=ENLARGING_STEPS,
        threshold=sampling.threshold,
        precision=sampling.precision,
        batch=sampling.batch,
    )
