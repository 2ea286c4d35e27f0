"""Requests for images: prompts, photographs and options, checked before any work, and generated into a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionless.config.sampling import SamplingConfig
from captionless.errors import CaptionlessError
from captionless.generation.prompts import Prompt, parse_weighted, read_prompts
from captionless.progress import Progress, Silent

if TYPE_CHECKING:
    from PIL.Image import Image

    from captionless.conditioning.composition import Composition
    from captionless.generation.editing import Edit
    from captionless.generation.generator import Generator
    from captionless.generation.image import GeneratedImage
    from captionless.generation.writer import ImageWriter

BLEND_IMAGES = 8
"""Images from a prompt to another unless their number is given: a row of the sample grid."""
COLUMNS, MAX_ROWS = 8, 60
"""Size of a sample grid, in images."""


@dataclass(frozen=True)
class GenerationRequest:
    """A request for images of several prompts, perhaps at several guidance scales for comparison.

    What a prompt says itself (``n``, ``seed``, ``guidance``, ``negative``) takes precedence.

    Args:
        prompts: at least one.
        sampling: the sampling settings, whose ``guidance`` is replaced by each of the ``scales``.
        composition: what every prompt is combined with.
        edit: a photograph to start from.
        n: images per prompt; None for 1, or 8 for a blend towards another prompt.
        seed: seed of the first image of each prompt.
        scales: guidance scales; every prompt and seed is used at each of them.
        trajectory: keep the denoising steps of every image.

    Raises:
        CaptionlessError: a prompt is empty, a number of images or a seed out of range, or prompts have a guidance
            scale of their own where several are compared.
    """

    prompts: Sequence[Prompt]
    sampling: SamplingConfig
    composition: Composition
    edit: Edit | None = None
    n: int | None = None
    seed: int = 0
    scales: Sequence[float] = (SamplingConfig().guidance,)
    trajectory: bool = False

    def __post_init__(self) -> None:
        """Check every prompt with its own number and seed."""
        from captionless.generation.seeds import check_request

        for run in self.runs():
            check_request(run.texts, run.n, run.seed, self.composition)
        if len(self.scales) > 1 and any(prompt.guidance is not None for prompt in self.prompts):
            raise CaptionlessError(
                "a prompt of the file has a guidance scale of its own, so several scales cannot be compared. Give one "
                "scale, or remove it from the file.",
                parameter="guidance",
                value=self.scales,
            )

    def runs(self) -> list[Run]:
        """Group the prompts into runs of neighbours with the same settings."""
        default = BLEND_IMAGES if self.composition.towards else 1
        runs = []
        for own, group in groupby(self.prompts, key=lambda one: (one.n, one.seed, one.guidance, one.negative)):
            n, seed, guidance, negative = own
            n = next(number for number in (n, self.n, default) if number is not None)
            composition = self.composition if negative is None else replace(self.composition, negative=negative)
            runs.append(Run(list(group), n, self.seed if seed is None else seed, guidance, composition))
        return runs

    @property
    def total(self) -> int:
        """The number of images in all."""
        return len(self.scales) * sum(len(run.prompts) * run.n for run in self.runs())


@dataclass(frozen=True)
class Run:
    """Prompts of a request that share their settings; ``guidance`` is None where the request decides."""

    prompts: list[Prompt]
    n: int
    seed: int
    guidance: float | None
    composition: Composition

    @property
    def texts(self) -> list[str]:
        """The texts of the prompts."""
        return [prompt.text for prompt in self.prompts]


def generate_into(
    writer: ImageWriter, generator: Generator, request: GenerationRequest, progress: Progress | None = None
) -> Iterator[Path]:
    """Generate all images of a request, write each at once, and yield its path; last, write a sample grid of several.

    ``progress`` receives the number of images done, and remarks on where the sample grid and trajectories are.
    """
    progress, done = progress or Silent(), 0
    columns: list[list[GeneratedImage]] = []
    for sampling in _settings(request, generator):
        columns.append([])
        for image in _generate(request, generator, sampling):
            path = writer.add(image)
            if len(columns[-1]) < MAX_ROWS * COLUMNS:
                columns[-1].append(replace(image, trajectory=None))
            done += 1
            progress.advance("Generating", done, request.total)
            yield path
    if done > 1:
        shown, path = _write_grid(writer, columns, request.scales)
        part = f" (the first {shown:,} of {done:,} images)" if shown < done else ""
        progress.say(f"Sample grid: {path}{part}")
    if request.trajectory:
        progress.say(f"Trajectories: NUMBER-trajectory.png and .gif next to each image in {writer.folder}")


def _settings(request: GenerationRequest, generator: Generator) -> list[SamplingConfig]:
    """Return the settings for each guidance scale; the columns of a comparison differ in nothing else."""
    if len(request.scales) == 1:
        return [request.sampling.replace(guidance=request.scales[0])]
    start = request.edit.start if request.edit else 1.0
    least = generator.resolve(request.sampling.replace(guidance=min(request.scales)), start)
    return [least.replace(guidance=scale) for scale in request.scales]


def _generate(request: GenerationRequest, generator: Generator, sampling: SamplingConfig) -> Iterator[GeneratedImage]:
    for run in request.runs():
        images = generator.stream(
            run.texts,
            run.n,
            run.seed,
            sampling=sampling if run.guidance is None else sampling.replace(guidance=run.guidance),
            composition=run.composition,
            edit=request.edit,
            trajectory=request.trajectory,
        )
        for i, image in enumerate(images):
            label = run.prompts[i // run.n].label
            yield replace(image, details={"label": label, **image.details}) if label else image


def _write_grid(
    writer: ImageWriter, columns: Sequence[Sequence[GeneratedImage]], scales: Sequence[float]
) -> tuple[int, Path]:
    """Draw and write the sample grid of one or several guidance scales; return how many images it shows, and its path.

    Each scale of a comparison has a column, and each image a row. Otherwise each prompt has its rows; single images of
    different prompts share rows.
    """
    from captionless.generation.grids import rows_by_title, sample_grid

    if len(columns) == 1:
        rows = rows_by_title(columns[0], COLUMNS)
        if len(rows) == len(columns[0]):
            return len(rows), writer.add_grid(sample_grid(columns[0], columns=COLUMNS))
        rows = rows[:MAX_ROWS]
        return sum(map(len, rows)), writer.add_grid(sample_grid(rows))
    compared = list(zip(*columns, strict=True))[: max(1, min(MAX_ROWS, MAX_ROWS * COLUMNS // len(columns)))]
    titles = [image.title for image, *_ in compared]
    several = len(set(titles)) < len(titles)
    labels = [(f"{image.subtitle}: " if several else "") + image.title for image, *_ in compared]
    heads = [f"w = {scale:g}" for scale in scales]
    return len(compared) * len(columns), writer.add_grid(sample_grid(compared, labels, heads=heads))


def choose_prompts(
    model: str | Path,
    words: Sequence[str] = (),
    file: Path | None = None,
    classes: Sequence[str] = (),
    wordless: bool = False,
) -> list[Prompt]:
    """Return the prompts given directly and in a file, or the class names if the model is class-conditional.

    Args:
        model: the model's name.
        words: the prompts given directly.
        file: a file of prompts, see ``read_prompts``.
        classes: names of classes.
        wordless: whether a reference image can stand in for the prompt.

    Raises:
        CaptionlessError: there is no prompt, or prompts and model do not fit; the file cannot be read.
    """
    from captionless.checkpoints.config import load_config
    from captionless.conditioning.classes import check_classes

    known = load_config(model).classes
    check_classes(str(model), known, classes, words=bool(words or file))
    prompts = [Prompt(text) for text in (classes if known else words)]
    if file is not None:
        prompts += read_prompts(file)
    if not prompts and not wordless:
        raise CaptionlessError('no prompt given. Describe the image, such as "a red rose".', parameter="prompts")
    return prompts or [Prompt("")]


def check_combinations(given: Mapping[str, Any], prompts: Sequence[Prompt], scales: Sequence[float]) -> None:
    """Raise for options that have no effect, because another one is missing.

    Args:
        given: the options by name; None where not given.
        prompts: the prompts.
        scales: the guidance scales.
    """
    for option, partner, example in (
        ("switch", "then", "`then=a meadow`"),
        ("like_share", "like", "`like=photo.jpg`"),
        ("strength", "init", "`init=photo.jpg`"),
        ("mask", "init", "`init=photo.jpg`"),
    ):
        if given[option] is not None and given[partner] is None:
            raise CaptionlessError(
                f"`{option}` has no effect without `{partner}`. Add {example}, or leave it out.",
                parameter=option,
                value=given[option],
            )
    if given["like_share"] is not None and not any(prompt.text.strip() for prompt in prompts):
        raise CaptionlessError(
            "`like_share` mixes the image with a prompt, and there is none. Add one, or leave it out.",
            parameter="like_share",
            value=given["like_share"],
        )
    if given["classes"] and given["bridge"] is not None:
        raise CaptionlessError(
            "`bridge` applies to prompts, not to class names. Leave it out.", parameter="bridge", value=given["bridge"]
        )
    if any(scale != 0 for scale in scales):
        return
    for option in ("negative", "guidance_interval", "guidance_rescale"):
        # A negative weight of `also` guides towards the negative prompt even then.
        used = option == "negative" and any(parse_weighted(text)[1] < 0 for text in given["also"] or ())
        if given[option] is not None and not used:
            raise CaptionlessError(
                f"`{option}` has no effect while the guidance scale is 0. Try `guidance=5`, or leave it out.",
                parameter=option,
                value=given[option],
            )


def read_composition(given: Mapping[str, Any]) -> Composition:
    """Return what every prompt is combined with, its reference image read."""
    from captionless.conditioning.composition import Composition

    chosen = {name: given[name] for name in ("switch", "like_share") if given[name] is not None}
    return Composition(
        negative=given["negative"],
        also=tuple(parse_weighted(text) for text in given["also"] or ()),
        then=given["then"],
        towards=given["towards"],
        like=_photo("like", given["like"]),
        **chosen,
    )


def read_edit(given: Mapping[str, Any]) -> Edit | None:
    """Return the photograph to start from, if there is one."""
    photo = _photo("init", given["init"])
    if photo is None:
        return None
    from captionless.generation.editing import Edit

    return Edit(photo, given["strength"], _photo("mask", given["mask"]))


def _photo(option: str, path: Path | None) -> Image | None:
    if path is None:
        return None
    if path.is_dir():
        raise CaptionlessError(f"`{option}` is a folder: {path}. Name one image file.", parameter=option, value=path)
    from captionless.data.decode import decode_image

    image = decode_image(path)
    image.filename = str(path)  # type: ignore[attr-defined]  # as Image.open does; recorded with each image
    return image
