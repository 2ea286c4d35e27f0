"""Shapes of denoisers: for a size of images, for super-resolution, and the U-Net of introductory courses."""

from __future__ import annotations

from captionless.models.unet import DenoiserConfig

SUPER_RESOLUTION_MULTIPLIERS = (1, 1, 2)
"""Detail is made at the finest level, which gets most of the work."""


def default_patch(size: int, positions: int = 16) -> int:
    """Return the patch size of the stem for images of ``size`` pixels.

    It is the largest of 4 and 2 that leaves at least ``positions`` positions per side, in a multiple of 4; else 1.
    """
    return next((patch for patch in (4, 2) if size % (4 * patch) == 0 and size // patch >= positions), 1)


def super_resolution_denoiser(
    size: int, channels: int, width: int, condition_width: int, dropout: float = 0.0
) -> DenoiserConfig:
    """Return the shape of a super-resolution stage for ``size`` pixels: all of it convolutions, on a fine grid."""
    return DenoiserConfig(
        channels,
        default_patch(size, positions=32),
        width,
        multipliers=SUPER_RESOLUTION_MULTIPLIERS,
        attention=(),
        condition_width=condition_width,
        dropout=dropout,
        input_skip=True,
        low_res_channels=channels + 1,
    )


def course_denoiser(condition_width: int = 512, channels: int = 3) -> DenoiserConfig:
    """Return the U-Net that introductory courses build: ``down_chs = (256, 256, 512)``, GELU, no attention.

    ``condition_width`` is the course's ``c_embed_dim``: 10 for classes, 512 for CLIP vectors.
    """
    return DenoiserConfig(
        channels,
        patch=1,
        width=256,
        multipliers=(1, 1, 2),
        blocks=1,
        attention=(),
        condition_width=condition_width,
        activation="gelu",
        time_features=8,
    )
