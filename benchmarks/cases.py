"""What is compared: libraries, networks, sizes and batches, and in which table each appears."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

WEIGHTS, FLOPS, COURSE, GROWTH = "equal weights", "equal FLOPs", "course", "growth"


@dataclass(frozen=True)
class Case:
    """One training that is measured.

    Args:
        name: what the tables call it.
        peer: a module of ``benchmarks.peers``.
        size: side of the images in pixels.
        network: the library's own settings of its network.
        tables: the tables it appears in.
        batch: images per step; 16 is the default of both other libraries.
    """

    name: str
    peer: str
    size: int
    network: dict[str, Any] = field(default_factory=dict)
    tables: tuple[str, ...] = (WEIGHTS,)
    batch: int = 16

    def record(self, precision: str) -> dict[str, Any]:
        """Return what identifies a measurement of this case in the results."""
        settings = {"name": self.name, "peer": self.peer, "size": self.size, "batch": self.batch}
        return settings | {"network": self.network, "precision": precision}


OURS, MUON, DDP, DIFFUSERS = "captionless", "captionless with Muon", "denoising-diffusion-pytorch", "diffusers"
DDP_PEER, DIFFUSERS_PEER = "denoising_diffusion", "diffusers_unconditional"


PLAIN = {"width": 64, "tokens": 0, "optimizer": "adamw"}
"""The network of captionless and the optimizer of all: given, because they would otherwise be planned, the network from
the length of the training, and Muon instead of AdamW, whose step does more work and learns more."""

PLANNED = {"width": 64, "tokens": 0, "optimizer": "muon"}
"""The same network with the optimizer that ``captionless train`` chooses."""


def _small(size: int) -> list[Case]:
    """Return the networks of about 8 million weights at one size.

    captionless folds patches of pixels into channels, of side 2 at 32 pixels and 4 at 64 pixels, so that its default
    network costs 0.5 GFLOPs an image at both. With patches of side 2 at 64 pixels it costs as much as the others'.
    """
    return [
        Case(OURS, OURS, size, PLAIN, (WEIGHTS, FLOPS) if size == 32 else (WEIGHTS,)),
        *([Case(OURS, OURS, size, PLAIN | {"patch": 2}, (FLOPS,))] if size > 32 else []),
        Case(MUON, OURS, size, PLANNED),
        Case(DDP, DDP_PEER, size, {"dim": 30}),
        Case(DDP, DDP_PEER, size, {"dim": 22}, (FLOPS,)),
        Case(DIFFUSERS, DIFFUSERS_PEER, size, {"width": 32}, (WEIGHTS, FLOPS)),
    ]


TRAINING = [
    *_small(32),
    Case("the course's recipe", OURS, 32, {"preset": "course"}, (COURSE,)),
    *_small(64),
]
"""Training throughput, at about equal weights and at about equal FLOPs."""

LARGE = [
    Case("the course's recipe", OURS, 64, {"preset": "course"}, (COURSE,)),
    *(Case(DDP, DDP_PEER, size, {"dim": 64}, (COURSE,)) for size in (32, 64)),
    *(Case(DIFFUSERS, DIFFUSERS_PEER, size, {"width": 64}, (COURSE,)) for size in (32, 64)),
]
"""The other libraries at about the weights of the course's network (diffusers: 28 instead of 34 million)."""

GROWING = [
    *(Case(OURS, OURS, size, PLAIN, (GROWTH,)) for size in (32, 64, 128)),
    *(Case(DDP, DDP_PEER, size, {"dim": 30}, (GROWTH,)) for size in (32, 64, 128)),
    *(Case(OURS, OURS, 32, PLAIN, (GROWTH,), batch) for batch in (4, 64, 256)),
    *(Case(DDP, DDP_PEER, 32, {"dim": 30}, (GROWTH,), batch) for batch in (4, 64)),
]
"""How throughput and memory grow with the size and the batch; the Trainer of the other library needs 16 images."""

QUALITY = [case for case in TRAINING if case.size == 32 and case.tables != (FLOPS,) and case.name != OURS]
"""Time to quality: 32 pixels, about equal weights, each library as it is used, and the course's recipe."""

KID, ACCURACY = "kid", "accuracy"
COURSE_SAMPLING = {"sampler": "ddpm", "steps": 150}
JUDGED: dict[str, list[tuple[dict[str, Any], tuple[str, ...]]]] = {
    MUON: [({"guidance": 0}, (KID,)), ({}, (ACCURACY,))],
    DDP: [({"steps": 50}, (KID,))],
    DIFFUSERS: [({"steps": 50}, (KID,))],
    "the course's recipe": [(COURSE_SAMPLING | {"guidance": 0}, (KID, ACCURACY))],
}
"""How each case of `QUALITY` is sampled, and what is judged. KID is judged without guidance, which costs variety and
which the other libraries do not have; accuracy with the default guidance. The others sample with 50 steps of DDIM."""

SMOKE = [
    Case(OURS, OURS, 16, {"width": 16, "tokens": 0}),
    Case(DDP, DDP_PEER, 16, {"dim": 8}),
    Case(DIFFUSERS, DIFFUSERS_PEER, 32, {"width": 32}),
]
"""Tiny trainings that only show that everything runs."""
