"""The main class of the Python interface: a loaded model that generates images from prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import torch
from PIL import Image
from torch import Tensor

from captionless.checkpoints.config import encoder_place, model_folder
from captionless.checkpoints.image_list import TRAIN, read_image_list
from captionless.checkpoints.model import Model, load_model
from captionless.conditioning.bridge import to_condition
from captionless.conditioning.classes import one_hot
from captionless.conditioning.composition import Composition
from captionless.conditioning.familiarity import Familiarity
from captionless.conditioning.subject import subject_mean
from captionless.config.keyword_types import SamplingKeywords
from captionless.config.keywords import keywords
from captionless.config.sampling import BRIDGES, SamplingConfig
from captionless.device import default_device, resolve_precision, to_device
from captionless.errors import CaptionlessError
from captionless.generation.editing import Edit
from captionless.generation.image import GeneratedImage
from captionless.generation.prepared import prepare
from captionless.generation.sample import guided_times, sample, sample_batches, stages_up_to, to_images
from captionless.generation.stage import ImageStep, OnStep, Stage
from captionless.generation.trajectory import TrajectoryRecorder
from captionless.models.unet import parameter_count
from captionless.progress import Progress, ProgressBar, choose_progress

if TYPE_CHECKING:
    from captionless.encoders.dual_encoder import Encoder


class Generator:
    """A loaded model that generates images from prompts.

        captionless.load("runs/flowers").generate("a daisy", n=4)

    Args:
        model: a loaded model.
        encoder: the encoder that the model was trained with, or its folder or hub id; by default the folder or hub id
            recorded in training. Unless given as an object, the encoder is loaded when it is first needed.
        device: the device to run on; by default an accelerator if available, otherwise the CPU.
    """

    def __init__(
        self,
        model: Model,
        encoder: Encoder | str | Path | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.model = model
        self.device = torch.device(device) if device else default_device()
        models = [model.base, model] if model.base else [model]
        self.stages = [Stage(to_device(one.denoiser, self.device), one.config, one.space) for one in models]
        self.encoder_place = str(encoder) if isinstance(encoder, str | Path) else None
        if encoder is not None:
            model.config.require_encoder(model.name)  # raises where the model has no encoder
        if encoder is not None and not isinstance(encoder, str | Path):
            self.encoder = self._checked(encoder)

    def __repr__(self) -> str:
        config = self.model.config
        condition = f"encoder {config.encoder.name!r}" if config.encoder else f"{len(self.classes)} classes"
        weights = " + ".join(f"{parameter_count(stage.denoiser) / 1e6:.1f}" for stage in self.stages)
        kind = "grey" if config.image_channels == 1 else "RGB"
        return (
            f"<Generator {self.model.name!r}: {config.size} x {config.size} {kind}, {condition}, "
            f"{weights} million weights, on {self.device}>"
        )

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder that the model was trained with, loaded and verified on first access."""
        from captionless.encoders.dual_encoder import load_encoder

        recorded = encoder_place(model_folder(self.model.name), self.model.config.require_encoder(self.model.name))
        try:
            encoder = load_encoder(self.encoder_place or recorded, progress=ProgressBar())
        except CaptionlessError as error:
            if self.encoder_place:
                raise
            reason = str(error).split(". ")[0].rstrip(".")
            raise CaptionlessError(
                f"the encoder {recorded} of the model {self.model.name} cannot be loaded ({reason}). "
                "If it was moved, pass its folder as `encoder`."
            ) from error
        return self._checked(encoder)

    def _checked(self, encoder: Encoder) -> Encoder:
        from captionless.encoders.dual_encoder import check_same_encoder

        check_same_encoder(asdict(self.model.config.require_encoder(self.model.name)), encoder)
        return encoder

    @cached_property
    def text_mean(self) -> Tensor:
        """The mean text vector of prompts about the training images, shape (d,), which the bridge ``mean`` needs."""
        listed = read_image_list(model_folder(self.model.name))
        return subject_mean([name for name, _, role in listed if role == TRAIN], self.model.bank, self.encoder)

    @cached_property
    def familiarity(self) -> Familiarity:
        """The detector of prompts that are unknown to the encoder or unrelated to the training images."""
        return Familiarity(self.encoder, self.model.bridge_data.bank)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names that a class-conditional model takes as prompts; empty for a text-conditional one."""
        return self.model.config.classes

    def steps(self, sampling: SamplingConfig) -> int:
        """Return the number of denoising steps per image, including those of a super-resolution stage that is used."""
        return sampling.steps + sampling.upsample_steps * len(stages_up_to(self.stages, sampling.size)[1:])

    def conditions(
        self, prompts: Sequence[str], sampling: SamplingConfig | None = None, seeds: Sequence[int] | None = None
    ) -> Tensor:
        """Return one condition vector per prompt, (n, d).

        Texts are encoded and mapped by the bridge. With ``seeds``, one per prompt, the conditions are drawn with the
        variety of ``sampling``; otherwise the variety is 0. For a class-conditional model, prompts must be names of its
        classes, and the conditions are one-hot vectors.
        """
        sampling = sampling or SamplingConfig()
        if self.classes and sampling.bridge == BRIDGES[0]:
            return one_hot(prompts, self.classes)
        bridge_data = self.model.bridge_data
        if sampling.bridge == "mean":
            bridge_data = replace(bridge_data, text_mean=self.text_mean)
        texts = {text: i for i, text in enumerate(dict.fromkeys(prompts))}
        vectors = self.encoder.encode_texts(list(texts))
        if seeds is not None:  # what a prompt is combined with, such as "yellow", need not name a subject
            self.familiarity.warn(list(texts), vectors)
        return to_condition(vectors[[texts[text] for text in prompts]], bridge_data, sampling, seeds)

    @keywords(SamplingConfig)
    def generate(
        self,
        prompts: Sequence[str] | str,
        n: int = 1,
        seed: int = 0,
        *,
        sampling: SamplingConfig | None = None,
        composition: Composition | None = None,
        edit: Edit | None = None,
        trajectory: bool = False,
        progress: Progress | bool | None = None,
        on_step: OnStep | None = None,
        **settings: Unpack[SamplingKeywords],
    ) -> list[GeneratedImage]:
        """Generate ``n`` images of every prompt.

            images = generator.generate(["a red rose", "a daisy"], n=4, guidance=3, steps=20, seed=7)
            images[0].save("rose.png")

        Args:
            prompts: one or several texts, or class names for a class-conditional model. A text may be empty if the
                composition has a reference image.
            n: number of images per prompt.
            seed: seed of the first image of each prompt; image i uses ``seed + i``. The image for a seed does not
                depend on the batch.
            sampling: sampling settings, which ``settings`` override; by default ``SamplingConfig()``.
            composition: other prompts, a negative prompt or a reference image to combine with every prompt.
            edit: a photograph to edit.
            trajectory: record the denoising steps of every image in ``GeneratedImage.trajectory``.
            progress: whether to show a progress bar; by default only in terminals and notebooks. Or an object that
                receives the number of completed denoising steps (``captionless.progress.Progress``).
            on_step: called after every step of every batch, with a ``captionless.generation.ImageStep``.
            **settings: individual sampling settings as keyword arguments.

        Returns:
            All images of the first prompt, then of the second, and so on.

        Raises:
            CaptionlessError: there is no prompt, a prompt is empty, or ``n``, ``seed`` or a setting is out of range.
        """
        return list(
            self.stream(
                prompts,
                n,
                seed,
                sampling=sampling,
                composition=composition,
                edit=edit,
                trajectory=trajectory,
                progress=progress,
                on_step=on_step,
                **settings,
            )
        )

    @keywords(SamplingConfig)
    def stream(
        self,
        prompts: Sequence[str] | str,
        n: int = 1,
        seed: int = 0,
        *,
        sampling: SamplingConfig | None = None,
        composition: Composition | None = None,
        edit: Edit | None = None,
        trajectory: bool = False,
        progress: Progress | bool | None = None,
        on_step: OnStep | None = None,
        **settings: Unpack[SamplingKeywords],
    ) -> Iterator[GeneratedImage]:
        """Generate images like ``generate``, but yield each as soon as its batch is finished; same arguments."""
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        images = prepare(self, prompts, n, seed, (sampling or SamplingConfig()).replace(**settings), composition, edit)
        recorder = TrajectoryRecorder(self.steps(images.config)) if trajectory else None
        bar, done, total = choose_progress(progress), 0, len(images.seeds) * self.steps(images.config)

        def watch(step: ImageStep) -> None:
            nonlocal done
            done += len(step)
            bar.advance("Generating", done, total)
            if recorder:
                recorder.record(step)
            if on_step:
                on_step(step)

        batches = sample_batches(
            self.stages,
            images.conditions,
            images.seeds,
            images.config,
            negative=images.negative,
            edit=edit,
            on_step=watch,
        )
        i = 0
        for pixels in batches:
            trajectories = recorder.take() if recorder else [None] * len(pixels)
            for image, steps in zip(to_images(pixels), trajectories, strict=True):
                yield images.image(i, image, steps)
                i += 1

    def sample(
        self, conditions: Tensor, seeds: Sequence[int], sampling: SamplingConfig | None = None
    ) -> list[Image.Image]:
        """Sample one image per seed, given condition vectors (n, d)."""
        return to_images(sample(self.stages, conditions, seeds, sampling))

    def resolve(self, sampling: SamplingConfig, start: float = 1.0) -> SamplingConfig:
        """Return the settings with precision and guidance interval resolved, for denoising from time ``start``."""
        interval = guided_times(sampling, self.stages[0].config.schedule, start)
        return sampling.replace(
            precision=resolve_precision(sampling.precision, self.device), guidance_interval=interval
        )


def load(
    model: str | Path = "bundled",
    encoder: Encoder | str | Path | None = None,
    device: torch.device | str | None = None,
) -> Generator:
    """Load a model.

    ``model`` is a folder, or ``bundled`` for the flower model included in the package. For the encoder, which is only
    needed if it was moved, and the device, see ``Generator``.

    Raises:
        CaptionlessError: the folder is missing, damaged or not a model of captionless.
    """
    return Generator(load_model(model), encoder, device)
