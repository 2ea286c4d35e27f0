"""Use a model as a pipeline of diffusers, with any of its schedulers.

    import captionless.exports.diffusers  # registers the pipeline
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained("flowers-diffusers")  # written by `captionless export --to diffusers`
    pipe("a red rose", generator=torch.Generator().manual_seed(7)).images[0].save("rose.png")

The network is none of those in diffusers (its skip connections are added, its stem rearranges pixels), so it is a
``ModelMixin`` of its own. Conditions and guidance are those of ``captionless.generation``; the sampler is a scheduler.
A scheduler counts steps of training: its step ``k`` is the time ``(k + 1) / TIMES``. Its noisy images are those of the
model's noise schedule, scaled so that the squares of signal and noise sum to 1.
"""

import inspect
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import diffusers
import torch
from diffusers import ConfigMixin, DiffusionPipeline, ImagePipelineOutput, ModelMixin, SchedulerMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from captionless.checkpoints.config import LEARNED, config_values, encoder_place, model_folder, parse_config
from captionless.checkpoints.model import Model
from captionless.conditioning.composition import Composition, compose
from captionless.config.export import ExportRequest
from captionless.config.sampling import SamplingConfig
from captionless.data.arrays import denormalise
from captionless.device import autocast, exact_convolutions, resolve_precision
from captionless.diffusion.guidance import GuidedPrediction, predict
from captionless.encoders.dual_encoder import Encoder
from captionless.errors import CaptionlessError
from captionless.exports.card import write_card
from captionless.exports.diffusers_scheduler import TIMES, make_scheduler
from captionless.exports.hub import copy_files
from captionless.exports.names import public_config
from captionless.generation.generator import Generator
from captionless.generation.prompts import check_prompts
from captionless.generation.sample import (
    MAX_SEED,
    ImageBatch,
    Stage,
    guidance_of,
    image_batch,
    low_res_input,
    stages_up_to,
    to_images,
)
from captionless.models.unet import Denoiser
from captionless.progress import Progress

_SCHEDULED = {"sampler", "spacing", "eta", "churn", "variance", "batch"}
"""Sampling settings that a scheduler has instead."""


class CaptionlessModel(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A network, with the image vectors that prompts are mapped to.

    Args:
        model: the content of the model's ``config.json``.
        images: number of image vectors.
    """

    _keep_in_fp32_modules: ClassVar = ["bank"]

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, model: dict[str, Any], images: int = 0) -> None:
        super().__init__()
        self.model_config = parse_config(model, Path("config.json"))
        self.network = Denoiser(self.model_config.denoiser)
        self.bank = nn.Parameter(torch.zeros(images, self.model_config.condition_width), requires_grad=False)
        self.folder = ""

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the prediction for noisy images, times and conditions; see ``captionless.models.Denoiser``."""
        output: Tensor = self.network(*inputs)
        return output

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str], **options: Any) -> "CaptionlessModel":
        """Load the model from its folder."""
        model: CaptionlessModel = super().from_pretrained(path, **options)
        model.folder = str(path)
        return model

    def save_pretrained(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Write the model to a folder, with its encoder if that is in a folder too."""
        super().save_pretrained(path, **options)
        encoder = self.model_config.encoder
        if len(self.bank) and encoder and os.path.isdir(place := encoder_place(model_folder(self.folder), encoder)):
            copy_files(Path(place), Path(path) / LEARNED)


class CaptionlessPipeline(DiffusionPipeline):  # type: ignore[misc]
    """Generates images from prompts.

    Args:
        model: the (base) model.
        scheduler: a scheduler of diffusers, made from the config of the pipeline's own:
            ``DDIMScheduler.from_config(pipe.scheduler.config)``.
        upsampler: the super-resolution stage of a cascade.
        upsampler_scheduler: its scheduler.
    """

    _optional_components: ClassVar = ["upsampler", "upsampler_scheduler"]
    model_cpu_offload_seq = "model->upsampler"

    def __init__(
        self,
        model: CaptionlessModel,
        scheduler: SchedulerMixin,
        upsampler: CaptionlessModel | None = None,
        upsampler_scheduler: SchedulerMixin | None = None,
    ) -> None:
        super().__init__()
        parts = {"model": model, "scheduler": scheduler}
        self.register_modules(**parts, upsampler=upsampler, upsampler_scheduler=upsampler_scheduler)
        self._encoder: Encoder | None = None

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        num_images_per_prompt: int = 1,
        num_inference_steps: int = SamplingConfig().steps,
        guidance_scale: float = 1 + SamplingConfig().guidance,
        negative_prompt: str | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        output_type: str = "pil",
        **settings: Any,
    ) -> ImagePipelineOutput:
        """Generate images.

        Args:
            prompt: one or several texts, or class names for a class-conditional model.
            num_images_per_prompt: number of images per prompt.
            num_inference_steps: denoising steps; see ``TIMES``.
            guidance_scale: ``w + 1``, where ``w`` is the guidance scale of captionless: 1 turns guidance off.
            negative_prompt: a prompt to guide away from.
            generator: gives the seed of each prompt's first image, and further images have consecutive seeds. Or one
                generator per image. Only the seeds count, modulo 2^32, so that an image does not depend on its batch.
            output_type: ``pil``, or ``pt`` or ``np`` for values in [0, 1], (n, c, h, w) and (n, h, w, c).
            **settings: other fields of ``captionless.SamplingConfig``, such as ``variety`` or ``upsample_steps``.

        Returns:
            The images, all of the first prompt first.

        Raises:
            CaptionlessError: an argument or setting is invalid, or a scheduler was not made from the pipeline's.
        """
        if unfit := sorted(_SCHEDULED & set(settings)):
            raise CaptionlessError(f"`{unfit[0]}` is up to the scheduler. Leave it out, or replace `pipe.scheduler`.")
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        device, core = self._execution_device, self._core()
        seeds = _seeds(generator, len(prompts), num_images_per_prompt)
        check_prompts(prompts, num_images_per_prompt, 0, Composition(negative=negative_prompt))
        config = core.resolve(SamplingConfig(guidance=guidance_scale - 1, steps=num_inference_steps, **settings))
        batch = self._batch(core, prompts, seeds, config, negative_prompt)
        half = self.model.dtype != torch.float32
        precision = resolve_precision(config.precision, device)
        images, parts = None, [(self.model, self.scheduler), (self.upsampler, self.upsampler_scheduler)]
        with (
            torch.autocast(device.type, self.model.dtype) if half else autocast(precision, device),
            exact_convolutions(precision, device),
        ):
            for stage, (part, scheduler) in zip(stages_up_to(core.stages, config.size), parts, strict=False):
                low_res = None if images is None else low_res_input(stage, images, batch)
                images = self._sample(part, stage, scheduler, batch, low_res)
                batch = replace(batch, config=config.upsampling())
        assert images is not None
        return ImagePipelineOutput(_converted(images, output_type))

    def _core(self) -> Generator:
        """Return a generator of captionless with the same networks."""
        model = Model(self.model.folder, self.model.model_config, self.model.network, self.model.bank.detach().cpu())
        if self.upsampler is not None:
            above = self.upsampler
            model = Model(model.name, above.model_config, above.network, model.bank, base=model)
        return Generator(model, self._encoder, self.model.device)

    def _batch(
        self, core: Generator, prompts: list[str], seeds: list[int], config: SamplingConfig, negative: str | None
    ) -> ImageBatch:
        """Return the images to sample, with their conditions."""
        n = len(seeds) // len(prompts)
        vectors = core.conditions([text for text in prompts for _ in range(n)], config, seeds)
        conditions, away = compose(
            vectors, n, Composition(negative=negative), lambda texts: core.conditions(texts, config)
        )
        self._encoder = None if core.classes else core.encoder
        return image_batch(slice(None), conditions, seeds, config, away, None, self._execution_device)

    def _sample(
        self, part: CaptionlessModel, stage: Stage, scheduler: Any, batch: ImageBatch, low_res: Tensor | None
    ) -> Tensor:
        """Return the images of one stage, in about [-1, 1]."""
        if scheduler.config.get("prediction_type") != "sample" or scheduler.config.num_train_timesteps != TIMES:
            kind = type(scheduler).__name__
            raise CaptionlessError(
                f"this {kind} does not fit the model. Make it from that of the pipeline: "
                f"{kind}.from_config(pipe.scheduler.config)."
            )
        model, guidance = stage.config, guidance_of(batch.config, stage.config.schedule)
        prediction = GuidedPrediction(
            model.schedule, batch.prompts, guidance, prediction=model.prediction, negative=batch.negative
        )
        drawn = "generator" in inspect.signature(scheduler.step).parameters
        options = {"generator": list(batch.generators)} if drawn else {}
        scheduler.set_timesteps(batch.config.steps, device=self._execution_device)
        x: Tensor = batch.noise(model.denoiser.channels, model.size) * scheduler.init_noise_sigma
        for step in self.progress_bar(scheduler.timesteps):
            t = (step.cpu().double() + 1) / TIMES
            alpha, sigma = model.schedule.alpha_sigma(t)
            xt = scheduler.scale_model_input(x, step) * float(torch.hypot(alpha, sigma))
            inputs = xt if low_res is None else torch.cat([xt, low_res.to(xt)], dim=1)
            x0 = prediction.combine(xt, t, predict(part, prediction.rows(inputs, t)))
            x = scheduler.step(x0, step, x, return_dict=False, **options)[0]
        return x


diffusers.CaptionlessPipeline = CaptionlessPipeline  # where `DiffusionPipeline.from_pretrained` looks it up


def make_pipeline(generator: Generator) -> CaptionlessPipeline:
    """Return a model of captionless as a pipeline of diffusers; the networks are shared."""
    model, folder = generator.model, str(model_folder(generator.model.name))
    base = model.base or model
    vectors = base.bridge_data.bank if base.config.encoder else base.bank
    parts: list[Any] = [_part(base, folder, vectors), make_scheduler(base.config.schedule)]
    if model.base:
        parts += [_part(model, folder, vectors[:0]), make_scheduler(model.config.schedule)]
    return CaptionlessPipeline(*parts)


def _part(model: Model, folder: str, vectors: Tensor) -> CaptionlessModel:
    part: CaptionlessModel = CaptionlessModel(config_values(public_config(model.config)), len(vectors))
    part.network, part.folder = model.denoiser, folder
    part.bank.data.copy_(vectors)
    return part


def export_diffusers(generator: Generator, request: ExportRequest, folder: Path, progress: Progress) -> None:
    """Write the folder of a pipeline."""
    make_pipeline(generator).save_pretrained(folder)
    name = request.push or (request.out or folder).name
    prompt = generator.classes[0] if generator.classes else "your prompt"
    lines = [
        "# in a clone of captionless: pip install -c constraints.txt '.[diffusers]'",
        "import captionless.exports.diffusers",
        "from diffusers import DiffusionPipeline",
        "",
        f"pipe = DiffusionPipeline.from_pretrained({name!r})",
        f"pipe({prompt!r}).images[0]",
    ]
    write_card(generator, request, folder, "\n".join(["```python", *lines, "```"]), progress, "diffusers")


def _seeds(generator: Any, prompts: int, n: int) -> list[int]:
    """Return the seed of each image; those of unseeded generators have 64 bits, and are taken modulo 2^32."""
    if isinstance(generator, Sequence):
        if len(generator) != prompts * n:
            raise CaptionlessError(f"there are {prompts * n} images and {len(generator)} generators. Pass one each.")
        return [one.initial_seed() % (MAX_SEED + 1) for one in generator]
    first = generator.initial_seed() if generator is not None else torch.Generator().seed()
    return [(first + i) % (MAX_SEED + 1) for _ in range(prompts) for i in range(n)]


def _converted(images: Tensor, output_type: str) -> Any:
    if output_type == "pil":
        return to_images(denormalise(images))
    values = (images.float().cpu() / 2 + 0.5).clamp(0, 1)
    return values if output_type == "pt" else values.permute(0, 2, 3, 1).numpy()
