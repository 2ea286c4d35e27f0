"""The reverse process at work: conditions and seeds in, pixels out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from captionless.checkpoints.config import ModelConfig
from captionless.config.sampling import GUIDED_LEVELS, SamplingConfig, enlarging
from captionless.data.arrays import denormalise
from captionless.device import autocast, resolve_precision
from captionless.diffusion import super_resolution as cascade
from captionless.diffusion.guidance import Guidance, Part, guided_denoiser
from captionless.diffusion.objective import Network
from captionless.diffusion.samplers import SAMPLERS, Callback, Reverse
from captionless.diffusion.schedules import Schedule, add_noise, karras_times, sampling_times, time_at
from captionless.errors import CaptionlessError
from captionless.generation.editing import Edit, keep_outside, mask_tensor, photo_tensor
from captionless.models.unet import Denoiser

TRACE = 0.05
"""An ``alpha`` so small at the start is not a picture."""


@dataclass(frozen=True)
class Stage:
    """A denoiser and how it is to be used: one of a cascade.

    Args:
        denoiser: on the device that computes.
        config: its model's.
    """

    denoiser: Denoiser
    config: ModelConfig


OnProgress = Callable[[int, int], None]
"""Called with (pictures done, pictures in all)."""


@torch.inference_mode()
def paint(
    denoiser: Denoiser,
    config: ModelConfig,
    parts: Sequence[Part] | Tensor,
    seeds: Sequence[int],
    sampling: SamplingConfig | None = None,
    *,
    small: Stage | None = None,
    negative: Tensor | None = None,
    edit: Edit | None = None,
    on_progress: OnProgress | None = None,
    on_step: Callback | None = None,
) -> Tensor:
    """Run the reverse process once for each seed.

    Args:
        denoiser: on the device that computes.
        config: the model's: size, schedule and prediction count here.
        parts: what each picture is to show, conditions (n, d); a plain tensor is one part. Zeros paint unconditionally.
        seeds: n whole numbers.
        sampling: how.
        small: paints the small pictures that this one enlarges, where it does.
        negative: conditions (n, d) in place of the null condition.
        edit: a photograph to begin from.
        on_progress: called after each batch.
        on_step: sees every step of every batch; see ``captionless.diffusion.samplers``.

    Returns:
        uint8 (n, channels, size, size), on the CPU.
    """
    parts = [Part(parts)] if torch.is_tensor(parts) else list(parts)
    if not len(seeds) or any(len(part.condition) != len(seeds) for part in parts):
        count = len(parts[0].condition) if parts else 0
        raise CaptionlessError(f"{count} conditions and {len(seeds)} seeds: give one seed a condition.")
    sampling = sampling or SamplingConfig()
    device = next(denoiser.parameters()).device
    precision = resolve_precision(sampling.precision, device)
    done: list[Tensor] = []
    for start in range(0, len(seeds), sampling.batch):
        rows = slice(start, start + sampling.batch)
        few = [replace(part, condition=part.condition[rows].to(device)) for part in parts]
        avoid = None if negative is None else negative[rows].to(device)
        with autocast(precision, device), exact_convolutions(precision, device):
            job = _Job(few, sampling, avoid, edit, [seeded(seed) for seed in seeds[rows]], on_step)
            done.append(denormalise(_sample_batch(Stage(denoiser, config), small, job)))
        if on_progress:
            on_progress(min(start + sampling.batch, len(seeds)), len(seeds))
    return torch.cat(done)


@dataclass(frozen=True)
class _Job:
    """What is to be painted in one batch; for the other arguments see ``paint``.

    Args:
        generators: one a picture, of all its noise.
    """

    parts: Sequence[Part]
    sampling: SamplingConfig
    negative: Tensor | None
    edit: Edit | None
    generators: Sequence[torch.Generator]
    on_step: Callback | None

    def noise(self, channels: int, size: int) -> Tensor:
        """Draw noise (n, channels, size, size), on the CPU, so that a seed means the same on every machine."""
        return torch.stack([torch.randn(channels, size, size, generator=one) for one in self.generators])


def _sample_batch(stage: Stage, small: Stage | None, job: _Job) -> Tensor:
    """Return pictures, (n, channels, size, size), in about [-1, 1]."""
    if (small is None) != (stage.config.base_size is None):
        raise CaptionlessError("a model that enlarges needs the model of small pictures beside it, and no other does.")
    if small is None:
        return _reverse(stage, stage.denoiser, job)
    # The large noisy picture is all that a film can show of both: its frames are of one size.
    size, steps, told = stage.config.size, job.sampling.steps, job.on_step
    first = replace(job, on_step=told and (lambda step, t, x, x0: told(step, t, _blocks(x, size), _blocks(x0, size))))
    view = _reverse(small, small.denoiser, first).clamp(-1, 1)
    level = torch.full((len(view),), cascade.SAMPLED_NOISE, device=view.device)
    eps = job.noise(*view.shape[1:3]).to(view.device)
    network = cascade.looking_at(stage.denoiser, cascade.shown_beside(view, size, level, eps))
    then = replace(
        job,
        sampling=enlarging(job.sampling),
        on_step=told and (lambda step, t, x, x0: told(steps + step, t, x, x0)),
    )
    return _reverse(stage, network, then)


def _blocks(x: Tensor, size: int) -> Tensor:
    return torch.nn.functional.interpolate(x, size=size, mode="nearest")


def _reverse(stage: Stage, network: Network, job: _Job) -> Tensor:
    """Run the reverse process of one stage; ``network`` is its denoiser, or that with a small picture to look at."""
    config, sampling, edit = stage.config, job.sampling, job.edit
    device, channels, schedule = job.parts[0].condition.device, stage.denoiser.config.channels, config.schedule

    def noise() -> Tensor:
        return job.noise(channels, config.size).to(device)

    x = noise()
    start = edit.start if edit else 1.0
    interval = guided_times(sampling, schedule, start)
    guidance = Guidance(sampling.guidance, interval, sampling.rescale, sampling.threshold)
    denoise = guided_denoiser(
        network, schedule, job.parts, guidance, prediction=config.prediction, negative=job.negative
    )
    times = _times(schedule, sampling, start)
    # Noise alone, unless much of a picture is to be expected there, as at the end of a short linear schedule.
    pure = start == 1 and float(schedule.alpha_sigma(times[0])[0]) < TRACE
    if edit is not None:
        known = photo_tensor(edit.photo, config.size, channels).to(device)
        if start < 1:
            x = add_noise(schedule, known.expand_as(x), x, times[:1].to(x).expand(len(x)))
        if edit.mask is not None:
            denoise = keep_outside(denoise, known, mask_tensor(edit.mask, config.size).to(device))
    if device.type != "mps":  # as in precision.to_device
        x = x.to(memory_format=torch.channels_last)
    reverse = Reverse(denoise, schedule, times, noise, job.on_step, pure)
    return SAMPLERS[sampling.sampler](x, reverse, **sampling.options)


def guided_times(sampling: SamplingConfig, schedule: Schedule, start: float = 1.0) -> tuple[float, float]:
    """Return the times between which guidance acts; see ``SamplingConfig.interval``.

    Args:
        sampling: how pictures are drawn.
        schedule: whose times they are: where none were chosen, they lie at the noise levels ``GUIDED_LEVELS``.
        start: the time that drawing begins at, to which they are scaled.
    """
    if sampling.interval is not None:
        return sampling.interval
    if sampling.guidance <= 0:
        return 0.0, 1.0
    low, high = time_at(schedule, -2 * torch.tensor(GUIDED_LEVELS, dtype=torch.float64).log()).tolist()
    return start * low, start * high


def _times(schedule: Schedule, sampling: SamplingConfig, start: float) -> Tensor:
    if sampling.spacing == "karras":
        return karras_times(schedule, sampling.steps, start)
    return sampling_times(sampling.steps, start)


def seeded(seed: int) -> torch.Generator:
    """Return the generator of all the noise of a picture; on the CPU, whatever computes."""
    return torch.Generator().manual_seed(seed)


def exact_convolutions(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Return the context in which float32 on CUDA is float32: by default, convolutions round to TF32's 10 bits."""
    if precision == "float32" and device.type == "cuda":
        return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    return nullcontext()


def to_images(pixels: Tensor) -> list[Image.Image]:
    """Turn uint8 (n, channels, size, size) into PIL images, grey where there is one channel."""
    arrays = pixels.permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array) for array in arrays]
