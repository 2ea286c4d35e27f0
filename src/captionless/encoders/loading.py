"""Load the network, image processor and tokenizer of a transformers model from a folder."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from captionless.device import to_device
from captionless.encoders.hub import ModelKind, weight_files
from captionless.encoders.model_errors import foreign, read_settings
from captionless.errors import CaptionlessError
from captionless.tensor_files import check_tensors
from captionless.text_files import MAX_TEXT

_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
_POOLER = "pooler."
MAX_DEPTH = 1_000
"""Layers of a model."""
_DEPTH = re.compile("layers|depth|repeat|blocks|stages")
MAX_GROWTH = 10_000
"""Factor by which a tokenizer may lengthen a text before it is divided into tokens; CLIP's does so by 2."""


def model_inputs(folder: Path) -> tuple[set[str], str]:
    """Return the inputs that a model accepts ("images", "texts") and its model type, based on its ``config.json``.

    "texts" is included only for dual encoders.
    """
    from transformers import MODEL_MAPPING, AutoConfig

    check_files(folder)
    with foreign():
        config = AutoConfig.from_pretrained(folder, **_LOCAL)
        found = MODEL_MAPPING.get(type(config), None)
    classes = found if isinstance(found, list | tuple) else [found]
    if any(hasattr(one, "get_image_features") and hasattr(one, "get_text_features") for one in classes):
        return {"images", "texts"}, config.model_type
    reads_images = any(getattr(one, "main_input_name", None) == "pixel_values" for one in classes)
    return {"images"} if reads_images else set(), config.model_type


def check_files(folder: Path) -> None:
    """Raise if transformers could not read a folder in bounded time and memory.

    That is the case for endless or very large files of text, and a ``config.json`` that asks for more layers than any
    model has.
    """
    for path in folder.iterdir():
        if path.suffix in (".json", ".txt", ".model") and path.stat().st_size > MAX_TEXT:
            raise CaptionlessError(f"{path} is damaged: it has more than {MAX_TEXT:,} bytes. Use another model.")

    def check(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for inner in value:
                check(inner, value[inner])
        elif isinstance(value, list):
            for one in value:
                check(name, one)
        elif isinstance(value, int | float) and value > MAX_DEPTH and _DEPTH.search(name):
            raise CaptionlessError(f"{folder / 'config.json'} is damaged: {name} is {value:,}. Use another model.")

    check("", read_settings(folder / "config.json"))


def load_encoder_network(name: str, kind: ModelKind, folder: Path, device: str) -> tuple[Any, Any, bool]:
    """Return a network (float32, in eval mode), its image processor, and whether its pooler has weights.

    The weights of a classifier do not include the pooler, which transformers then initialises randomly.

    Raises:
        CaptionlessError: the weights are damaged, or lack tensors other than those of the pooler.
    """
    for path in weight_files(folder):
        check_tensors(path)
    from transformers import AutoModel

    with foreign():
        network, report = AutoModel.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **_LOCAL
        )
    require_complete(name, kind, [key for key in report["missing_keys"] if not key.startswith(_POOLER)])
    processor = load_image_processor(folder)
    network = to_device(network.eval().requires_grad_(False), torch.device(device))
    return network, processor, not report["missing_keys"]


def require_complete(name: str, kind: ModelKind, missing: Iterable[str]) -> None:
    """Raise if weights of a model are missing."""
    if found := sorted(missing):
        raise CaptionlessError(
            f"the {kind.noun} {name} is incomplete: {len(found)} tensors are missing from its weights, such as "
            f"{found[0]}. Download it again or use another {kind.noun}."
        )


def load_image_processor(folder: Path) -> Any:
    """Return the image processor of a folder, which has processed an image: settings are not validated before."""
    # Some transformers 5 releases do not export the public name if torchvision is missing.
    from transformers.models.auto.image_processing_auto import AutoImageProcessor

    # Always use the Pillow backend, so that pixels do not depend on whether torchvision is installed.
    with foreign():
        processor = AutoImageProcessor.from_pretrained(folder, backend="pil", **_LOCAL)
        processor(images=[Image.new("RGB", (16, 16))], return_tensors="pt")
    return processor


def _growth(rule: Any) -> float:
    """Return by how much the replacements of a tokenizer's normalizer may lengthen a text, at most."""
    if not isinstance(rule, dict):
        return 1.0
    added = len(str(rule.get("content", rule.get("prepend", ""))))
    parts = rule.get("normalizers")
    return math.prod(map(_growth, parts if isinstance(parts, list) else ()), start=1.0 + added)


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer of a folder; the end token is used for padding if there is no padding token."""
    from transformers import AutoTokenizer

    rules = read_settings(folder / "tokenizer.json")
    if _growth(rules.get("normalizer")) > MAX_GROWTH:
        raise CaptionlessError(f"{folder / 'tokenizer.json'} makes texts more than {MAX_GROWTH:,} times as long.")
    with foreign():
        tokenizer = AutoTokenizer.from_pretrained(folder, **_LOCAL)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
