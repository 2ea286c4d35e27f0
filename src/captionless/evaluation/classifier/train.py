"""An independent judge of what a picture shows: a small network on pixels, trained from scratch on real photographs.

It shares nothing with any encoder, so a model that learned from an encoder cannot please it by pleasing that encoder.
Its accuracy on held-out photographs is the ceiling of what it can find in painted pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captionless.device import to_device
from captionless.errors import CaptionlessError
from captionless.evaluation.classifier.network import Muon, PixelNetwork, changed
from captionless.evaluation.metrics.estimate import Estimate, TooFewError, share
from captionless.models import ema

SIZE = 48
"""Side in pixels of what it looks at; smaller pictures are enlarged to it, larger ones reduced. Measured on flower
photographs, learning takes no longer than at 32 with more passes and finds more, even in pictures of 32 pixels."""

TINY = 16
"""Pictures of up to this side are looked at in this one, which suffices for them and costs less."""

MINIMUM = 5
"""Pictures that a class needs, so that some can be held out."""

PASSES = 24
"""How often each picture is seen."""

SEEN = (20_000, 120_000)
"""Fewest and most pictures seen, however few or many there are."""

VIEWS = (1, 7 / 6)
"""Photographs are judged by the mean of the answers at these multiples of the side: random zooming shows things larger
in training than they are, which a larger side makes up for (arXiv:1906.06423). Signs fill their picture, and do not
gain by it."""

SAMPLE = 300
"""Pictures that the fixed first layer is computed from."""

GROWTH = ((0.5, 1 / 2), (0.8, 2 / 3), (1.0, 1.0))
"""(Until this share of the training, look at this share of the side): learning begins on smaller, cheaper pictures
(progressive resizing, as in EfficientNetV2, arXiv:2104.00298)."""

BATCH = 64
MUON_RATE = 0.05
ADAM_RATE = 4e-3
WARM_UP = 0.2
"""Share of the training during which the learning rates rise."""
SMOOTHING = 0.1
MOST_WEIGHT = 10.0
"""A picture of a rare class counts at most this often."""
HALF_LIFE = 34 * BATCH
"""Pictures after which a step's weight in the average of the weights has halved."""

Progress = Callable[[int, int], object]


@dataclass(frozen=True, eq=False)
class PixelClassifier:
    """A trained classifier. Get one from ``train_classifier``.

    Args:
        network: in eval mode.
        mean: of the training pictures' values, 0..255, (channels, 1, 1).
        std: their standard deviation, (channels, 1, 1).
        size: side in pixels of what it looks at.
        flip: whether its answer is the mean of those for a picture and its mirror image, each at the sides ``VIEWS``.
    """

    network: nn.Module = field(repr=False)
    mean: Tensor = field(repr=False)
    std: Tensor = field(repr=False)
    size: int
    flip: bool

    @torch.no_grad()
    def predict(self, pixels: Tensor) -> Tensor:
        """Return the probabilities of the classes, float32 (m, classes).

        Args:
            pixels: uint8 (m, channels, side, side), of any side; channels as in training.

        Raises:
            CaptionlessError: the pictures have other channels than those it learned from.
        """
        if pixels.shape[1:2] != self.mean.shape[:1]:
            raise CaptionlessError(
                f"the classifier learned from pictures of {len(self.mean)} channels and was given {pixels.shape[1]}. "
                "Read both in colour, or both in grey."
            )
        parts = [self._probabilities(part) for part in torch.split(pixels, 256)]
        return torch.cat(parts) if len(pixels) else self._probabilities(pixels.new_zeros(1, *pixels.shape[1:]))[:0]

    def _probabilities(self, pixels: Tensor) -> Tensor:
        found: list[Tensor] = []
        for view in VIEWS if self.flip else (1,):
            x = (reduced(pixels, round(view * self.size)) - self.mean) / self.std
            found += [self.network(y).softmax(1) for y in ((x, x.flip(3)) if self.flip else (x,))]
        return torch.stack(found).mean(0)


def train_classifier(
    pixels: Tensor,
    labels: Tensor,
    classes: int,
    *,
    seed: int = 0,
    flip: bool = True,
    on_progress: Progress | None = None,
) -> PixelClassifier:
    """Train a classifier from scratch; the same seed gives the same classifier on the same machine.

    Classes count alike, however many pictures each has. On one CPU core 2,200 photographs took 90 s, 1,000 digits of 8
    pixels 25 s. Of 400 held-out flower photographs (5 kinds, some mislabelled) 86% were recognised.

    Args:
        pixels: uint8 (n, channels, side, side), of 1 or 3 channels.
        labels: whole numbers (n,) from 0 to ``classes`` - 1.
        classes: how many there are, at least 2.
        seed: of the initial weights, the order and the random changes of pictures.
        flip: mirror pictures at random; not for digits and letters.
        on_progress: called after each step with how many are done and how many there are.

    Raises:
        TooFewError: there is no picture, or there are fewer than 2 classes.
    """
    if classes < 2 or not len(pixels):
        raise TooFewError(
            f"a classifier cannot learn from {len(pixels)} pictures of {classes} classes. Give it pictures of at least "
            "2 classes."
        )
    generator = torch.Generator().manual_seed(seed)
    size = SIZE if pixels.shape[-1] > TINY else TINY
    x = reduced(pixels, size)
    mean, std = x.mean((0, 2, 3)).reshape(-1, 1, 1), x.std((0, 2, 3)).clamp(min=1).reshape(-1, 1, 1)
    x.sub_(mean).div_(std)
    with torch.random.fork_rng(devices=[]):  # torch draws weights of its own, which are then replaced
        network = PixelNetwork(x[:: math.ceil(len(x) / SAMPLE)], classes, generator)
    average = _fit(to_device(network, torch.device("cpu")), x, labels, flip, generator, on_progress)
    return PixelClassifier(average, mean, std, size, flip)


def reduced(pixels: Tensor, size: int) -> Tensor:
    """Resize pictures (n, channels, side, side), n > 0, to ``size`` pixels a side, antialiased; float32, 0..255."""

    def resize(part: Tensor) -> Tensor:
        if part.shape[-2:] == (size, size):
            return part.float()
        return F.interpolate(part.float(), (size, size), mode="bilinear", antialias=True, align_corners=False)

    return torch.cat([resize(part) for part in torch.split(pixels, 1024)])  # so that few are large numbers at a time


def accuracy(probabilities: Tensor, labels: Tensor) -> Estimate:
    """Return the share of pictures whose most probable class is theirs, with Wilson's 95% range.

    Args:
        probabilities: (n, classes).
        labels: whole numbers (n,).

    Raises:
        TooFewError: there is no picture.
    """
    return share(int((probabilities.argmax(1) == labels).sum()), len(labels))


def confusion(probabilities: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return how many pictures of each class (rows) were taken for each class (columns), int64 (classes, classes)."""
    pairs = labels * classes + probabilities.argmax(1)
    return torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def held_out_split(digests: Sequence[str], labels: Sequence[str], share: float = 0.2) -> tuple[list[int], list[int]]:
    """Split pictures by their content into those to train on and those to test on: of each class, as large a share.

    Held out are the pictures of the lowest content hashes: a choice that is random, and the same wherever they lie.

    Args:
        digests: content hashes, one a picture.
        labels: the classes' names, one a picture.
        share: of each class's pictures to test on, in (0, 1); at least one is.

    Returns:
        The places of the pictures of both parts, in order; together all of them.

    Raises:
        TooFewError: a class has fewer than ``MINIMUM`` different pictures.
    """
    of_class: dict[str, set[str]] = {}
    for digest, label in zip(digests, labels, strict=True):
        of_class.setdefault(label, set()).add(digest)
    aside: set[str] = set()
    for name, own in sorted(of_class.items(), key=lambda item: (len(item[1]), item[0])):
        if len(own) < MINIMUM:
            raise TooFewError(
                f"the class {name} has {len(own)} pictures, and a classifier needs {MINIMUM} of each. Give it more, or "
                "leave the class out."
            )
        aside |= set(sorted(own)[: max(1, round(share * len(own)))])
    train = [place for place, digest in enumerate(digests) if digest not in aside]
    return train, [place for place, digest in enumerate(digests) if digest in aside]


def _fit(
    network: PixelNetwork,
    x: Tensor,
    labels: Tensor,
    flip: bool,
    generator: torch.Generator,
    on_progress: Progress | None,
) -> nn.Module:
    """Train the network on normalised pictures; return the average of its weights."""
    size, classes = x.shape[-1], network.head.out_features
    counts = torch.bincount(labels, minlength=classes).clamp(min=1)
    weight = (len(labels) / (classes * counts)).clamp(max=MOST_WEIGHT)
    average = ema.average_copy(network)
    optimisers = _optimisers(network)
    steps = steps_for(len(x))
    network.train()
    for step, chosen in enumerate(_batches(len(x), steps, generator)):
        done = step / steps
        for optimiser, rate in optimisers:
            optimiser.param_groups[0]["lr"] = rate * _schedule(done)
            optimiser.zero_grad()
        seen = changed(x[chosen], _side(size, done), flip, generator).contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(network(seen), labels[chosen], reduction="none", label_smoothing=SMOOTHING)
        (loss * weight[labels[chosen]]).mean().backward()  # type: ignore[no-untyped-call]
        for optimiser, _ in optimisers:
            optimiser.step()
        ema.update(average, network, ema.decay(BATCH, (step + 1) * BATCH, HALF_LIFE))
        if on_progress:
            on_progress(step + 1, steps)
    return average


def steps_for(n: int) -> int:
    """Return in how many steps a classifier learns from ``n`` pictures."""
    return math.ceil(min(max(PASSES * n, SEEN[0]), SEEN[1]) / BATCH)


def _optimisers(network: PixelNetwork) -> list[tuple[torch.optim.Optimizer, float]]:
    """One for the convolutions and one for all else, each with its highest learning rate."""
    learned = [weight for weight in network.parameters() if weight.requires_grad]
    convolutions = [weight for weight in learned if weight.ndim == 4]
    others = [weight for weight in learned if weight.ndim != 4]
    adam = torch.optim.AdamW(others, lr=ADAM_RATE, weight_decay=0.0)
    return [(Muon(convolutions, lr=MUON_RATE), MUON_RATE), (adam, ADAM_RATE)]


def _schedule(done: float) -> float:
    """Return the share of the highest learning rate: up in a line, then down half a cosine (one cycle)."""
    return done / WARM_UP if done < WARM_UP else (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP))) / 2


def _side(size: int, done: float) -> int:
    """Return the side of what the network looks at after this share of the training."""
    part = next(part for until, part in GROWTH if done < until)
    return round(part * size)


def _batches(n: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the places of each step's pictures: all pictures in a random order, then all again in another."""
    queue = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(queue) < BATCH:
            queue = torch.cat([queue, torch.randperm(n, generator=generator)])
        yield queue[:BATCH]
        queue = queue[BATCH:]
