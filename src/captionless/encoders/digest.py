"""Hash the content of an encoder: equal hashes exactly for encoders that give the same vectors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionless.encoders.hub import VOCABULARIES, weight_files

if TYPE_CHECKING:
    from torch import Tensor

# Keys of config.json that do not change a vector: the program that wrote it, and how numbers are stored.
_VOLATILE = {"transformers_version", "_name_or_path", "_commit_hash", "architectures", "dtype", "torch_dtype"}
_TOKENIZER_PARTS = ("normalizer", "pre_tokenizer", "post_processor", "model", "added_tokens")
_TOKENIZER_RULES = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")
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


def content_digest(folder: Path, image_processor: Any, text_limit: int) -> str:
    """Hash everything that decides an encoder's vectors; 64 hex digits (SHA-256).

    It covers every tensor of the safetensors files (name, shape, values as float32), ``config.json`` without its
    bookkeeping, the tokenizer's rules and vocabulary, the token limit, and the image processor's steps. It does not
    cover file names, sharding or the stored number format, so that one encoder has one digest as a hub id, as a local
    folder, and as a float16 or float32 file of the same values (all are computed in float32).
    """
    digest = hashlib.sha256()
    for name, tensor in _tensors(folder):
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        numbers = tensor.float() if tensor.is_floating_point() else tensor.long()
        digest.update(numbers.contiguous().numpy().data)
    digest.update(_canonical(_config(folder)))
    for part in _tokenizer(folder):
        digest.update(part)
    digest.update(_canonical(_image_steps(image_processor) | {"text_limit": text_limit}))
    return digest.hexdigest()


def _tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    from safetensors import safe_open

    with ExitStack() as stack:
        files = [stack.enter_context(safe_open(path, framework="pt")) for path in weight_files(folder)]
        where = {name: file for file in files for name in file.keys()}  # noqa: SIM118 (not a dict)
        for name in sorted(where):
            yield name, where[name].get_tensor(name)


def _config(folder: Path) -> Any:
    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: kept(item) for key, item in value.items() if key not in _VOLATILE}
        return value

    return kept(json.loads((folder / "config.json").read_text(encoding="utf-8")))


def _tokenizer(folder: Path) -> Iterator[bytes]:
    """Yield the tokenizer's rules, then ``tokenizer.json`` if there is one, else the vocabulary files.

    Padding and truncation in ``tokenizer.json`` only record how it was called last.
    """
    rules = folder / "tokenizer_config.json"
    if rules.is_file():
        config = json.loads(rules.read_text(encoding="utf-8"))
        yield _canonical({rule: config[rule] for rule in _TOKENIZER_RULES if rule in config})
    path = folder / "tokenizer.json"
    if path.is_file():
        whole = json.loads(path.read_text(encoding="utf-8"))
        yield _canonical({part: whole.get(part) for part in _TOKENIZER_PARTS})
        return
    for name in VOCABULARIES:
        if (folder / name).is_file():
            yield name.encode() + b"\n" + (folder / name).read_bytes()


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
