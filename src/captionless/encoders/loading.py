"""Load the parts of a transformers model from a folder: network, image processor, tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captionless.encoders.hub import ModelKind, quiet
from captionless.errors import CaptionlessError

_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


@dataclass(frozen=True)
class Reads:
    """The input modalities of a model configuration, and its model type for error messages."""

    images: bool
    both: bool
    model_type: str


@contextmanager
def loading(name: str, kind: ModelKind, folder: Path) -> Iterator[None]:
    """Silence transformers, and convert its exceptions into a `CaptionlessError`.

    The type of these exceptions varies with the kind of damage.
    """
    with quiet():
        try:
            yield
        except CaptionlessError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise CaptionlessError(
                f"the {kind.noun} {name} in {folder} cannot be loaded ({reason}). Download it again or use another."
            ) from error


def what_it_reads(folder: Path) -> Reads:
    """Return what a model reads, by its ``config.json``: images, or both images and texts (a dual encoder)."""
    from transformers import MODEL_MAPPING, AutoConfig

    config = AutoConfig.from_pretrained(folder, **_LOCAL)
    found = MODEL_MAPPING.get(type(config), None)
    classes = found if isinstance(found, list | tuple) else [found]
    both = any(hasattr(c, "get_image_features") and hasattr(c, "get_text_features") for c in classes)
    images = any(getattr(c, "main_input_name", None) == "pixel_values" for c in classes)
    return Reads(images, both, config.model_type)


def load_network(folder: Path, device: str) -> tuple[Any, Any, list[str]]:
    """Return a network (float32, in eval mode), its image processor, and the tensors that its weights lack."""
    import torch
    from transformers import AutoModel

    # From its own module: several transformers 5 releases hide the public name where torchvision is missing.
    from transformers.models.auto.image_processing_auto import AutoImageProcessor

    from captionless.device import to_device

    network, report = AutoModel.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **_LOCAL
    )
    # The Pillow backend, even if torchvision is installed: the same pixels on every machine.
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil", **_LOCAL)
    network = to_device(network.eval().requires_grad_(False), torch.device(device))
    return network, processor, sorted(report["missing_keys"])


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer of a folder; one without a padding token pads with the end token."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, **_LOCAL)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def require_complete(name: str, kind: ModelKind, missing: list[str]) -> None:
    """Raise if tensors are missing: transformers would fill them with random numbers."""
    if missing:
        raise CaptionlessError(
            f"the {kind.noun} {name} is incomplete: {len(missing)} tensors are missing from its weights, such as "
            f"{missing[0]}. Download it again, or use another."
        )
