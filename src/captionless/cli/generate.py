"""`captionless generate`: words in, pictures out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionless.cli import generate_options as options
from captionless.cli.console import bar, remarks, say, show
from captionless.config.sampling import SamplingConfig
from captionless.generation.request import (
    WALK,
    check_partners,
    facts,
    interval,
    numbers,
    read_composition,
    read_edit,
    what_to_sample,
)

if TYPE_CHECKING:
    from captionless.conditioning.composition import Composition
    from captionless.generation.editing import Edit
    from captionless.generation.generator import Generator
    from captionless.generation.trajectory import Trajectory
    from captionless.generation.writer import ImageWriter, Painted

DEFAULTS = SamplingConfig()


def generate(
    words: options.Words = None,
    prompts: options.Prompts = None,
    model: options.Model = "bundled",
    encoder: options.Encoder = None,
    n: options.Count = None,
    seed: options.Seed = 0,
    out: options.Out = Path(),
    film: options.FilmToo = False,
    classes: options.Classes = None,
    negative: options.Negative = None,
    also: options.Also = None,
    then: options.Then = None,
    switch: options.Switch = None,
    towards: options.Towards = None,
    like: options.Like = None,
    like_share: options.LikeShare = None,
    init: options.Init = None,
    strength: options.Strength = None,
    mask: options.Mask = None,
    guidance: options.Scales = f"{DEFAULTS.guidance:g}",
    guidance_interval: options.Interval = None,
    guidance_rescale: options.Rescale = None,
    threshold: options.Threshold = DEFAULTS.threshold,
    steps: options.Steps = DEFAULTS.steps,
    sampler: options.Sampler = DEFAULTS.sampler,
    spacing: options.Spacing = DEFAULTS.spacing,
    eta: options.Eta = None,
    churn: options.Churn = None,
    variance: options.Variance = None,
    bridge: options.Bridge = None,
    precision: options.Precision = DEFAULTS.precision,
    batch: options.Batch = DEFAULTS.batch,
) -> None:
    """Paint pictures from words; the paths are printed.

    Writes numbered PNGs (which remember all that decided them), a contact sheet and manifest.jsonl.
    """
    given = dict(locals())
    scales = numbers("--guidance", guidance, "5, or -1,0,1,3 to compare")
    sampling = SamplingConfig(
        interval=None if guidance_interval is None else interval(guidance_interval),
        rescale=guidance_rescale or 0.0,
        threshold=threshold,
        steps=steps,
        sampler=sampler,
        spacing=spacing,
        eta=eta,
        churn=churn,
        variance=variance,
        bridge=bridge or DEFAULTS.bridge,
        precision=precision,
        batch=batch,
    )
    ways = [replace(sampling, guidance=scale) for scale in scales]
    texts = what_to_sample(given)
    check_partners(given, texts, scales)
    if n is None:
        n = WALK if towards else 1
    with remarks():
        composition, edit = read_composition(given), read_edit(given)

    import captionless
    from captionless.device import resolve_precision
    from captionless.generation.generator import check_request
    from captionless.generation.sample import guided_times
    from captionless.generation.writer import ImageWriter

    check_request(texts, n, seed, composition)
    gallery = ImageWriter(out)
    generator = captionless.load(model, encoder)
    chosen = resolve_precision(precision, generator.device)
    told = {"model": model, **facts(given, composition, edit), "version": captionless.__version__}
    # One interval for a whole sweep, or its columns would differ in two things.
    least = replace(ways[0], guidance=min(scales))
    acts = guided_times(least, generator.first.config.schedule, edit.start if edit else 1.0)
    ways = [replace(way, precision=chosen, interval=acts) for way in ways]
    sample_all(Request(texts, n, seed, ways, composition, edit, told), generator, gallery, film)


@dataclass(frozen=True)
class Request:
    """Which pictures are asked for: ``n`` of each prompt in each of the ways.

    Args:
        prompts: texts.
        n: pictures a prompt.
        seed: of the first.
        ways: of sampling; more than one for a comparison.
        composition: what goes with every prompt.
        edit: the photograph to begin from.
        told: what the records say of every picture.
    """

    prompts: list[str]
    n: int
    seed: int
    ways: list[SamplingConfig]
    composition: Composition
    edit: Edit | None
    told: dict[str, Any]


def sample_all(request: Request, generator: Generator, gallery: ImageWriter, film: bool) -> None:
    """Paint and write everything that is asked for; what is painted is written at once, and not lost on a crash."""
    from captionless.generation.trajectory import Trajectory, animation, strip
    from captionless.generation.writer import sheet_limit, sweep_limit

    several = len(request.ways) > 1
    limit = sweep_limit(len(request.ways)) if several else sheet_limit(request.n)
    reel = Trajectory(generator.steps(request.ways[0])) if film else None
    total = len(request.prompts) * request.n
    columns: list[list[Painted]] = [[] for _ in request.ways]
    with bar() as progress, remarks():
        task = progress.add_task("Painting", total=total * len(request.ways))
        for way, shown in zip(request.ways, columns, strict=True):
            for batch in sample_one_way(request, way, generator, reel):
                paths = gallery.add(batch)
                for path in paths:
                    show(path)
                for path, frames in zip(paths, reel.take() if reel else [], strict=reel is not None):
                    gallery.add_film(path, strip(frames), animation(frames))
                shown += batch[: limit - len(shown)]
                progress.advance(task, len(batch))
    if several:
        sheet = gallery.add_sweep([f"w = {way.guidance:g}" for way in request.ways], columns, request.n > 1)
    else:
        sheet = gallery.add_sheet(columns[0], request.n)
    drawn, sampled = len(columns) * len(columns[0]), len(columns) * total
    say(f"Contact sheet: {sheet}" + (f" (the first {drawn:,} of {sampled:,} pictures)" if sampled > drawn else ""))
    if reel:
        say(f"Films: NUMBER-film.png and NUMBER-film.gif beside each picture in {gallery.folder}")


def sample_one_way(
    request: Request, way: SamplingConfig, generator: Generator, on_step: Trajectory | None
) -> Iterator[list[Painted]]:
    """Paint each picture of a request once; yield batches, with all that decided each picture."""
    from captionless.conditioning.composition import towards_shares
    from captionless.generation.generator import image_seeds
    from captionless.generation.writer import Painted

    n, composition = request.n, request.composition
    seeds = image_seeds(len(request.prompts), n, request.seed, composition)
    shares, done = towards_shares(n), 0
    for images in generator.stream(request.prompts, n, request.seed, way, composition, request.edit, on_step):
        batch = []
        for i, image in enumerate(images, done):
            own = {"prompt": request.prompts[i // n], "seed": seeds[i]}
            if composition.towards:
                own["towards_share"] = shares[i % n]
            batch.append(Painted(image, {**own, **request.told, **asdict(way)}))
        done += len(batch)
        yield batch
