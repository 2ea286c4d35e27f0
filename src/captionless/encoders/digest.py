"""Hash the content of an encoder's image side: equal hashes exactly for encoders that give the same image vectors.

Models and caches hold image vectors only, so a better text side leaves them valid.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from captionless.encoders.hub import weight_files
from captionless.encoders.model_errors import foreign, read_settings

# Keys of config.json that do not change a vector: the program that wrote it, and how numbers are stored.
_VOLATILE = {"transformers_version", "_name_or_path", "_commit_hash", "architectures", "dtype", "torch_dtype"}
# Prefixes of tensors and of keys of config.json that change no image vector: the text side and the temperature.
_NOT_IMAGE = ("text_", "logit_scale", "logit_bias")
_TOKENIZER_PARTS = ("normalizer", "pre_tokenizer", "post_processor", "model", "added_tokens")
_TOKENIZER_RULES = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")
_SHIPPED = "f952233c2ea26b700c967a9c295ffe7fbbf0ccad4ddad2ed37d09293a94a99e0"
IMAGE_SIDES = {"7eeb4b0da117702cd4339d5cbdcdc4f64a3c66638abaaa59fec83263c3c92e08": _SHIPPED}
"""Hash of the whole of each encoder that shipped with an earlier text side: hash of its image side."""
_IMAGE_STEPS = (
    "do_resize",
    "size",
    "resample",
    "do_center_crop",
    "crop_size",
    "do_rescale",
    "rescale_factor",
    "rescale_offset",
    "do_normalize",
    "include_top",
    "image_mean",
    "image_std",
)


@dataclass(frozen=True)
class Digests:
    """Content hashes of an encoder, 64 hex digits each (SHA-256).

    Attributes:
        image: of its image side.
        whole: of image and text side, as recorded by models of format 7 and earlier.
    """

    image: str
    whole: str

    @property
    def all(self) -> frozenset[str]:
        """Every hash by which models and caches know this image side, those of earlier versions included."""
        return frozenset((self.image, self.whole, *(old for old, new in IMAGE_SIDES.items() if new == self.image)))


BUNDLED_DIGESTS = Digests(_SHIPPED, "ecf7ae45ee8c0f8973798d65a79f861d34a00985142d48a3bb189c900eef081f")
"""The hashes of the bundled encoder, known without reading its weights and image processor; a test compares them."""


def content_digests(folder: Path, image_processor: Any, text_limit: int) -> Digests:
    """Hash everything that decides an encoder's vectors.

    Tensors of the safetensors files count by name, shape and values as float32, ``config.json`` without its
    bookkeeping, and the image processor by its steps; the hash of the whole adds the tokenizer's rules and vocabulary
    and the token limit. File names, sharding and the stored number format do not count, so that one encoder has one
    digest as a hub id, as a local folder, and as a float16 or float32 file of the same values (all are computed in
    float32).
    """
    image, whole = hashlib.sha256(), hashlib.sha256()
    for name, tensor in _tensors(folder):
        numbers = tensor.float() if tensor.is_floating_point() else tensor.long()
        for digest in (whole,) if name.startswith(_NOT_IMAGE) else (whole, image):
            digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
            digest.update(numbers.contiguous().numpy().data)
    config, steps = _config(folder), _image_steps(image_processor)
    image.update(_canonical({key: value for key, value in config.items() if not key.startswith(_NOT_IMAGE)}))
    image.update(_canonical(steps))
    whole.update(_canonical(config))
    for part in _tokenizer(folder):
        whole.update(part)
    whole.update(_canonical(steps | {"text_limit": text_limit}))
    return Digests(image.hexdigest(), whole.hexdigest())


def _tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    paths = weight_files(folder)
    with ExitStack() as stack:
        with foreign():
            files = [stack.enter_context(safe_open(path, framework="pt")) for path in paths]
        where = {name: file for file in files for name in file.keys()}  # noqa: SIM118 (not a dict)
        for name in sorted(where):
            yield name, where[name].get_tensor(name)


def _config(folder: Path) -> Any:
    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: kept(item) for key, item in value.items() if key not in _VOLATILE}
        return value

    return kept(read_settings(folder / "config.json"))


def _tokenizer(folder: Path) -> Iterator[bytes]:
    """Yield the tokenizer's rules; padding and truncation in ``tokenizer.json`` only record how it was called last."""
    rules = folder / "tokenizer_config.json"
    if rules.is_file():
        config = read_settings(rules)
        yield _canonical({rule: config[rule] for rule in _TOKENIZER_RULES if rule in config})
    whole = read_settings(folder / "tokenizer.json")
    yield _canonical({part: whole.get(part) for part in _TOKENIZER_PARTS})


def _image_steps(image_processor: Any) -> dict[str, Any]:
    """Return the steps that decide pixels, from the loaded processor, which unifies older spellings."""

    def plain(value: Any) -> Any:
        if value is None or isinstance(value, int | float | str):
            return value
        if hasattr(value, "get"):  # a size: a dict, or transformers' SizeDict
            return {key: item for key, item in dict(value).items() if item is not None}
        return list(value)

    return {step: plain(getattr(image_processor, step, None)) for step in _IMAGE_STEPS}


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
