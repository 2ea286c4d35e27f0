"""Write and read safetensors files that detect damage: the header holds a digest of the file's content.

The header's metadata has the entry ``captionless``: JSON with ``digest`` (SHA-256 of the tensors and of all other
metadata), ``model`` (the id of the model that the file belongs to) and whatever else a file records. The digest lies in
the file itself, because the files of a model are replaced one by one: each is valid at any moment. Reading 22 MB with
its digest takes up to 0.1 s longer than without. Files of other programs and of earlier versions have no digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from captionless.errors import CaptionlessError
from captionless.files import LFS_POINTER, atomic_write
from captionless.paths import WINDOWS
from captionless.text_files import parse_json

ENTRY = "captionless"
# One entry, because safetensors writes several in random order.
_REMEDY = "Restore it from a copy, or make it again."


def save_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any] | None = None) -> None:
    """Write a safetensors file with its digest atomically.

    Args:
        path: the file.
        tensors: tensors by name.
        about: JSON values to record in the header, such as ``model``.

    Raises:
        CaptionlessError: a tensor holds values that are not finite, or the file cannot be written.
    """
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    check_finite(stored, f"{path} was not written")
    about = dict(about or {})
    header = json.dumps(about | {"digest": content_digest(stored, about)}, sort_keys=True, ensure_ascii=False)
    with atomic_write(path) as temporary:
        try:
            save_file(stored, temporary, metadata={ENTRY: header})
        except SafetensorError as error:
            raise OSError(str(error)) from error


def read_tensors(path: Path, model: str = "") -> dict[str, Tensor]:
    """Read a safetensors file into memory, and check it.

    Args:
        path: the file.
        model: the id of the model that the file must belong to; "" accepts any file, even one without a digest.

    Raises:
        CaptionlessError: the file is missing, damaged or that of another model, or holds values that are not finite.
    """
    about = read_about(path)
    try:
        tensors: dict[str, Tensor] = load_file(path)
        if WINDOWS:  # which replaces no file that is mapped, and a training replaces the files that it began with
            tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, str(error)) from error
    if "digest" in about or model:
        digest = about.pop("digest", None)
        if digest != content_digest(tensors, about):
            raise _damaged(path, "its digest is missing" if digest is None else "its content does not have its digest")
    check_finite(tensors, f"{path} is damaged")
    if model and about.get("model") != model:
        raise CaptionlessError(
            f"{path} belongs to another model than the config.json of its folder. Restore both files from the same "
            "model.",
            code="damaged_model",
        )
    return tensors


def read_about(path: Path) -> dict[str, Any]:
    """Return what the header of a safetensors file records besides its tensors: its metadata, with parsed JSON.

    Raises:
        CaptionlessError: the file is missing or damaged.
    """
    try:
        if not path.is_file():
            raise CaptionlessError(f"{path} is missing: its folder is incomplete. {_REMEDY}", code="damaged_model")
        with safe_open(path, framework="pt") as file:
            about: dict[str, Any] = dict(file.metadata() or {})
        entry = about.pop(ENTRY, None)
        found = dict(parse_json(entry or "{}"))
        # A damaged name of the entry or of the digest must not make a file one without a digest.
        if "digest" not in found and (entry is not None or any('"digest"' in value for value in about.values())):
            raise _damaged(path, "its digest is missing")
        return about | found
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise _damaged(path, str(error)) from error


def check_tensors(path: Path) -> None:
    """Check a safetensors file that another library reads: its header and, if it has one, its digest.

    Raises:
        CaptionlessError: the file is missing or damaged.
    """
    if "digest" in read_about(path):
        read_tensors(path)


def content_digest(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> str:
    """Return the digest of tensors and of what a header says ``about`` them (SHA-256, 64 hex digits)."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), tensor.shape]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    """Raise a `CaptionlessError`, which begins with ``what``, if a tensor holds NaN or infinity."""
    for name, tensor in tensors.items():
        numbers = tensor.float() if tensor.itemsize == 1 else tensor  # PyTorch has no test for 8-bit floats
        if tensor.is_floating_point() and not bool(numbers.isfinite().all()):
            raise CaptionlessError(
                f"{what}: its tensor {name} holds values that are not finite. {_REMEDY}", code="damaged_model"
            )


def _damaged(path: Path, why: str) -> CaptionlessError:
    with suppress(OSError), path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            return CaptionlessError(
                f"{path} is a pointer of Git LFS: the file itself was not fetched. Run `git lfs pull` in its folder.",
                code="damaged_model",
            )
    return CaptionlessError(f"{path} is damaged ({' '.join(why.split())[:200]}). {_REMEDY}", code="damaged_model")
