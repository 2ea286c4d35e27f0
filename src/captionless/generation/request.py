"""Validate a request for images before any work, and generate its images into a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Literal

from PIL import Image
from pydantic import ValidationError

from captionless.checkpoints.config import load_config
from captionless.conditioning.classes import check_classes
from captionless.conditioning.composition import Composition
from captionless.config.generate_request import GenerateRequest
from captionless.config.sampling import SamplingConfig
from captionless.data.decode import decode_image
from captionless.errors import CaptionlessError
from captionless.generation.editing import Edit
from captionless.generation.generator import Generator
from captionless.generation.grids import sample_grid
from captionless.generation.image import GeneratedImage
from captionless.generation.prompts import Prompt, check_prompts, parse_weighted_prompt, read_prompts
from captionless.generation.writer import ImageWriter
from captionless.progress import Progress

BLEND_IMAGES = 8
"""Default number of images of an interpolation between two prompts, which is one row of the sample grid."""
MOST_SHOWN = 480
"""Maximum number of images in a sample grid."""


@dataclass(frozen=True)
class PromptGroup:
    """Prompts of a request with the same settings; ``own_guidance`` is the guidance scale from the prompt file."""

    prompts: Sequence[Prompt]
    n: int
    seed: int
    sampling: SamplingConfig
    own_guidance: float | None
    composition: Composition
    edit: Edit | None
    trajectory: bool

    @property
    def start(self) -> float:
        """The time at which denoising starts."""
        return self.edit.start if self.edit else 1.0


def read_request(request: GenerateRequest, sampling: SamplingConfig) -> list[PromptGroup]:
    """Read the files of a request, validate it, and group consecutive prompts with the same settings.

    The settings of a prompt file (``n``, ``seed``, ``guidance``, ``negative``) override those of the request.

    Raises:
        CaptionlessError: a file cannot be read, a value is out of range, or options of the request are incompatible
            with each other or with the model.
    """
    for scale in request.guidance:
        sampling.replace(guidance=scale)  # raises if it is out of range
    prompts = _prompts(request)
    if len(request.guidance) > 1 and any(prompt.guidance is not None for prompt in prompts):
        raise CaptionlessError(
            "several guidance scales cannot be compared, because a prompt in the file sets its own scale. Pass one "
            "guidance scale, or remove the scale from the file.",
            parameter="guidance",
            value=request.guidance,
        )
    everywhere = Composition(
        negative=request.negative,
        also=tuple(parse_weighted_prompt(text) for text in request.also),
        then=request.then,
        switch=request.switch,
        towards=request.towards,
        towards_share=request.towards_share,
        like=_photo(request, "like"),
        like_share=request.like_share,
    )
    photo = _photo(request, "init")
    edit = Edit(photo, request.strength, _photo(request, "mask")) if photo else None
    usual = request.n if request.n is not None else BLEND_IMAGES if everywhere.walks else 1
    groups = []
    for own, same in groupby(prompts, key=lambda one: (one.n, one.seed, one.guidance, one.negative)):
        n, seed, guidance, negative = own
        composition = everywhere if negative is None else replace(everywhere, negative=negative)
        n, seed = usual if n is None else n, request.seed if seed is None else seed
        groups.append(PromptGroup(list(same), n, seed, sampling, guidance, composition, edit, request.trajectory))
        check_prompts([prompt.text for prompt in groups[-1].prompts], n, seed, composition)
    return groups


def generate_into(
    writer: ImageWriter,
    generator: Generator,
    groups: Sequence[PromptGroup],
    scales: Sequence[float],
    progress: Progress,
) -> Iterator[Path]:
    """Generate and write all images of a request, and yield the path of each. Finally, write a sample grid.

    Args:
        writer: the folder to write into.
        generator: the model.
        groups: the prompts, as returned by ``read_request``.
        scales: guidance scales to compare; every prompt and seed is sampled with each scale.
        progress: receives the number of finished images, and the paths of the sample grid and trajectories.
    """
    total, done = len(scales) * sum(len(group.prompts) * group.n for group in groups), 0
    columns: list[list[GeneratedImage]] = [[] for _ in scales]
    for column, scale in zip(columns, scales, strict=True):
        for image in (image for group in groups for image in _generate(group, generator, scale, scales)):
            path = writer.add(image)
            if len(column) < max(1, MOST_SHOWN // len(scales)):
                column.append(replace(image, trajectory=None))
            done += 1
            progress.advance("Generating", done, total)
            yield path
    if done > 1:
        path, shown = writer.add_grid(_grid(columns, scales)), sum(map(len, columns))
        part = f" (the first {shown:,} of {done:,} images)" if shown < done else ""
        progress.say(f"Sample grid: {path}{part}")
    if groups[0].trajectory:
        progress.say(f"Trajectories: NUMBER-trajectory.png and .gif next to each image in {writer.folder}")


def _generate(
    group: PromptGroup, generator: Generator, scale: float, scales: Sequence[float]
) -> Iterator[GeneratedImage]:
    sampling = group.sampling
    if len(scales) > 1:  # the columns of a comparison differ only in the guidance scale
        sampling = generator.resolve(sampling.replace(guidance=min(scales)), group.start)
    images = generator.stream(
        [prompt.text for prompt in group.prompts],
        group.n,
        group.seed,
        sampling=sampling,
        composition=group.composition,
        edit=group.edit,
        trajectory=group.trajectory,
        progress=False,
        guidance=scale if group.own_guidance is None else group.own_guidance,
    )
    for i, image in enumerate(images):
        label = group.prompts[i // group.n].label
        yield replace(image, details={"label": label, **image.details}) if label else image


def _grid(columns: Sequence[Sequence[GeneratedImage]], scales: Sequence[float]) -> Image.Image:
    """Draw a sample grid. In a comparison of guidance scales, each scale is a column and each image a row."""
    if len(columns) == 1:
        return sample_grid(columns[0])
    titles = [image.title for image in columns[0]]
    several = len(set(titles)) < len(titles)
    labels = [f"{image.subtitle}: {image.title}" if several else image.title for image in columns[0]]
    return sample_grid(list(zip(*columns, strict=True)), labels, heads=[f"w = {scale:g}" for scale in scales])


def _prompts(request: GenerateRequest) -> list[Prompt]:
    """Return the prompts of the request and of its prompt file, or the class names for a class-conditional model."""
    classes = load_config(request.model).classes
    check_classes(request.model, classes, request.classes, words=bool(request.words or request.prompts))
    try:
        prompts = [Prompt(text) for text in (request.classes if classes else request.words)]
    except ValidationError as error:
        raise CaptionlessError("a prompt is not valid UTF-8. Retype it.", parameter="prompts") from error
    if request.prompts is not None:
        prompts += read_prompts(request.prompts)
    if not prompts and request.like is None:
        raise CaptionlessError('no prompt given. Describe the image, for example "a red rose".', parameter="prompts")
    return prompts or [Prompt("")]


def _photo(request: GenerateRequest, option: Literal["like", "init", "mask"]) -> Image.Image | None:
    """Read the image of an option, if it is given; transparent areas of a mask are white, others as in training."""
    path: Path | None = getattr(request, option)
    if path is None:
        return None
    if path.is_dir():
        raise CaptionlessError(f"`{option}` is a folder: {path}. Pass an image file.", parameter=option, value=path)
    image = decode_image(path, "white" if option == "mask" else load_config(request.model).training.background)
    image.filename = str(path)  # type: ignore[attr-defined]  # as set by Image.open; stored in the metadata
    return image
