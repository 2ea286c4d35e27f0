"""The denoising networks, their building blocks and presets, and what is done with their weights."""

from captionless.models import ema
from captionless.models.blocks import (
    CrossAttention,
    Downsample,
    Embedding,
    InputSkip,
    Parts,
    ResidualBlock,
    SelfAttention,
    Upsample,
    group_norm,
    sinusoidal_embedding,
    zero_weights,
)
from captionless.models.expand import expand
from captionless.models.presets import course_denoiser, default_patch, super_resolution_denoiser
from captionless.models.unet import Denoiser, DenoiserConfig, parameter_count

__all__ = [
    "CrossAttention",
    "Denoiser",
    "DenoiserConfig",
    "Downsample",
    "Embedding",
    "InputSkip",
    "Parts",
    "ResidualBlock",
    "SelfAttention",
    "Upsample",
    "course_denoiser",
    "default_patch",
    "ema",
    "expand",
    "group_norm",
    "parameter_count",
    "sinusoidal_embedding",
    "super_resolution_denoiser",
    "zero_weights",
]
