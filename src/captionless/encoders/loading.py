"""From an encoder's folder to its three parts: model, tokenizer, image processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from captionless.errors import CaptionlessError


def load_parts(name: str, folder: Path, device: str) -> tuple[Any, Any, Any]:
    """Load model, tokenizer and image processor of a folder; refuse what is not a whole dual encoder."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    # From its own module: several transformers 5 releases hide the public name where torchvision is missing.
    from transformers.models.auto.image_processing_auto import AutoImageProcessor

    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    _check_kind(name, AutoConfig.from_pretrained(folder, **local))
    model, report = AutoModel.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **local
    )
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise CaptionlessError(
            f"the encoder {name} is not whole: {len(missing)} tensors are missing from its weights, such as "
            f"{missing[0]}. Fetch it again, or use another."
        )
    tokenizer = AutoTokenizer.from_pretrained(folder, **local)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    # The Pillow backend, wherever torchvision happens to be installed: the same pixels on every machine.
    image_processor = AutoImageProcessor.from_pretrained(folder, backend="pil", **local)
    from captionless.device import to_device

    return to_device(model.eval().requires_grad_(False), torch.device(device)), tokenizer, image_processor


def _check_kind(name: str, config: Any) -> None:
    from transformers import MODEL_MAPPING

    found = MODEL_MAPPING.get(type(config), None)
    kinds = found if isinstance(found, list | tuple) else [found]
    if not any(hasattr(k, "get_image_features") and hasattr(k, "get_text_features") for k in kinds):
        raise CaptionlessError(
            f"{name} is not a dual encoder but a model of type {config.model_type!r}. Expected is one that reads "
            "both pictures and words (get_image_features, get_text_features), such as CLIP or SigLIP."
        )
