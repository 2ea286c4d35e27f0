"""Measure what each part of the recipe brings.

    python recipes/ablations/ablate.py --list
    python recipes/ablations/ablate.py ROW... --photos PHOTOS/train --judge judge.py --out ablations
    python recipes/ablations/ablate.py --tables --out ablations

A row is a model (the bundled one, or one trained for the purpose) and a way of sampling. All rows use the judge's own
prompts. JUDGE is a program called as ``judge.py IMAGES --manifest manifest.jsonl --json result.json``, with a
``prompts.jsonl`` beside it. ROW may be a pattern, such as 'sampler/*'. Rows already measured are not measured again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import captionless
from captionless.checkpoints.config import base_folder, load_config, model_folder
from captionless.checkpoints.model import Model
from captionless.conditioning.composition import slerp
from captionless.config.keyword_types import TrainKeywords
from captionless.config.sampling import SamplingConfig
from captionless.diffusion.samplers import SAMPLERS
from captionless.encoders import write_vectors
from captionless.generation.grids import sample_grid
from captionless.generation.image import GeneratedImage
from captionless.generation.writer import ImageWriter

sys.path.append(str(Path(__file__).parents[1] / "clip"))
from standin import load_stand_in

TRAINING: TrainKeywords = {"size": 32, "width": 64, "images": 40_000, "batch": 64, "warm_up": 6_400, "tokens": 0}
TRAINING |= {"weighting": "uniform"}
OFF = 1000.0
"""The noise level above which perturbed attention is off."""
BASE: dict[str, Any] = {"guidance": 3.0, "guidance_interval": (0.0, 1.0), "perturbed_attention": OFF, "steps": 10}
"""How rows are sampled, except for what they vary; few steps, since there are many rows."""
NEIGHBOURS = 20
"""Neighbours of the bridge, except in the rows that vary them."""
SHOWN = (0, 16, 31, 46, 61, 76, 91, 106, 121, 136)
"""Prompts whose first image is shown in the grids."""


@dataclass(frozen=True)
class Row:
    """A model and a way of sampling.

    Args:
        model: "bundled", or a name in ``MODELS``.
        sampling: settings that differ from the defaults.
        n: images per prompt.
        seed: seed of the first image.
        apart: how far apart the seeds of two prompts' first images are; 0: all prompts use the same seeds.
        bridge: a function from text vectors (n, d) to conditions that the library does not have.
    """

    model: str = "bundled"
    sampling: dict[str, Any] = field(default_factory=dict)
    n: int = 2
    seed: int = 0
    apart: int = 0
    bridge: Callable[[Tensor, Model], Tensor] | None = None


MOVED = "tokens in CLIP's geometry"
MODELS: dict[str, TrainKeywords] = {
    "whole": {},
    "element": {"mask": "element"},
    "tokens": {"tokens": 4},
    "sharp": {"condition_cosine": 1.0},
    MOVED: {"tokens": 4},
}


def softmax_mean(count: int, times: int, text: Tensor, model: Model) -> Tensor:
    """Return the mean of the ``count`` nearest training vectors, after some mean-shift iterations.

    Until conditions were drawn per image, this was the bridge: weights are a softmax at the encoder's temperature.
    """
    temperature = 1 / model.config.require_encoder().logit_scale
    for _ in range(1 + times):
        cosines, indices = (text @ model.bank.T).topk(min(count, len(model.bank)), dim=1)
        weights = torch.softmax(cosines / temperature, dim=1)
        text = F.normalize((weights.unsqueeze(-1) * model.bank[indices]).sum(1), dim=1)
    return text


def halfway(text: Tensor, model: Model) -> Tensor:
    """Return the points halfway between the text vectors and the means of their nearest training vectors."""
    return slerp(text, softmax_mean(100, 0, text, model), 0.5)


def half_neighbour(text: Tensor, model: Model) -> Tensor:
    """Return the mean of each text's nearest training vectors, mixed with one of the 40 nearest to that mean."""
    centre = softmax_mean(100, 2, text, model)
    nearby = (centre @ model.bank.T).topk(40, dim=1).indices
    drawn = torch.randint(40, (len(text), 1), generator=torch.Generator().manual_seed(1))
    return F.normalize(centre + model.bank[nearby.gather(1, drawn).squeeze(1)], dim=1)


def anchor_and_neighbours(text: Tensor, model: Model) -> Tensor:
    """Return one of the 16 training vectors nearest to each text, averaged with its two nearest among those 16."""
    nearby = model.bank[(text @ model.bank.T).topk(16, dim=1).indices]
    drawn = torch.randint(16, (len(text),), generator=torch.Generator().manual_seed(1))
    anchors = nearby[torch.arange(len(text)), drawn]
    closest = torch.einsum("nkd,nd->nk", nearby, anchors).topk(3, dim=1).indices
    return F.normalize(nearby.gather(1, closest.unsqueeze(-1).expand(-1, -1, text.shape[1])).mean(1), dim=1)


def steps_of(sampler: str, calls: int) -> int:
    """Return the steps that take at most ``calls`` network calls; all but the last of Heun's take two."""
    return (calls + 1) // 2 if sampler == "heun" else calls


def rows() -> dict[str, Row]:
    """Return all rows by name."""
    # The chosen defaults, with seeds that were not used in choosing them.
    table: dict[str, Row] = {"default/all defaults": Row(n=4, seed=1000)}
    for variety in (SamplingConfig().variety, 0.0):  # every image with noise and a condition of its own
        way = Row(sampling={"size": 64, "variety": variety}, n=14, seed=10_000, apart=14)
        table[f"default/64 pixels, variety {variety:g}"] = way
    for model in ("whole", "element", "tokens"):
        for w in (0.0, 1.0, 3.0):
            table[f"condition/{model}, w {w:g}"] = Row(model, {"guidance": w})
    table["bridge/nearest, 5 neighbours"] = Row(bridge=partial(softmax_mean, 5, 0))
    table["bridge/nearest, 100 neighbours"] = Row(bridge=partial(softmax_mean, 100, 0))
    table["bridge/halfway to the nearest"] = Row(bridge=halfway)
    best = {"guidance": 5.0, "guidance_interval": (0.1, 0.9)}
    table["bridge/nearest, w 5, t 0.1 to 0.9"] = Row(sampling=best)
    hundred = partial(softmax_mean, 100, 0)
    table["bridge/nearest, 100 neighbours, w 5, t 0.1 to 0.9"] = Row(sampling=best, bridge=hundred)
    for bridge in ("none", "mean", "nearest"):
        table[f"bridge/{bridge}"] = Row(sampling={"bridge": bridge})
        for model, noise in (("whole", "cosine 0.9"), ("sharp", "no noise")):
            table[f"noise/{noise}, {bridge}"] = Row(model, {"bridge": bridge})
    for model in ("tokens", MOVED):
        table[f"geometry/{model}"] = Row(model, SamplingConfig().model_dump(), n=8, seed=1000, apart=8)
    for w in (-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 6.0):
        table[f"guidance/w {w:g}"] = Row(sampling={"guidance": w})
    for low, high in ((0.0, 0.8), (0.2, 1.0), (0.1, 0.9), (0.2, 0.8)):
        table[f"guidance/w 3, t {low:g} to {high:g}"] = Row(sampling={"guidance_interval": (low, high)})
    for w in (4.0, 5.0, 6.0, 8.0):
        table[f"guidance/w {w:g}, t 0.1 to 0.9"] = Row(sampling={"guidance": w, "guidance_interval": (0.1, 0.9)})
    table["guidance/w 3, rescale 0.7"] = Row(sampling={"guidance_rescale": 0.7})
    for threshold in ("dynamic", "none"):
        table[f"guidance/w 3, threshold {threshold}"] = Row(sampling={"threshold": threshold})
    for above, w, low in ((OFF, 3, 0.16), (1, 3, 0.16), (0.5, 3, 0.16), (0, 3, 0.16), (0.4, 4, 0.06), (0.3, 3, 0.06)):
        levels = {"guidance": w, "guidance_levels": (low, 6.27), "perturbed_attention": above}
        perturbed = SamplingConfig().model_dump() | {"size": 64} | levels
        table[f"attention/above {above:g}, w {w}, levels from {low:g}"] = Row(sampling=perturbed, n=1, seed=1000)
    for sampler in SAMPLERS:  # euler is ddim and euler-ancestral is ddpm, in other coordinates
        for calls in (5, 8, 10, 15, 20, *((50, 150) if sampler in ("ddpm", "ddim") else ())):
            sampling = {"sampler": sampler, "steps": steps_of(sampler, calls)}
            table[f"sampler/{sampler}, {calls}"] = Row(sampling=sampling)
    for sampler in ("dpmpp-2m", "unipc", "heun", "euler"):
        sampling = {"sampler": sampler, "steps": steps_of(sampler, 10), "spacing": "karras"}
        table[f"spacing/{sampler}, 10, karras"] = Row(sampling=sampling)
    usual = SamplingConfig().model_dump()
    for times in (0, 1, 2, 3):
        table[f"mean-shift/{times} iterations"] = Row(sampling=usual, bridge=partial(softmax_mean, 100, times))
    small = str(base_folder(model_folder("bundled")))
    shifts = partial(softmax_mean, 100, 2)
    table["upsampling/none, at the size of the base model"] = Row(small, usual, bridge=shifts)
    for steps, noise in ((2, 0.05), (4, 0.05), (8, 0.05), (15, 0.05), (8, 0.0), (8, 0.1), (8, 0.2)):
        upsampling = {"upsample_steps": steps, "upsample_noise": noise}
        way = Row(sampling=usual | upsampling, bridge=shifts)
        table[f"upsampling/{steps} steps, noise {noise:g}"] = way
    before = {**usual, "variety": 0.0}
    table["variety/mean of 100, two mean-shift iterations"] = Row(sampling=before, n=8, bridge=shifts)
    table["variety/half a neighbour"] = Row(sampling=before, n=8, bridge=half_neighbour)
    table["variety/an anchor and its neighbours"] = Row(sampling=before, n=8, bridge=anchor_and_neighbours)
    for variety in (0.0, 0.1, 0.25, 0.5, 1.0):
        table[f"variety/{variety:g}"] = Row(sampling=usual | {"variety": variety}, n=8)
    table["default/10 steps"] = Row(sampling={"steps": 10}, n=4, seed=1000)
    return table


def model_for(name: str, photos: Path | None, out: Path) -> str:
    """Return the model folder of a row. Train it if it is not there yet; resume a stopped training."""
    if name not in MODELS:
        return name
    folder = out / "models" / name
    if (folder / "config.json").exists() and load_config(folder).training.images_seen >= TRAINING["images"]:
        return str(folder)
    if photos is None:
        sys.exit(f"the model {name} has to be trained first: name the photographs with --photos.")
    settings: TrainKeywords = {**TRAINING, **MODELS[name], "encoder": "bundled"}
    if name == MOVED:
        found = captionless.embed(photos, load_stand_in())
        write_vectors(out / "vectors.csv", found.names, found.vectors)
        settings["vectors"] = out / "vectors.csv"
    captionless.train(photos, folder, resume=True, **settings)
    return str(folder)


def measure(name: str, row: Row, photos: Path | None, judge: Path, out: Path) -> dict[str, Any]:
    """Generate the images of a row, run the judge and return its figures."""
    prompts = [json.loads(line)["prompt"] for line in judge.with_name("prompts.jsonl").open(encoding="utf-8")]
    folder = out / name
    model = model_for(row.model, photos, out)
    generator, sampling = (
        captionless.load(model, load_stand_in() if row.model == MOVED else None),
        SamplingConfig(**(row.sampling if name.startswith("default") else BASE | row.sampling)),
    )
    writer, started = ImageWriter(folder), time.monotonic()
    bridge = row.bridge or (partial(softmax_mean, NEIGHBOURS, 0) if sampling.bridge == "nearest" else None)
    texts = [prompt for prompt in prompts for _ in range(row.n)]
    seeds = [row.seed + row.apart * k + i for k in range(len(prompts)) for i in range(row.n)]
    if bridge and (row.bridge or not name.startswith(("default", "variety", "geometry"))):
        conditions = bridge(generator.encoder.encode_texts(texts), generator.model)
    else:
        conditions = generator.conditions(texts, sampling, seeds)
    manifest = folder / "manifest.jsonl"
    done = len(manifest.read_text(encoding="utf-8").splitlines()) if manifest.exists() else 0  # an interrupted run's
    for start in range(done, len(conditions), sampling.batch):
        part = slice(start, start + sampling.batch)
        images = generator.sample(conditions[part], seeds[part], sampling)
        for image, text, seed in zip(images, texts[part], seeds[part], strict=True):
            writer.add(GeneratedImage(image, text, seed, sampling, {"model": model}))
    seconds = time.monotonic() - started
    result = folder / "judge.json"
    command = [sys.executable, str(judge), str(folder), "--manifest", str(manifest), "--json", str(result)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    figures: dict[str, Any] = json.loads(result.read_text()) | {"seconds": round(seconds, 1)}
    (folder / "row.json").write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def tables(out: Path) -> str:
    """Return the measured rows as Markdown tables, one per group, and draw their grids."""
    lines: list[str] = []
    groups: dict[str, list[str]] = {}
    for name in rows():
        if (out / name / "row.json").exists():
            groups.setdefault(name.split("/")[0], []).append(name)
    for group, names in groups.items():
        lines += [
            f"\n### {group}\n",
            "| row | images | kind % | petals % | both % | KID x 1000 |",
            "|---|---|---|---|---|---|",
        ]
        for name in names:
            one = json.loads((out / name / "row.json").read_text())
            n, shares = one["pictures"], [one[what] for what in ("flower", "petals", "both")]
            share = " | ".join(f"{100 * p:.1f} ±{100 * (p * (1 - p) / n) ** 0.5:.1f}" for p in shares)
            lines.append(f"| {name.split('/')[1]} | {n} | {share} | {one['kid']:.1f} ±{one['kid_err']:.1f} |")
        draw(out, group, names)
    return "\n".join(lines)


def draw(out: Path, group: str, names: list[str]) -> None:
    """Draw a grid with the same prompts and seeds for every row of a group."""
    from PIL import Image

    images = []
    for name in names:
        manifest = [json.loads(line) for line in (out / name / "manifest.jsonl").open(encoding="utf-8")]
        prompts = list(dict.fromkeys(one["prompt"] for one in manifest))
        first = {one["prompt"]: one["file"] for one in reversed(manifest)}
        images.append([Image.open(out / name / first[prompts[i]]) for i in SHOWN])
    sample_grid(images, [name.split("/")[1] for name in names], cell=64).convert("RGB").save(
        out / f"{group}.jpg", quality=85
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", nargs="*", help="names or patterns of rows (see --list)")
    parser.add_argument("--list", action="store_true", help="print the names of all rows")
    parser.add_argument("--tables", action="store_true", help="print what has been measured as Markdown")
    parser.add_argument("--photos", type=Path, help="folder of training photographs, one sub-folder per kind")
    parser.add_argument("--judge", type=Path, help="the judging program")
    parser.add_argument("--out", type=Path, default=Path("ablations"))
    asked = parser.parse_args()
    if asked.list:
        print("\n".join(rows()))
    chosen = {name: row for name, row in rows().items() if any(fnmatch(name, pattern) for pattern in asked.row)}
    if asked.row and (not chosen or asked.judge is None):
        sys.exit("no such row; see --list" if not chosen else "name the judging program with --judge")
    for name, row in chosen.items():
        if not (asked.out / name / "row.json").exists():
            print(name, measure(name, row, asked.photos, asked.judge, asked.out), flush=True)
    if asked.tables:
        print(tables(asked.out))


if __name__ == "__main__":
    main()
