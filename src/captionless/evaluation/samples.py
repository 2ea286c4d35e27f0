"""Sample images of an evaluation, and keep each in the cache, so that an interrupted evaluation continues with them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from captionless._version import __version__
from captionless.config.sampling import SamplingConfig
from captionless.data.cache import SAMPLES, cache_folder, trim_cache
from captionless.data.parts import Parts
from captionless.generation.generator import Generator
from captionless.generation.sample import Stage, sample_batches
from captionless.progress import Progress


def sample_kept(
    generator: Generator, conditions: Tensor, seeds: Sequence[int], sampling: SamplingConfig, progress: Progress
) -> Tensor:
    """Sample one image for each condition (n, d) and seed, or take it from the cache if it was sampled before.

    An image is found by all that determines it: weights, settings, condition and seed. A damaged file of the cache is
    noticed by its checksum, and its images are sampled again.

    Returns:
        The images, uint8 (n, channels, size, size).
    """
    sampling, cache = generator.resolve(sampling), cache_folder()
    kept = Parts(cache / SAMPLES / _identity(generator.stages, sampling), "samples")
    rows = np.asarray(conditions.cpu(), dtype=np.float32)
    keys = [
        hashlib.sha256(row.tobytes() + f" {seed}".encode()).hexdigest() for row, seed in zip(rows, seeds, strict=True)
    ]
    lacking = [i for i, key in enumerate(keys) if key not in kept]
    done, missing = len(keys) - len(lacking), iter(lacking)
    if done:
        progress.say(f"{done:,} of {len(keys):,} images are those of an earlier evaluation with the same settings.")
    if lacking:
        for pixels in sample_batches(generator.stages, conditions[lacking], [seeds[i] for i in lacking], sampling):
            for image in pixels.contiguous():
                kept.add(keys[next(missing)], image.numpy())
            kept.flush()
            done += len(pixels)
            progress.advance("Sampling", done, len(keys))
    trim_cache(cache)
    return torch.from_numpy(np.stack([image for key in keys if (image := kept.get(key)) is not None]))


def _identity(stages: Sequence[Stage], sampling: SamplingConfig) -> str:
    """Hash what the images of a condition and a seed depend on: version, weights and settings."""
    found = hashlib.sha256(f"{__version__} {sampling.model_dump_json(exclude={'batch'})}".encode())
    for stage in stages:
        found.update(f"{stage.config.prediction} {stage.config.schedule} {stage.config.autoencoder}".encode())
        for name, weight in stage.denoiser.state_dict().items():
            found.update(name.encode() + weight.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:40]
