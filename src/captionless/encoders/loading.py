"""Load the parts of a transformers model from a folder: network, image processor, tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from captionless.device import to_device
from captionless.encoders.hub import ModelKind, quiet_hub
from captionless.errors import CaptionlessError

_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
_POOLER = "pooler."


@contextmanager
def loading_errors(name: str, kind: ModelKind, folder: Path) -> Iterator[None]:
    """Silence transformers, and convert its exceptions into a `CaptionlessError`.

    The type of these exceptions varies with the kind of damage.
    """
    with quiet_hub():
        try:
            yield
        except CaptionlessError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise CaptionlessError(
                f"the {kind.noun} {name} in {folder} cannot be loaded ({reason}). Download it again or use another."
            ) from error


def model_inputs(folder: Path) -> tuple[set[str], str]:
    """Return what a model reads, of "images" and "texts", and its model type, by its ``config.json``.

    Only a dual encoder counts as a reader of texts.
    """
    from transformers import MODEL_MAPPING, AutoConfig

    config = AutoConfig.from_pretrained(folder, **_LOCAL)
    found = MODEL_MAPPING.get(type(config), None)
    classes = found if isinstance(found, list | tuple) else [found]
    if any(hasattr(one, "get_image_features") and hasattr(one, "get_text_features") for one in classes):
        return {"images", "texts"}, config.model_type
    reads_images = any(getattr(one, "main_input_name", None) == "pixel_values" for one in classes)
    return {"images"} if reads_images else set(), config.model_type


def load_encoder_network(name: str, kind: ModelKind, folder: Path, device: str) -> tuple[Any, Any, bool]:
    """Return a network (float32, in eval mode), its image processor, and whether its pooler has weights.

    A classifier's file has none for the pooler; transformers fills what is missing with random numbers.

    Raises:
        CaptionlessError: other tensors are missing from its weights.
    """
    from transformers import AutoModel

    # From its own module: several transformers 5 releases hide the public name where torchvision is missing.
    from transformers.models.auto.image_processing_auto import AutoImageProcessor

    network, report = AutoModel.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **_LOCAL
    )
    if missing := sorted(key for key in report["missing_keys"] if not key.startswith(_POOLER)):
        raise CaptionlessError(
            f"the {kind.noun} {name} is incomplete: {len(missing)} tensors are missing from its weights, such as "
            f"{missing[0]}. Download it again, or use another."
        )
    # The Pillow backend, even if torchvision is installed: the same pixels on every machine.
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil", **_LOCAL)
    network = to_device(network.eval().requires_grad_(False), torch.device(device))
    return network, processor, not report["missing_keys"]


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer of a folder; one without a padding token pads with the end token."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, **_LOCAL)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
