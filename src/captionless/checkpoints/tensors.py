"""Save and read safetensors files; pickles are never read."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from captionless.checkpoints.old_formats import renamed_layers
from captionless.errors import CaptionlessError
from captionless.files import atomic_write


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file atomically.

    Raises:
        CaptionlessError: the file cannot be written (no space, no permission).
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as temporary:
        try:
            save_file(contiguous, temporary, metadata=metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file into memory, converting layer names of earlier formats to the current ones.

    Raises:
        CaptionlessError: the file is missing or damaged.
    """
    if not path.is_file():
        raise CaptionlessError(f"{path} is missing: the model folder is incomplete. Restore it, or train again.")
    try:
        return {renamed_layers(name): tensor for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise CaptionlessError(f"{path} is damaged ({error}). Restore it, or train again.") from error


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata in the header of a safetensors file."""
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})
