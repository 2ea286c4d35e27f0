"""The denoiser, its building blocks and presets, weight averaging (EMA), and Net2Net expansion."""

from captionless.models import ema as ema
from captionless.models.attention import CrossAttention as CrossAttention
from captionless.models.attention import SelfAttention as SelfAttention
from captionless.models.blocks import Downsample as Downsample
from captionless.models.blocks import Embedding as Embedding
from captionless.models.blocks import InputSkip as InputSkip
from captionless.models.blocks import Parts as Parts
from captionless.models.blocks import ResidualBlock as ResidualBlock
from captionless.models.blocks import Upsample as Upsample
from captionless.models.blocks import group_norm as group_norm
from captionless.models.blocks import sinusoidal_embedding as sinusoidal_embedding
from captionless.models.blocks import zero_weights as zero_weights
from captionless.models.expand import expand as expand
from captionless.models.presets import course_denoiser as course_denoiser
from captionless.models.presets import default_patch as default_patch
from captionless.models.presets import super_resolution_denoiser as super_resolution_denoiser
from captionless.models.unet import Denoiser as Denoiser
from captionless.models.unet import DenoiserConfig as DenoiserConfig
from captionless.models.unet import parameter_count as parameter_count
