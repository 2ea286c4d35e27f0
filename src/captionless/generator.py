"""From words to pictures: the object users hold."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from captionless.bridge import to_condition
from captionless.checkpoint import Model, load_model
from captionless.denoiser import Denoiser
from captionless.errors import CaptionlessError
from captionless.guidance import guided_denoiser
from captionless.precision import autocast, default_device, resolve_precision, to_device
from captionless.samplers import SAMPLERS
from captionless.sampling import Sampling
from captionless.schedule import Schedule, sampling_times

if TYPE_CHECKING:
    from captionless.encoders import Encoder

MAX_SEED = 2**32 - 1
"""PyTorch's CPU generator reads 32 bits of a seed: larger seeds would only repeat pictures."""

OnProgress = Callable[[int, int], None]
"""Called with (pictures done, pictures in all)."""


class Generator:
    """A model that paints.

        captionless.load("runs/flowers").generate(["a daisy"], n=4)

    Args:
        model: a loaded model.
        encoder: the encoder it was trained with, or the folder (or hub id) where that one is found now; by default,
            where it was found in training. Unless given as an object, it is loaded when first needed.
        device: where to compute; by default the accelerator that is there, else the CPU.
    """

    def __init__(
        self,
        model: Model,
        encoder: Encoder | str | Path | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.model = model
        self.device = torch.device(device) if device else default_device()
        self.denoiser = to_device(model.denoiser, self.device)
        self.encoder_place = str(encoder) if isinstance(encoder, str | Path) else None
        if encoder is not None and not isinstance(encoder, str | Path):
            _check_encoder(model, encoder)
            self.encoder = encoder

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder that the model was trained with.

        Raises:
            CaptionlessError: it is not found, or what was named is another one.
        """
        from captionless.encoders import load_encoder

        recorded = self.model.config.encoder.name
        try:
            encoder = load_encoder(self.encoder_place or recorded, announce=_announce)
        except CaptionlessError as error:
            if self.encoder_place:
                raise
            reason = str(error).split(". ")[0].rstrip(".")
            raise CaptionlessError(
                f"the encoder {recorded} of the model {self.model.name} cannot be loaded ({reason}). "
                "If it lies elsewhere now, name the place: --encoder FOLDER."
            ) from error
        _check_encoder(self.model, encoder)
        return encoder

    def conditions(self, prompts: Sequence[str], bridge: str = "nearest") -> Tensor:
        """Return one condition vector a prompt, (n, d), through the encoder and the bridge."""
        texts = self.encoder.encode_texts(list(prompts))
        return to_condition(texts, self.model.bank, 1 / self.model.config.encoder.logit_scale, bridge)

    def generate(
        self,
        prompts: Sequence[str] | str,
        n: int = 1,
        seed: int = 0,
        sampling: Sampling | None = None,
        on_progress: OnProgress | None = None,
    ) -> list[Image.Image]:
        """Paint ``n`` pictures of every prompt.

        Args:
            prompts: what to paint; one text or several.
            n: pictures a prompt.
            seed: picture i of a prompt (from 0) uses ``seed + i``, and is the same picture in any batch.
            sampling: guidance, steps and so on; the defaults are what measured best.
            on_progress: called with (pictures done, pictures in all).

        Returns:
            PIL images: all those of the first prompt, then of the second, and so on.

        Raises:
            CaptionlessError: no prompt, an empty one, fewer than one picture, or an impossible seed.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        images: list[Image.Image] = []
        for batch in self.stream(prompts, n, seed, sampling):
            images += batch
            if on_progress:
                on_progress(len(images), len(prompts) * n)
        return images

    def stream(
        self, prompts: Sequence[str], n: int = 1, seed: int = 0, sampling: Sampling | None = None
    ) -> Iterator[list[Image.Image]]:
        """Paint what ``generate`` paints, but hand out each batch as soon as it is done.

        All prompts are checked and encoded before the first picture is painted.
        """
        sampling = sampling or Sampling()
        check_request(prompts, n, seed)
        conditions = self.conditions(prompts, sampling.bridge)
        total = len(prompts) * n
        for start in range(0, total, sampling.batch):
            numbers = range(start, min(start + sampling.batch, total))
            seeds = [seed + i % n for i in numbers]
            yield self.paint(conditions[[i // n for i in numbers]], seeds, sampling)

    def paint(
        self,
        conditions: Tensor,
        seeds: Sequence[int],
        sampling: Sampling | None = None,
        on_progress: OnProgress | None = None,
    ) -> list[Image.Image]:
        """Paint one picture for each condition vector (n, d) and seed."""
        config = self.model.config
        pixels = paint(self.denoiser, config.schedule, conditions, seeds, config.size, sampling, on_progress)
        return to_images(pixels)


def load(
    model: str | Path = "bundled",
    encoder: Encoder | str | Path | None = None,
    device: torch.device | str | None = None,
) -> Generator:
    """Load a model folder, or ``bundled``, the flower model that ships with the package.

    Args:
        model: its name.
        encoder: the model's encoder, or the folder where it lies now; only needed where it has moved.
        device: as for ``Generator``.

    Raises:
        CaptionlessError: the folder is missing, damaged or foreign.
    """
    return Generator(load_model(model), encoder, device)


def check_request(prompts: Sequence[str], n: int, seed: int) -> None:
    """Raise unless every prompt says something and ``n`` pictures have seeds from ``seed`` on."""
    empty = next((i for i, prompt in enumerate(prompts, 1) if not prompt.strip()), None)
    if empty or not prompts:
        where = f" (number {empty} of {len(prompts)})" if len(prompts) > 1 else ""
        raise CaptionlessError(f'an empty prompt{where} paints nothing. Say what to paint, such as "a red rose".')
    if n < 1:
        raise CaptionlessError(f"-n must be at least 1, not {n}.")
    if not 0 <= seed <= MAX_SEED - n + 1:
        raise CaptionlessError(f"--seed must be a whole number from 0 to {MAX_SEED - n + 1}, not {seed}.")


def initial_noise(seed: int, channels: int, size: int) -> tuple[Tensor, torch.Generator]:
    """Return the noise (channels, size, size) that a seed's picture starts from, and its generator.

    Always drawn on the CPU, so that a seed means the same noise on every machine.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(channels, size, size, generator=generator), generator


@torch.inference_mode()
def paint(
    denoiser: Denoiser,
    schedule: Schedule,
    conditions: Tensor,
    seeds: Sequence[int],
    size: int,
    sampling: Sampling | None = None,
    on_progress: OnProgress | None = None,
) -> Tensor:
    """Run the reverse process once for each condition and seed.

    Args:
        denoiser: on the device that computes.
        schedule: its noise schedule.
        conditions: (n, d); zeros paint unconditionally.
        seeds: n whole numbers.
        size: side of the pictures.
        sampling: how.
        on_progress: called after each batch.

    Returns:
        uint8 (n, channels, size, size), on the CPU.
    """
    if not len(seeds) or len(conditions) != len(seeds):
        raise CaptionlessError(f"{len(conditions)} conditions and {len(seeds)} seeds: give one seed a condition.")
    sampling = sampling or Sampling()
    device = next(denoiser.parameters()).device
    precision = resolve_precision(sampling.precision, device)
    done: list[Tensor] = []
    for start in range(0, len(seeds), sampling.batch):
        part = slice(start, start + sampling.batch)
        with autocast(precision, device), exact_convolutions(precision, device):
            x = _paint_batch(denoiser, schedule, conditions[part].to(device), seeds[part], size, sampling)
        done.append(to_bytes(x))
        if on_progress:
            on_progress(min(start + sampling.batch, len(seeds)), len(seeds))
    return torch.cat(done)


def exact_convolutions(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Return the context in which float32 on CUDA is float32: by default, convolutions round to TF32's 10 bits."""
    if precision == "float32" and device.type == "cuda":
        return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    return nullcontext()


def _paint_batch(
    denoiser: Denoiser, schedule: Schedule, conditions: Tensor, seeds: Sequence[int], size: int, sampling: Sampling
) -> Tensor:
    device = conditions.device
    started = [initial_noise(seed, denoiser.config.channels, size) for seed in seeds]
    x = torch.stack([noise for noise, _ in started])
    shape = x.shape[1:]

    def noise() -> Tensor:
        return torch.stack([torch.randn(shape, generator=generator) for _, generator in started]).to(device)

    denoise = guided_denoiser(denoiser, schedule, conditions, sampling.guidance)
    # Pure noise at t = 1 is not quite the schedule's xt (a trace of picture is left), but within rounding of it.
    x = x.to(device)
    if device.type != "mps":  # as in precision.to_device
        x = x.to(memory_format=torch.channels_last)
    return SAMPLERS[sampling.sampler](denoise, x, sampling_times(sampling.steps), schedule, noise)


def to_bytes(x: Tensor) -> Tensor:
    """Map pictures in [-1, 1] to uint8 (n, channels, size, size) on the CPU."""
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()


def to_images(pixels: Tensor) -> list[Image.Image]:
    """Turn uint8 (n, channels, size, size) into PIL images, grey where there is one channel."""
    arrays = pixels.permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array) for array in arrays]


def _announce(message: str) -> None:
    with warnings.catch_warnings():
        # While it downloads, encoder_files silences all warnings; this one is our own.
        warnings.simplefilter("always")
        warnings.warn(message, stacklevel=2)


def _check_encoder(model: Model, encoder: Encoder) -> None:
    from captionless.encoders import check_same

    check_same(asdict(model.config.encoder), encoder)
