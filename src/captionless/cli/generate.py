"""`captionless generate`: prompts in, images out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from captionless.cli import generate_options as options
from captionless.cli.console import Watcher, bar, remarks, show
from captionless.config.sampling import SamplingConfig
from captionless.errors import CaptionlessError
from captionless.generation.request import (
    GenerationRequest,
    check_combinations,
    choose_prompts,
    generate_into,
    interval,
    numbers,
    read_composition,
    read_edit,
)

DEFAULTS = SamplingConfig()


def generate(
    words: options.Words = None,
    prompts: options.Prompts = None,
    model: options.Model = "bundled",
    encoder: options.Encoder = None,
    n: options.Count = None,
    seed: options.Seed = 0,
    out: options.Out = Path("images"),
    trajectory: options.Trajectory = False,
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
    """Generate images from prompts; their paths are printed.

    Writes numbered PNGs that hold their settings as text, a sample grid and manifest.jsonl.
    """
    given = dict(locals())
    scales = numbers("--guidance", guidance, "5, or -1,0,1,3 to compare")
    chosen: dict[str, Any] = {
        "guidance_interval": None if guidance_interval is None else interval(guidance_interval),
        "guidance_rescale": guidance_rescale or 0.0,
        "threshold": threshold,
        "steps": steps,
        "sampler": sampler,
        "spacing": spacing,
        "eta": eta,
        "churn": churn,
        "variance": variance,
        "bridge": bridge or DEFAULTS.bridge,
        "precision": precision,
        "batch": batch,
    }
    sampling = SamplingConfig(**chosen)
    for scale in scales:
        sampling.replace(guidance=scale)  # check them all
    texts = choose_prompts(model, words or (), prompts, classes or (), wordless=like is not None)
    if classes and bridge is not None:
        raise CaptionlessError(
            "--bridge leads from words to images, and a model of classes has no words. Leave it out."
        )
    check_combinations(given, texts, scales)
    with remarks():
        composition, edit = read_composition(given), read_edit(given)

    import captionless
    from captionless.generation.writer import ImageWriter

    request = GenerationRequest(texts, sampling, composition, edit, n, seed, scales, trajectory)
    writer = ImageWriter(out)
    generator = captionless.load(model, encoder)
    with bar() as progress, remarks():
        for path in generate_into(writer, generator, request, Watcher(progress)):
            show(path)
