"""The sampling settings, with the defaults of both the library and the command line."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import ValidationInfo, field_validator

from captionless.config.base import Config, setting
from captionless.config.limits import MAX_BATCH, MAX_SAMPLES, MAX_SAMPLING_STEPS
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
"""For each sampler-specific option, the samplers that accept it."""


class SamplingConfig(Config):
    """Settings for sampling images from noise. The defaults gave the best results in ``docs/ablations.md``."""

    guidance: float = setting(
        3.0,
        "Guidance scale w of (1+w)·cond − w·uncond: 0 turns guidance off; a larger scale follows the prompt more "
        "closely but reduces variety.",
        panel="Guidance",
        ge=-100,
        le=100,
    )
    guidance_interval: tuple[float, float] | None = setting(
        None,
        "Interval of times, from 0 (image) to 1 (noise), in which guidance is applied.",
        shown="the times of `guidance_levels`; 0,1 if `guidance` is 0 or less",
        example=(0.1, 0.9),
    )
    guidance_levels: tuple[float, float] = setting(
        (0.06, 6.27),
        "Interval of noise levels sigma/alpha in which guidance is applied, unless `guidance_interval` is given; on "
        "the cosine schedule this is the time interval from 0.04 to 0.9.",
    )
    perturbed_attention: float = setting(
        0.3,
        "Noise level sigma/alpha above which guidance also moves away from the prediction that the network makes with "
        "its self-attention disabled on coarse feature maps (arXiv:2403.17377). Objects get an orderly form, and at "
        "low noise levels a smoother texture. A high level, such as 1000, turns it off.",
        ge=0,
        example=0.5,
    )
    guidance_rescale: float = setting(
        0.0,
        "Share of the contrast increase caused by guidance that is removed (arXiv:2305.08891).",
        ge=0,
        le=1,
        example=0.7,
    )
    threshold: Threshold = setting("static", "How the predicted x0 is limited to the pixel range.")
    steps: int = setting(
        15,
        "Denoising steps; `sampler=heun` takes two network calls per step.",
        panel="Sampling",
        ge=1,
        le=MAX_SAMPLING_STEPS,
        example=20,
    )
    sampler: Sampler = setting("dpmpp-2m", "The sampling algorithm.")
    spacing: Spacing = setting("even", "How the steps are spaced between noise and image.")
    eta: float | None = setting(
        None,
        "Amount of fresh noise per step, for the samplers ddim, dpmpp-2m-sde and euler-ancestral.",
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
        None, "Variance of each step of ddpm: the posterior variance (lower) or beta (upper).", shown="lower"
    )
    precision: Precision = setting(
        "auto", "Number format; auto selects bf16 if the processor supports it natively, else float32."
    )
    batch: int = setting(
        32, "Images per network call; affects memory use and speed, but not the images.", ge=1, le=MAX_BATCH
    )
    variety: float = setting(
        0.35,
        "How much the content varies between images of the same prompt: with 0 all have the same condition, with 1 "
        "each uses the vector of a single training image, drawn from those that match the prompt.",
        panel="From text to image vectors",
        ge=0,
        le=1,
    )
    bridge: Bridge = setting(
        "nearest",
        "How a text vector is converted to a condition: `nearest` draws a mixture of the vectors of training images "
        "that match the prompt, `mean` adds the difference between the image and text means, `none` uses it unchanged.",
    )
    neighbours: int = setting(
        32,
        "Maximum effective number of training images in a mixture of `bridge=nearest`; a larger number averages out "
        "the peculiarities of individual images.",
        ge=1,
        le=MAX_SAMPLES,
    )
    mean_shift_iterations: int = setting(
        4,
        "Mean-shift iterations of `bridge=nearest`, each a new search from the prompt and the mean of the images "
        "found. More iterations discard outliers more reliably but lose detail.",
        ge=0,
        le=1_000,
    )
    size: int | None = setting(
        None,
        "Side of the images in pixels: of a model with a super-resolution stage, the size of its base model stops "
        "before that stage.",
        shown="the model's size",
        example=64,
        panel="Super-resolution",
    )
    upsample_steps: int = setting(8, "Denoising steps of a super-resolution stage.", ge=1, le=MAX_SAMPLING_STEPS)
    upsample_noise: float = setting(
        0.05,
        "Standard deviation of the noise added to the low-resolution input of a super-resolution stage (pixels in "
        "[-1, 1]); the noise hides small flaws.",
        ge=0,
        le=1,
    )

    @field_validator("guidance_interval", "guidance_levels")
    @classmethod
    def _check_order(cls, value: tuple[float, float] | None, info: ValidationInfo) -> tuple[float, float] | None:
        low, high = value or (0.0, 1.0)
        if info.field_name == "guidance_interval" and not 0 <= low < high <= 1:
            raise ValueError(
                f"`guidance_interval` must be a pair of diffusion times low,high with 0 <= low < high <= 1, not "
                f"{low},{high}. Try `guidance_interval=0.1,0.9`."
            )
        if info.field_name == "guidance_levels" and not 0 < low < high:
            raise ValueError(
                f"`guidance_levels` must be a pair of noise levels low,high with 0 < low < high, not {low},{high}. "
                "Leave `guidance_levels` out to use the default."
            )
        return value

    @field_validator(*OPTIONS)
    @classmethod
    def _check_option(cls, value: Any, info: ValidationInfo) -> Any:
        known = OPTIONS[str(info.field_name)]
        if value is not None and info.data.get("sampler") not in known:
            raise ValueError(
                f"the sampler {info.data.get('sampler')} does not accept `{info.field_name}`. Leave it out, or choose "
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
            raise ValueError(
                f"`variety` has no effect with `bridge={value}`. Leave it out, or choose `bridge=nearest`."
            )
        return value

    @property
    def options(self) -> dict[str, Any]:
        """The sampler-specific options that were given."""
        return {name: value for name in OPTIONS if (value := getattr(self, name)) is not None}

    def upsampling(self) -> SamplingConfig:
        """Return the sampling settings of the super-resolution stage, derived from these for the base model.

        A positive guidance scale becomes 0: the low-resolution image already shows what the prompt asks for, so
        guidance has nothing to add. A negative scale is kept, down to -1 (unconditional sampling).
        """
        return SamplingConfig(
            guidance=min(0.0, max(-1.0, self.guidance)),
            steps=self.upsample_steps,
            threshold=self.threshold,
            precision=self.precision,
            batch=self.batch,
            upsample_noise=self.upsample_noise,
        )
