"""Write trained parts as a model folder that ``transformers`` loads: float16 safetensors, no pickles."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from image_tower import FIRST, WIDTH
from lite1 import lite1_config, load_lite1
from photographs import DEVIATION, MEAN, SIDE
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    EfficientNetModel,
    PreTrainedTokenizerFast,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
)

PREPROCESSING = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": SIDE},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": SIDE, "width": SIDE},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [MEAN] * 3,
    "image_std": [DEVIATION] * 3,
    "do_convert_rgb": True,
}


def plain_tower(learned: dict[str, Tensor]) -> EfficientNetModel:
    """Return Lite1 with the learned upper blocks and its gates restored."""
    model = load_lite1(SIDE)
    _, unexpected = model.load_state_dict(learned, strict=False)
    if unexpected:
        raise SystemExit(f"these weights do not belong to Lite1: {unexpected}")
    return model


def learned_weights(tower: EfficientNetModel) -> dict[str, Tensor]:
    """Return the weights that training changed."""
    prefixes = (*(f"encoder.blocks.{k}." for k in range(FIRST, 21)), "encoder.top_")
    return {k: v.clone() for k, v in tower.state_dict().items() if k.startswith(prefixes) and "squeeze" not in k}


def join(
    tower: EfficientNetModel, projection: Tensor, text: BertModel, text_projection: Tensor, scale: float
) -> VisionTextDualEncoderModel:
    """Join both towers; ``scale`` is the natural logarithm of the inverse softmax temperature."""
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        lite1_config(SIDE), text.config, projection_dim=WIDTH, logit_scale_init_value=scale
    )
    model = VisionTextDualEncoderModel(config=config, vision_model=tower, text_model=text)
    with torch.no_grad():
        model.visual_projection.weight.copy_(projection)
        model.text_projection.weight.copy_(text_projection)
        model.logit_scale.fill_(scale)
    return model.eval()


def small_bert(pieces: int, layers: int, positions: int) -> BertModel:
    """Return a BERT of MiniLM's width with few layers, few word pieces and few positions."""
    return BertModel(
        BertConfig(
            vocab_size=pieces,
            hidden_size=384,
            num_hidden_layers=layers,
            num_attention_heads=12,
            intermediate_size=1536,
            max_position_embeddings=positions,
            type_vocab_size=1,
            hidden_dropout_prob=0.05,
            attention_probs_dropout_prob=0.05,
        )
    )


def write_folder(folder: Path, model: VisionTextDualEncoderModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write weights, configuration, tokenizer and preprocessing."""
    folder.mkdir(parents=True, exist_ok=True)
    nn.Module.half(model).save_pretrained(folder)
    model.float()
    tokenizer.save_pretrained(folder)
    text = json.dumps(PREPROCESSING, indent=2) + "\n"
    (folder / "preprocessor_config.json").write_text(text, encoding="utf-8")


def write_domain(folder: Path, reference: Tensor, neighbours: int, threshold: float, quantile: float) -> None:
    """Write the reference image vectors and the threshold of the in-domain score."""
    metadata = {
        "neighbours": str(neighbours),
        "threshold": f"{threshold:.3f}",
        "quantile": str(quantile),
        "about": "unit image vectors of training photographs; score = mean cosine to the nearest of them",
    }
    save_file({"reference": reference.half().contiguous()}, folder / "domain.safetensors", metadata=metadata)
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)  # safetensors writes for the owner alone
