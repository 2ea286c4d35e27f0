"""The sampling settings: the one source of these defaults for library, command line and records."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import ValidationInfo, field_validator

from captionless.config.base import Config, setting
from captionless.device import Precision

Sampler = Literal["dpmpp-2m", "unipc", "dpmpp-2m-sde", "heun", "euler", "euler-ancestral", "ddim", "ddpm"]
Bridge = Literal["nearest", "mean", "none"]
Spacing = Literal["even", "karras"]
Threshold = Literal["static", "dynamic", "none"]
Variance = Literal["lower", "upper"]
BRIDGES: tuple[Bridge, ...] = get_args(Bridge)

OPTIONS: dict[str, tuple[Sampler, ...]] = {
    "eta": ("ddim", "dpmpp-2m-sde", "euler-ancestral"),
    "churn": ("heun", "euler"),
    "variance": ("ddpm",),
}
"""The samplers that have an option; the others refuse it."""


class SamplingConfig(Config):
    """The settings for sampling images from noise. The defaults are what measured best: see ``docs/ablations.md``."""

    guidance: float = setting(
        5.0,
        "Guidance scale w of (1+w)·cond − w·uncond: 0 is no guidance; a larger scale follows the prompt more closely "
        "and varies less.",
        panel="Guidance",
        ge=-100,
        le=100,
    )
    guidance_interval: tuple[float, float] | None = setting(
        None,
        "Times, from 0 (image) to 1 (noise), between which guidance acts.",
        shown="the times of `guidance_levels`; 0,1 with a scale of 0 or less",
        example=(0.1, 0.9),
    )
    guidance_levels: tuple[float, float] = setting(
        (0.16, 6.27),
        "Noise levels sigma/alpha between which guidance acts unless `guidance_interval` is given; on the cosine "
        "schedule these are the times from 0.1 to 0.9.",
    )
    guidance_rescale: float = setting(
        0.0, "Share of the contrast added by guidance that is taken back (arXiv:2305.08891).", ge=0, le=1, example=0.7
    )
    threshold: Threshold = setting("static", "How predicted images are kept in the range of pixels.")
    steps: int = setting(
        15, "Denoising steps; with `sampler=heun` each takes two network calls.", panel="Sampling", ge=1, example=20
    )
    sampler: Sampler = setting("dpmpp-2m", "The sampling algorithm.")
    spacing: Spacing = setting("even", "How the steps are spaced between noise and image.")
    eta: float | None = setting(
        None,
        "Fresh noise per step, for the samplers ddim, dpmpp-2m-sde and euler-ancestral.",
        shown="0 for ddim, else 1",
        example=1,
        ge=0,
        le=1,
    )
    churn: float | None = setting(
        None,
        "S_churn: amount of fresh noise added by the samplers heun and euler.",
        shown="0",
        example=20,
        ge=0,
        le=100,
    )
    variance: Variance | None = setting(
        None, "Variance of the steps of ddpm: the posterior's (lower) or beta (upper).", shown="lower"
    )
    precision: Precision = setting(
        "auto", "Number format; auto takes bf16 where the processor supports it natively, else float32."
    )
    batch: int = setting(32, "Images per network call; changes memory and speed, not the images.", ge=1)
    variety: float = setting(
        0.25,
        "How much the images of a prompt differ in what they show: with 0 all have the same condition, with 1 each has "
        "that of a single training image, drawn among those that agree with the prompt.",
        panel="From text to image vectors",
        ge=0,
        le=1,
    )
    bridge: Bridge = setting(
        "nearest",
        "How a text vector becomes a condition: `nearest` draws a mixture of the vectors of training images that agree "
        "with the prompt, `mean` shifts the text vector by the difference of the means, `none` uses it unchanged.",
    )
    neighbours: int = setting(
        32,
        "Largest effective number of training images in the mixtures of `bridge=nearest`; more of them average out the "
        "peculiarities of single images.",
        ge=1,
    )
    mean_shift_iterations: int = setting(
        2,
        "How often the search for these images is repeated from their mean; more iterations follow the prompt more "
        "reliably but lose detail.",
        ge=0,
    )
    upsample_steps: int = setting(8, "Denoising steps of a super-resolution stage.", panel="Super-resolution", ge=1)
    upsample_noise: float = setting(
        0.05,
        "Standard deviation of the noise on its low-resolution input (pixels in [-1, 1]), which hides small flaws.",
        ge=0,
        le=1,
    )

    @field_validator("guidance_interval", "guidance_levels")
    @classmethod
    def _check_order(cls, value: tuple[float, float] | None, info: ValidationInfo) -> tuple[float, float] | None:
        low, high = value or (0.0, 1.0)
        if info.field_name == "guidance_interval" and not 0 <= low < high <= 1:
            raise ValueError(
                f"`guidance_interval` must be two times with 0 <= low < high <= 1, not {low},{high}. Try "
                "`guidance_interval=0.1,0.9`."
            )
        if info.field_name == "guidance_levels" and not 0 < low < high:
            raise ValueError(
                f"`guidance_levels` must be two noise levels with 0 < low < high, not {low},{high}. Leave it out."
            )
        return value

    @field_validator(*OPTIONS)
    @classmethod
    def _check_option(cls, value: Any, info: ValidationInfo) -> Any:
        known = OPTIONS[str(info.field_name)]
        if value is not None and info.data.get("sampler") not in known:
            raise ValueError(
                f"the sampler {info.data.get('sampler')} has no `{info.field_name}`. Leave it out, or choose "
                f"{' or '.join(f'`sampler={other}`' for other in known)}."
            )
        return value

    @field_validator("bridge")
    @classmethod
    def _check_bridge(cls, value: Bridge, info: ValidationInfo) -> Bridge:
        if (
            value != "nearest"
            and "variety" in info.data
            and info.data["variety"] != cls.model_fields["variety"].default
        ):
            raise ValueError(f"`bridge={value}` has no `variety`. Leave it out, or choose `bridge=nearest`.")
        return value

    @property
    def options(self) -> dict[str, Any]:
        """The given options that only some samplers have."""
        return {name: value for name in OPTIONS if (value := getattr(self, name)) is not None}

    def upsampling(self) -> SamplingConfig:
        """Return the sampling settings of the super-resolution stage that go with these settings of the base model.

        The low-resolution image has settled what the prompt asks for: guidance towards it has nothing to add. A scale
        of -1, an unconditional image, leaves the prompt out here too.
        """
        return SamplingConfig(
            guidance=min(0.0, max(-1.0, self.guidance)),
            steps=self.upsample_steps,
            threshold=self.threshold,
            precision=self.precision,
            batch=self.batch,
            upsample_noise=self.upsample_noise,
        )
