"""From words to pictures: the object users hold."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from captionless.checkpoints.model import Model, load_model
from captionless.conditioning.bridge import to_condition
from captionless.conditioning.classes import one_hot
from captionless.conditioning.composition import Composition, compose
from captionless.config.sampling import SamplingConfig, enlarging
from captionless.data.decode import square
from captionless.device import default_device, to_device
from captionless.diffusion.guidance import WeightedCondition
from captionless.diffusion.reverse import OnStep
from captionless.errors import CaptionlessError
from captionless.generation.editing import Edit
from captionless.generation.sample import Stage, sample, to_images
from captionless.progress import Progress

if TYPE_CHECKING:
    from captionless.encoders.dual_encoder import Encoder

MAX_SEED = 2**32 - 1
"""PyTorch's CPU generator reads 32 bits of a seed: larger seeds would only repeat pictures."""


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
        small = model.base
        self.small = Stage(to_device(small.denoiser, self.device), small.config) if small else None
        self.encoder_place = str(encoder) if isinstance(encoder, str | Path) else None
        if encoder is not None:
            model.config.require_encoder(model.name)  # raises where the model has no encoder
        if encoder is not None and not isinstance(encoder, str | Path):
            _check_encoder(model, encoder)
            self.encoder = encoder

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder that the model was trained with.

        Raises:
            CaptionlessError: it is not found, or what was named is another one.
        """
        from captionless.encoders.dual_encoder import load_encoder

        recorded = self.model.config.require_encoder(self.model.name).name
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

    @property
    def classes(self) -> tuple[str, ...]:
        """The names that a model of classes takes as prompts; none where prompts are words."""
        return self.model.config.classes

    @property
    def stages(self) -> list[Stage]:
        """The base stage, and the super-resolution stage if there is one."""
        return [*([self.small] if self.small else []), Stage(self.denoiser, self.model.config)]

    @property
    def first(self) -> Stage:
        """The denoiser that begins a picture, and its config: the small model's where there are two."""
        return self.small or Stage(self.denoiser, self.model.config)

    def steps(self, sampling: SamplingConfig) -> int:
        """Return the denoising steps of a picture: those of ``sampling``, and then those that enlarge it, if any do."""
        return sampling.steps + (enlarging(sampling).steps if self.small else 0)

    def conditions(self, prompts: Sequence[str], bridge: str = SamplingConfig.bridge) -> Tensor:
        """Return one condition vector a prompt, (n, d): through encoder and bridge, or one-hot for a model of classes.

        Raises:
            CaptionlessError: a model of classes is asked for none of its classes, or for another bridge.
        """
        if self.classes and bridge == SamplingConfig.bridge:
            return one_hot(prompts, self.classes)
        return to_condition(self.encoder.encode_texts(list(prompts)), self.model.bridge_data, bridge)

    def generate(
        self,
        prompts: Sequence[str] | str,
        n: int = 1,
        seed: int = 0,
        sampling: SamplingConfig | None = None,
        composition: Composition | None = None,
        edit: Edit | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        on_step: OnStep | None = None,
    ) -> list[Image.Image]:
        """Paint ``n`` pictures of every prompt.

        Args:
            prompts: what to paint; one text or several (of a model of classes, their names). One may be empty where
                there is a reference picture.
            n: pictures a prompt.
            seed: picture i of a prompt (from 0) uses ``seed + i``, and is the same picture in any batch.
            sampling: guidance, steps and so on; the defaults are what measured best.
            composition: what goes with every prompt: other prompts, a reference picture, what to avoid.
            edit: a photograph to begin from.
            on_progress: called with (pictures done, pictures in all).
            on_step: sees every step of every batch; see ``captionless.diffusion.reverse``.

        Returns:
            PIL images: all those of the first prompt, then of the second, and so on.

        Raises:
            CaptionlessError: no prompt, an empty one, fewer than one picture, or an impossible seed.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        images: list[Image.Image] = []
        for batch in self.stream(prompts, n, seed, sampling, composition, edit, on_step):
            images += batch
            if on_progress:
                on_progress(len(images), len(prompts) * n)
        return images

    def stream(
        self,
        prompts: Sequence[str],
        n: int = 1,
        seed: int = 0,
        sampling: SamplingConfig | None = None,
        composition: Composition | None = None,
        edit: Edit | None = None,
        on_step: OnStep | None = None,
    ) -> Iterator[list[Image.Image]]:
        """Paint what ``generate`` paints, but hand out each batch as soon as it is done.

        All prompts are checked and encoded before the first picture is painted.
        """
        sampling, composition = sampling or SamplingConfig(), composition or Composition()
        check_request(prompts, n, seed, composition)
        parts, negative = self._composed(prompts, n, sampling, composition, edit.start if edit else 1.0)
        seeds = image_seeds(len(prompts), n, seed, composition)
        for start in range(0, len(seeds), sampling.batch):
            rows = slice(start, start + sampling.batch)
            few = [replace(part, condition=part.condition[rows]) for part in parts]
            avoid = None if negative is None else negative[rows]
            yield self.paint(few, seeds[rows], sampling, avoid, edit, on_step=on_step)

    def paint(
        self,
        parts: Sequence[WeightedCondition] | Tensor,
        seeds: Sequence[int],
        sampling: SamplingConfig | None = None,
        negative: Tensor | None = None,
        edit: Edit | None = None,
        progress: Progress | None = None,
        on_step: OnStep | None = None,
    ) -> list[Image.Image]:
        """Sample one image per seed from conditions (n, d) of one's own; see ``captionless.generation.sample``."""
        pixels = sample(
            self.stages, parts, seeds, sampling, negative=negative, edit=edit, progress=progress, on_step=on_step
        )
        return to_images(pixels)

    def _composed(
        self, prompts: Sequence[str], n: int, sampling: SamplingConfig, composition: Composition, start: float
    ) -> tuple[list[WeightedCondition], Tensor | None]:
        like = None if composition.like is None else self._vector(composition.like)
        return compose(prompts, n, composition, lambda texts: self.conditions(texts, sampling.bridge), like, start)

    def _vector(self, picture: Image.Image) -> Tensor:
        """Return a picture's own vector, (1, d), from the view of it that training gives the encoder."""
        shown = square(picture.convert("RGB"), min(*picture.size, 2 * self.encoder.image_size))
        return self.encoder.encode_images([shown])


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


def check_request(prompts: Sequence[str], n: int, seed: int, composition: Composition | None = None) -> None:
    """Raise unless every prompt says something and ``n`` pictures have seeds from ``seed`` on."""
    wordless = composition is not None and composition.like is not None
    empty = next((i for i, prompt in enumerate(prompts, 1) if not prompt.strip()), None)
    if not prompts or (empty and not wordless):
        where = f" (number {empty} of {len(prompts)})" if len(prompts) > 1 else ""
        raise CaptionlessError(f'an empty prompt{where} paints nothing. Say what to paint, such as "a red rose".')
    if n < 1:
        raise CaptionlessError(f"-n must be at least 1, not {n}.")
    if not 0 <= seed <= MAX_SEED - n + 1:
        raise CaptionlessError(f"--seed must be a whole number from 0 to {MAX_SEED - n + 1}, not {seed}.")


def image_seeds(prompts: int, n: int, seed: int, composition: Composition | None = None) -> list[int]:
    """Return the seed of every picture; on the way from one prompt to another, all have the same noise."""
    still = composition is not None and composition.towards is not None
    return [seed if still else seed + i for _ in range(prompts) for i in range(n)]


def _announce(message: str) -> None:
    with warnings.catch_warnings():
        # While it downloads, encoder_files silences all warnings; this one is our own.
        warnings.simplefilter("always")
        warnings.warn(message, stacklevel=2)


def _check_encoder(model: Model, encoder: Encoder) -> None:
    from captionless.encoders.dual_encoder import check_same

    check_same(asdict(model.config.require_encoder(model.name)), encoder)
