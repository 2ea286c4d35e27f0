"""Autoencoders with random weights that stand in for trained ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SMALL: dict[str, Any] = {
    "encoder_block_out_channels": (8, 8),
    "decoder_block_out_channels": (8, 8),
    "num_encoder_blocks": (1, 1),
    "num_decoder_blocks": (1, 1),
}
"""Divides the sides of an image by 2."""


def autoencoder(folder: Path, seed: int = 0, **config: Any) -> Path:
    """Save an autoencoder with this configuration; by default it is that of TAESD."""
    from diffusers import AutoencoderTiny

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        AutoencoderTiny(**config).save_pretrained(folder)
    (folder / "LICENSE.md").write_text("MIT")
    return folder
