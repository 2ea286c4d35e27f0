"""How pictures are drawn: the one source of these defaults for library, command line and records."""

from __future__ import annotations

from dataclasses import dataclass

from captionless.errors import CaptionlessError, one_of
from captionless.precision import PRECISIONS

SAMPLERS = ("dpmpp-2m", "ddim", "ddpm")
BRIDGES = ("nearest", "none")


@dataclass(frozen=True)
class Sampling:
    """How pictures are drawn from noise.

    Args:
        guidance: the scale ``w`` of ``(1 + w) * cond - w * uncond``; 0 is none, larger follows the words
            more closely and varies less.
        steps: denoising steps, each one (guided) network call.
        sampler: one of ``SAMPLERS``; see ``captionless.samplers``.
        bridge: one of ``BRIDGES``; see ``captionless.bridge``.
        precision: ``auto``, ``float32`` or ``bf16``.
        batch: pictures computed together; changes memory and speed, not the pictures.
    """

    guidance: float = 3.0
    steps: int = 20
    sampler: str = "dpmpp-2m"
    bridge: str = "nearest"
    precision: str = "auto"
    batch: int = 32

    def __post_init__(self) -> None:
        """Refuse values before any work is done."""
        if self.steps < 1:
            raise CaptionlessError(f"a picture needs at least 1 sampling step, not {self.steps}. Try --steps 20.")
        if self.batch < 1:
            raise CaptionlessError(f"a batch must hold at least 1 picture, not {self.batch}.")
        if not abs(self.guidance) <= 100:
            raise CaptionlessError(f"--guidance must be a number from -100 to 100, not {self.guidance}. Try 2.")
        one_of("sampler", self.sampler, SAMPLERS)
        one_of("bridge", self.bridge, BRIDGES)
        one_of("precision", self.precision, PRECISIONS)
