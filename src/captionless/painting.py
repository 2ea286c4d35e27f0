"""The reverse process at work: conditions and seeds in, pixels out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from PIL import Image
from torch import Tensor

from captionless.checkpoint import ModelConfig
from captionless.denoiser import Denoiser
from captionless.editing import Edit, keep_outside, mask_tensor, photo_tensor
from captionless.errors import CaptionlessError
from captionless.guidance import Guidance, Part, guided_denoiser
from captionless.precision import autocast, resolve_precision
from captionless.samplers import SAMPLERS, Callback, Reverse
from captionless.sampling import GUIDED_LEVELS, Sampling
from captionless.schedule import Schedule, add_noise, karras_times, sampling_times, time_at

TRACE = 0.05
"""An ``alpha`` so small at the start is not a picture."""

OnProgress = Callable[[int, int], None]
"""Called with (pictures done, pictures in all)."""


@torch.inference_mode()
def paint(
    denoiser: Denoiser,
    config: ModelConfig,
    parts: Sequence[Part] | Tensor,
    seeds: Sequence[int],
    sampling: Sampling | None = None,
    *,
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
        negative: conditions (n, d) in place of the null condition.
        edit: a photograph to begin from.
        on_progress: called after each batch.
        on_step: sees every step of every batch; see ``captionless.samplers``.

    Returns:
        uint8 (n, channels, size, size), on the CPU.
    """
    parts = [Part(parts)] if torch.is_tensor(parts) else list(parts)
    if not len(seeds) or any(len(part.condition) != len(seeds) for part in parts):
        count = len(parts[0].condition) if parts else 0
        raise CaptionlessError(f"{count} conditions and {len(seeds)} seeds: give one seed a condition.")
    sampling = sampling or Sampling()
    device = next(denoiser.parameters()).device
    precision = resolve_precision(sampling.precision, device)
    done: list[Tensor] = []
    for start in range(0, len(seeds), sampling.batch):
        rows = slice(start, start + sampling.batch)
        few = [replace(part, condition=part.condition[rows].to(device)) for part in parts]
        avoid = None if negative is None else negative[rows].to(device)
        with autocast(precision, device), exact_convolutions(precision, device):
            done.append(to_bytes(_paint_batch(denoiser, config, few, seeds[rows], sampling, avoid, edit, on_step)))
        if on_progress:
            on_progress(min(start + sampling.batch, len(seeds)), len(seeds))
    return torch.cat(done)


def _paint_batch(
    denoiser: Denoiser,
    config: ModelConfig,
    parts: Sequence[Part],
    seeds: Sequence[int],
    sampling: Sampling,
    negative: Tensor | None,
    edit: Edit | None,
    on_step: Callback | None,
) -> Tensor:
    device, channels, schedule = parts[0].condition.device, denoiser.config.channels, config.schedule
    started = [initial_noise(seed, channels, config.size) for seed in seeds]
    x = torch.stack([noise for noise, _ in started]).to(device)
    shape = x.shape[1:]

    def noise() -> Tensor:
        return torch.stack([torch.randn(shape, generator=generator) for _, generator in started]).to(device)

    start = edit.start if edit else 1.0
    interval = guided_times(sampling, schedule, start)
    guidance = Guidance(sampling.guidance, interval, sampling.rescale, sampling.threshold)
    denoise = guided_denoiser(denoiser, schedule, parts, guidance, prediction=config.prediction, negative=negative)
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
    reverse = Reverse(denoise, schedule, times, noise, on_step, pure)
    return SAMPLERS[sampling.sampler](x, reverse, **sampling.options)


def guided_times(sampling: Sampling, schedule: Schedule, start: float = 1.0) -> tuple[float, float]:
    """Return the times between which guidance acts; see ``Sampling.interval``.

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


def _times(schedule: Schedule, sampling: Sampling, start: float) -> Tensor:
    if sampling.spacing == "karras":
        return karras_times(schedule, sampling.steps, start)
    return sampling_times(sampling.steps, start)


def initial_noise(seed: int, channels: int, size: int) -> tuple[Tensor, torch.Generator]:
    """Return the noise (channels, size, size) that a seed's picture starts from, and its generator.

    Always drawn on the CPU, so that a seed means the same noise on every machine.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(channels, size, size, generator=generator), generator


def exact_convolutions(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Return the context in which float32 on CUDA is float32: by default, convolutions round to TF32's 10 bits."""
    if precision == "float32" and device.type == "cuda":
        return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    return nullcontext()


def to_bytes(x: Tensor) -> Tensor:
    """Map pictures in [-1, 1] to uint8 (n, channels, size, size) on the CPU."""
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()


def to_images(pixels: Tensor) -> list[Image.Image]:
    """Turn uint8 (n, channels, size, size) into PIL images, grey where there is one channel."""
    arrays = pixels.permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array) for array in arrays]
