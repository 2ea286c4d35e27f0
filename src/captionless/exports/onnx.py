"""Export a model as ONNX files, from which programs in any language can generate images.

The folder has these files (``docs/export.md`` says how to use them):

    captionless.json                what the others are: stages, schedules, text side, bridge and settings
    text.onnx tokenizer.json        texts to unit vectors; absent in a class-conditional model, as are
    image.onnx                      images to unit vectors
    vocabulary.json                 the words that the encoder knows, if it has a list of them
    bank.safetensors                the vectors for the bridge
    base.onnx super-resolution.onnx the denoisers of the stages
    README.md examples/ CREDITS.csv the model card with example images, and the authors of the training images
"""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from captionless._version import __version__
from captionless.checkpoints.model import BANK
from captionless.conditioning import bridge
from captionless.config.export import ExportRequest
from captionless.config.sampling import SamplingConfig
from captionless.diffusion.schedules import SCHEDULE_KINDS
from captionless.diffusion.super_resolution import MAX_NOISE
from captionless.exports.card import write_card
from captionless.exports.encoder import write_image, write_text_side
from captionless.exports.graphs import quantise, write_graph
from captionless.generation.generator import Generator
from captionless.generation.sample import Stage, guidance_of
from captionless.progress import Progress
from captionless.tensor_files import save_tensors
from captionless.text_files import write_text

CONTENTS = "captionless.json"
FORMAT = 1
GRAPHS = ("base.onnx", "super-resolution.onnx")
USE = f"These are ONNX files for programs in any language. `{CONTENTS}` says what each of them is."
SETTINGS = ("guidance", "variety", "steps", "sampler")
"""The settings whose range and default are described."""


def export_onnx(generator: Generator, request: ExportRequest, folder: Path, progress: Progress) -> None:
    """Write a model as a folder of ONNX files.

    Raises:
        CaptionlessError: the encoder of the model cannot be exported.
        ModuleNotFoundError: a package is missing.
    """
    write_files(generator, folder, progress)
    write_card(generator, request, folder, USE, progress, library="onnx")


def write_files(generator: Generator, folder: Path, progress: Progress, *, packed: bool = False) -> dict[str, Any]:
    """Write the files of a model into a folder, and return the content of ``captionless.json``.

    Args:
        generator: the model.
        folder: an existing folder.
        progress: is told how many graphs are complete.
        packed: store the weights of the denoisers in 8 bits, and those of the encoder in 16.
    """
    config = generator.model.config
    total = len(generator.stages) + (0 if generator.classes else 2)
    text, image, stages = None, None, []
    if not generator.classes:
        text = write_text_side(generator.encoder, folder, packed) | {"bridge": _write_bridge(generator, folder)}
        progress.advance("Exporting", 1, total)
        image = write_image(generator.encoder, folder, packed)
        progress.advance("Exporting", 2, total)
    for stage, name in zip(generator.stages, GRAPHS, strict=False):
        inputs = denoiser_inputs(stage)
        network, pack = copy.deepcopy(stage.denoiser).cpu(), quantise if packed else None
        write_graph(network, inputs, "prediction", folder / name, pack=pack)
        stages.append({"graph": name, **_describe(stage, list(inputs))})
        progress.advance("Exporting", total - len(generator.stages) + len(stages), total)
    content = {
        "format": FORMAT,
        "version": __version__,
        "model": Path(generator.model.name).name,
        "channels": config.denoiser.channels,
        "condition_width": config.condition_width,
        "classes": list(generator.classes),
        "text": text,
        "image": image,
        "stages": stages,
        "settings": {name: SamplingConfig.model_json_schema()["properties"][name] for name in SETTINGS},
        "sampling": SamplingConfig().model_dump(mode="json"),
    }
    write_contents(folder, content)
    return content


def write_contents(folder: Path, content: dict[str, Any]) -> None:
    """Write ``captionless.json``."""
    write_text(folder / CONTENTS, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def denoiser_inputs(stage: Stage, n: int = 2) -> dict[str, Tensor]:
    """Return an example of ``n`` rows of every input of a stage's network, by name."""
    config, size = stage.denoiser.config, stage.config.size
    random = torch.Generator().manual_seed(0)
    xt = torch.randn(n, config.channels + config.low_res_channels, size, size, generator=random)
    condition = F.normalize(torch.randn(n, config.condition_width, generator=random))
    inputs = {"xt": xt, "t": torch.rand(n, generator=random), "condition": condition}
    if config.perturbs(size):
        inputs["identity"] = (torch.arange(n) % 2).float()
    return inputs


def _write_bridge(generator: Generator, folder: Path) -> dict[str, Any]:
    """Write the image vectors of the bridge, and return its constants."""
    vectors = generator.model.bridge_data.bank.to(torch.float16)
    save_tensors(folder / BANK, {"vectors": vectors})
    about = {"bank": BANK, "text_share": bridge.text_share(len(vectors)), "bandwidth": bridge.BANDWIDTH}
    about |= {"fewest": bridge.fewest(len(vectors)), "largest_share": bridge.largest_share(len(vectors))}
    return about | {"draws": bridge.DRAWS}


def _describe(stage: Stage, inputs: list[str]) -> dict[str, Any]:
    """Return what there is to know about a stage besides its graph."""
    config, sampling = stage.config, SamplingConfig()
    kind = next(name for name, one in SCHEDULE_KINDS.items() if isinstance(config.schedule, one))
    guidance = guidance_of(sampling, config.schedule)
    about: dict[str, Any] = {
        "size": config.size,
        "inputs": inputs,
        "prediction": config.prediction,
        "schedule": {"kind": kind, **asdict(config.schedule)},
        "guidance_interval": list(guidance.interval),
        "perturbed_above": guidance.perturbed_above,
    }
    return about | ({"low_res": {"size": config.base_size, "max_noise": MAX_NOISE}} if config.base_size else {})
