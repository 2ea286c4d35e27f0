"""Preset architectures: patch sizes, the super-resolution stage, and the U-Net of introductory courses."""

from __future__ import annotations

from captionless.models.unet import DenoiserConfig

SUPER_RESOLUTION_MULTIPLIERS = (1, 1, 2)
"""Channel multipliers of a super-resolution stage, which does most of its work at the finest level."""


def default_patch(size: int, positions: int = 16) -> int:
    """Return the patch size of the stem for images with ``size`` pixels per side.

    It is 4 if that leaves at least ``positions`` positions per side and their number is a multiple of 4; otherwise 2
    under the same conditions; otherwise 1.
    """
    return next((patch for patch in (4, 2) if size % (4 * patch) == 0 and size // patch >= positions), 1)


def super_resolution_denoiser(
    size: int, channels: int, width: int, condition_width: int, dropout: float = 0.0
) -> DenoiserConfig:
    """Return the architecture of a super-resolution stage for images with ``size`` pixels per side.

    It is fully convolutional, without attention. If possible, it has at least 32 positions per side.
    """
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
    """Return the U-Net that introductory courses on diffusion use: channels 256, 256 and 512, no attention.

    Args:
        condition_width: features of the condition: the number of classes, or 512 for CLIP embeddings.
        channels: of the images, 1 or 3.
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
