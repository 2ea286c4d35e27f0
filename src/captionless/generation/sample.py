"""Sample images from a model, given condition vectors and seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from captionless.config.sampling import SamplingConfig
from captionless.data.arrays import denormalise
from captionless.device import autocast, exact_convolutions, memory_format, resolve_precision
from captionless.diffusion import super_resolution
from captionless.diffusion.guidance import Guidance, GuidedPrediction, Rows, WeightedCondition
from captionless.diffusion.reverse import ReverseProcess
from captionless.diffusion.sampler_run import SamplerRun, advance
from captionless.diffusion.samplers import SAMPLERS
from captionless.diffusion.schedules import Schedule, add_noise, karras_times, sampling_times, time_at
from captionless.errors import CaptionlessError
from captionless.generation.editing import Edit, keep_outside, mask_tensor, photo_tensor
from captionless.generation.stage import ImageStep, OnStep
from captionless.generation.stage import Stage as Stage
from captionless.progress import Progress

MAX_SEED = 2**32 - 1
"""PyTorch's CPU generator uses only 32 bits of a seed, so larger seeds would repeat images."""
TRACE = 0.05
"""If ``alpha`` at the first time is below this value, the initial state is treated as pure noise."""


@dataclass(frozen=True)
class ImageBatch:
    """A batch of images to sample with the same settings; see ``sample_batches``.

    All noise of an image comes from its own random generator. The generators are on the CPU, so that a seed gives the
    same noise on every machine.
    """

    prompts: Sequence[WeightedCondition]
    generators: Sequence[torch.Generator]
    config: SamplingConfig
    negative: Tensor | None = None
    edit: Edit | None = None

    def noise(self, channels: int, side: int) -> Tensor:
        """Draw new noise for each image from its generator, (n, channels, side, side)."""
        rows = [torch.randn(channels, side, side, generator=generator) for generator in self.generators]
        return torch.stack(rows).to(self.prompts[0].condition.device)


def sample(
    stages: Sequence[Stage],
    prompts: Sequence[WeightedCondition] | Tensor,
    seeds: Sequence[int],
    config: SamplingConfig | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Return all images of ``sample_batches`` as one tensor; ``progress`` receives the number of finished images."""
    done: list[Tensor] = []
    for pixels in sample_batches(stages, prompts, seeds, config):
        done.append(pixels)
        if progress:
            progress.advance("Sampling", sum(map(len, done)), len(seeds))
    return torch.cat(done)


@torch.inference_mode()
def sample_batches(
    stages: Sequence[Stage],
    prompts: Sequence[WeightedCondition] | Tensor,
    seeds: Sequence[int],
    config: SamplingConfig | None = None,
    *,
    negative: Tensor | None = None,
    edit: Edit | None = None,
    on_step: OnStep | None = None,
) -> Iterator[Tensor]:
    """Sample one image per seed, batch by batch. The image for a seed does not depend on the batch.

    Args:
        stages: the base stage, followed by its super-resolution stage if there is one.
        prompts: weighted conditions, or a tensor of condition vectors (n, d); zeros sample unconditionally.
        seeds: n integers.
        config: the sampling settings.
        negative: conditions to guide away from, in place of the null condition, (n, d).
        edit: a photograph to edit.
        on_step: called after every step of every batch. Steps are numbered consecutively through all stages, and their
            images are resized to the size of the last stage.

    Yields:
        The images of each batch, uint8, (n, channels, size, size), on the CPU.

    Raises:
        CaptionlessError: the numbers of conditions and seeds differ or are 0, or no stage has the requested size.
    """
    prompts = [WeightedCondition(prompts)] if torch.is_tensor(prompts) else list(prompts)
    count = len(prompts[0].condition)
    if not count or count != len(seeds):
        raise CaptionlessError(
            f"there are {count} conditions and {len(seeds)} seeds. Pass one seed per condition, and at least one."
        )
    config = config or SamplingConfig()
    stages = stages_up_to(stages, config.size)
    device = next(stages[0].denoiser.parameters()).device
    precision = resolve_precision(config.precision, device)
    for start in range(0, len(seeds), config.batch):
        rows = slice(start, start + config.batch)
        batch = image_batch(rows, prompts, seeds, config, negative, edit, device)
        with autocast(precision, device), exact_convolutions(precision, device):
            pixels = denormalise(_sample_batch(stages, batch, on_step))
        yield pixels


def image_batch(
    rows: slice,
    prompts: Sequence[WeightedCondition],
    seeds: Sequence[int],
    config: SamplingConfig,
    negative: Tensor | None,
    edit: Edit | None,
    device: torch.device,
) -> ImageBatch:
    """Return some of the images that ``sample_batches`` is asked for, with new random generators, on a device."""
    return ImageBatch(
        [replace(prompt, condition=prompt.condition[rows].to(device)) for prompt in prompts],
        [torch.Generator().manual_seed(seed) for seed in seeds[rows]],
        config,
        None if negative is None else negative[rows].to(device),
        edit,
    )


def stages_up_to(stages: Sequence[Stage], size: int | None) -> list[Stage]:
    """Return the first stages, up to the one whose images have ``size`` pixels a side; all of them for None.

    Raises:
        CaptionlessError: no stage has this size.
    """
    sizes = [stage.config.size for stage in stages]
    if size is None:
        return list(stages)
    if size not in sizes:
        raise CaptionlessError(
            f"the model generates images of {' or '.join(map(str, sizes))} pixels, not {size}. Leave `size` out, or "
            f"choose {' or '.join(f'`size={each}`' for each in sizes)}.",
            parameter="size",
            value=size,
        )
    return list(stages[: sizes.index(size) + 1])


def _sample_batch(stages: Sequence[Stage], batch: ImageBatch, on_step: OnStep | None) -> Tensor:
    """Return the images of a batch, in about [-1, 1], (n, channels, size, size)."""
    run, size = BatchRun(stages, batch), stages[-1].config.size
    while run.images is None:
        (step,) = advance([run], run.stage.network)
        if step and on_step:
            on_step(step.resized(size))
    return run.images


class BatchRun:
    """A batch of images in progress, from the noise of the first stage to the images of the last.

    Like a ``SamplerRun``, it takes part in ``advance``, with the network of its ``stage``. ``images`` is None until the
    last step of the last stage. Steps are numbered consecutively through all stages.
    """

    def __init__(self, stages: Sequence[Stage], batch: ImageBatch) -> None:
        self.stage, *self._later = stages
        self.images: Tensor | None = None
        self._batch, self._before = batch, 0
        self._run = start_stage(self.stage, batch)

    @property
    def row_count(self) -> int:
        """The number of rows that ``rows`` returns."""
        return self._run.row_count

    def rows(self) -> Rows:
        """Return the network inputs for the next prediction."""
        return self._run.rows()

    def receive(self, output: Tensor) -> ImageStep | None:
        """Continue with the network output for ``rows``; after the last step of a stage, start the next."""
        step = self._run.receive(output)
        seen = step and ImageStep(self._before + step.number, step, self.stage.space.decode)
        if self._run.images is None:
            return seen
        images = end_stage(self.stage, self._run.images, self._batch)
        if not self._later:
            self.images = images
        else:
            self.stage, *self._later = self._later
            self._before += self._batch.config.steps
            self._batch = replace(self._batch, config=self._batch.config.upsampling())
            self._run = start_stage(self.stage, self._batch, low_res_input(self.stage, images, self._batch))
        return seen


def start_stage(stage: Stage, batch: ImageBatch, low_res: Tensor | None = None) -> SamplerRun:
    """Start sampling a batch with one stage; a super-resolution stage also needs ``low_res_input``."""
    model, config, edit = stage.config, batch.config, batch.edit
    channels, schedule = model.denoiser.channels, model.schedule

    def noise() -> Tensor:
        return batch.noise(channels, model.side)

    x, start = noise(), edit.start if edit else 1.0
    constrain: Callable[[Tensor], Tensor] | None = None
    guidance = guidance_of(config, schedule, start)
    prediction = GuidedPrediction(
        schedule, batch.prompts, guidance, prediction=model.prediction, negative=batch.negative
    )
    if config.spacing == "karras":
        times = karras_times(schedule, config.steps, start)
    else:
        times = sampling_times(config.steps, start)
    # Not pure noise if alpha is large, for example at the end of a short linear schedule.
    pure = start == 1 and float(schedule.alpha_sigma(times[0])[0]) < TRACE
    if edit is not None:
        known = stage.space.encode(_photo(stage, edit).to(x.device)[None])[0]
        if start < 1:
            x = add_noise(schedule, known.expand_as(x), x, times[:1].to(x).expand(len(x)))
        if edit.mask is not None:  # a position is sampled if any of its pixels is
            mask = F.max_pool2d(mask_tensor(edit.mask, model.size), model.factor)
            constrain = keep_outside(known, mask.to(x.device))
    x = x.to(memory_format=memory_format(x.device))
    process = ReverseProcess(schedule, times, noise, pure)
    return SamplerRun(SAMPLERS[config.sampler](x, process, **config.options), prediction, low_res, constrain)


def end_stage(stage: Stage, x0: Tensor, batch: ImageBatch) -> Tensor:
    """Return the images of a stage, in about [-1, 1], given what its sampler returned."""
    images, edit = stage.space.decode(x0), batch.edit
    if edit is None or edit.mask is None:
        return images
    mask = mask_tensor(edit.mask, stage.config.size)
    return stage.space.keep(images, _photo(stage, edit).to(images.device), mask.to(images.device))


def _photo(stage: Stage, edit: Edit) -> Tensor:
    return photo_tensor(edit.photo, stage.config.size, stage.config.image_channels)


def low_res_input(stage: Stage, images: Tensor, batch: ImageBatch) -> Tensor:
    """Return the low-resolution input channels of a super-resolution stage, given the images of the base stage."""
    small = images.clamp(-1, 1)
    level = torch.full((len(small),), batch.config.upsample_noise, device=small.device)
    return super_resolution.low_res_channels(small, stage.config.size, level, batch.noise(*small.shape[1:3]))


def guidance_of(config: SamplingConfig, schedule: Schedule, start: float = 1.0) -> Guidance:
    """Return the guidance of a stage with this schedule, for denoising from time ``start``."""
    perturbed = start * _time(config.perturbed_attention, schedule)
    interval = guided_times(config, schedule, start)
    return Guidance(config.guidance, interval, config.guidance_rescale, config.threshold, perturbed)


def guided_times(config: SamplingConfig, schedule: Schedule, start: float = 1.0) -> tuple[float, float]:
    """Return the interval of times at which guidance is applied.

    This is ``config.guidance_interval`` if given. Otherwise it consists of the times with the noise levels
    ``config.guidance_levels``, scaled by the time ``start`` at which sampling starts.
    """
    if config.guidance_interval is not None:
        return config.guidance_interval
    if config.guidance <= 0:
        return 0.0, 1.0
    low, high = (_time(level, schedule) for level in config.guidance_levels)
    return start * low, start * high


def _time(level: float, schedule: Schedule) -> float:
    """Return the time with the noise level sigma/alpha."""
    return float(time_at(schedule, -2 * torch.tensor(level, dtype=torch.float64).log())) if level else 0.0


def to_images(pixels: Tensor) -> list[Image.Image]:
    """Convert a uint8 tensor, (n, channels, size, size), to PIL images, in mode RGB or L."""
    arrays = pixels.permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array) for array in arrays]
