"""Turn a request into images in the queue, and sampled pixels into image files."""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from PIL import Image, ImageOps

from captionless.conditioning.composition import Composition
from captionless.config.sampling import SamplingConfig
from captionless.errors import CaptionlessError
from captionless.generation.editing import Edit
from captionless.generation.generator import Generator
from captionless.generation.prepared import PreparedImages, encoder_view, prepare
from captionless.generation.sample import MAX_SEED, BatchRun, stages_up_to, to_images
from captionless.generation.trajectory import MAX_FRAMES, choose_frames
from captionless.server.errors import unknown_model
from captionless.server.jobs import Job, QueuedImage, Sampled
from captionless.server.protocol import ImageRequest, ignored
from captionless.server.uploads import Body, read_mask, read_photo


def choose_model(generators: Mapping[str, Generator], name: str | None) -> str:
    """Return the name of a model that is served: the one asked for, or the only one, or the first if none is named.

    Raises:
        ApiError: several models are served, and none has this name.
    """
    if len(generators) == 1 or name is None:
        return next(iter(generators))
    if name not in generators:
        raise unknown_model(name, generators)
    return name


@dataclass(frozen=True)
class Prepared:
    """The images of a request, with the model that makes them and what there is to remark about the prompt."""

    generator: Generator
    request: ImageRequest
    images: PreparedImages
    remarks: list[str]

    def queue(self, job: Job) -> list[QueuedImage]:
        """Return the images as work for the scheduler."""
        device = self.generator.device
        stages = stages_up_to(self.generator.stages, self.images.config.size)
        steps = self.generator.steps(self.images.config)
        partials = shown_steps(steps, self.request)

        def start(i: int) -> BatchRun:
            return BatchRun(stages, self.images.batch(slice(i, i + 1), device))

        return [QueuedImage(job, i, stages, partial(start, i), partials) for i in range(len(self.images.seeds))]

    @property
    def native(self) -> int:
        """The side of the images as sampled, in pixels."""
        return self.images.config.size or self.generator.stages[-1].config.size

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the images as returned."""
        return self.request.pixels or (self.native, self.native)

    def file_format(self, news: Sampled) -> str:
        """Return ``png``, ``jpeg`` or ``webp``; the many predictions of a trajectory are small files."""
        return "jpeg" if news.partial is not None and self.request.trajectory else self.request.output_format

    def encode(self, news: Sampled) -> bytes:
        """Return the image file of sampled pixels with its metadata."""
        (image,) = to_images(news.pixels)
        if image.size != self.size:  # larger than asked for in one direction, unless it is to be square
            image = ImageOps.fit(image, self.size, Image.Resampling.LANCZOS)
        kind = self.file_format(news)
        options = {} if kind == "png" else {"quality": max(1, self.request.output_compression)}
        return self.images.image(news.index, image).encoded(kind.upper(), **options)


def prepare_request(
    name: str, generator: Generator, request: ImageRequest, body: Body, defaults: SamplingConfig, route: str
) -> Prepared:
    """Decode what was uploaded and encode the prompts.

    Args:
        name: the name of the model for clients. They are not shown its path.
        generator: the model.
        request: the fields.
        body: the uploaded images.
        defaults: the server's sampling settings.
        route: ``generations``, ``edits`` or ``variations``.

    Raises:
        CaptionlessError: something about the request is invalid.
    """
    background = generator.model.config.training.background
    references, edit = [("like", data) for data in body.like], None
    if route != "generations":
        photo = read_photo(body.photo, background)
        edit = Edit(photo, request.strength, read_mask(body.mask[0]) if body.mask else None)
        references += [("image", data) for data in body.image[1:]]
        if route == "variations" and not request.prompt.strip():
            references = references or [("image", body.photo)]
    seed = secrets.randbelow(MAX_SEED - request.n + 2) if request.seed is None else request.seed
    sampling = request.sampling(defaults, [stage.config.size for stage in generator.stages])
    negative, towards = ((text or "").strip() or None for text in (request.negative_prompt, request.towards))
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        try:
            composition = Composition(
                negative=negative,
                towards=towards,
                towards_share=request.towards_share,
                # Only what is needed is kept of each: together they can be large.
                like=[encoder_view(generator, read_photo(data, background, place)) for place, data in references],
                like_share=request.like_share,
            )
            images = prepare(generator, [request.prompt], request.n, seed, sampling, composition, edit)
        except CaptionlessError as error:
            message = str(error).replace(generator.model.name, name)
            raise CaptionlessError(message, parameter=error.parameter, code=error.code) from error
    images = replace(images, details=images.details | {"model": name})
    about_fields = ignored(type(request), body.fields)
    if route == "generations":
        edits = {"image": body.image, "mask": body.mask, "strength": request.strength}
        about_fields += [f"`{name}` was ignored. Send it to /v1/images/edits." for name, sent in edits.items() if sent]
    return Prepared(generator, request, images, [*about_fields, *(str(remark.message) for remark in remarks)])


def shown_steps(steps: int, request: ImageRequest) -> list[int]:
    """Return the numbers of the steps whose predictions a stream shows, evenly spaced before the last."""
    if not request.stream:
        return []
    partials = request.partial_images
    chosen = [round((i + 1) * steps / (partials + 1)) - 1 for i in range(partials)]
    if request.trajectory:
        chosen = choose_frames(steps, MAX_FRAMES)
    return [number for number in dict.fromkeys(chosen) if 0 <= number < steps - 1]
