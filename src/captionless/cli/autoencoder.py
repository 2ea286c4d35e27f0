"""`captionless autoencoder`: train an autoencoder on the images of a folder."""

from __future__ import annotations

from captionless.cli.console import print_result, show_progress
from captionless.cli.threads import ThreadOptions
from captionless.config.autoencoder import AutoencoderConfig
from captionless.device import use_threads


def autoencoder(config: AutoencoderConfig, threads: ThreadOptions) -> None:
    """Train a small autoencoder on the images in FOLDER, or fine-tune one.

    `train --autoencoder` then denoises its latents instead of pixels. It needs the extra `latents`.
    """
    use_threads(threads.threads)
    with show_progress() as progress:
        from captionless.training.autoencoder import train_autoencoder

        out = train_autoencoder(config, progress)
    if not config.plan:
        print_result(out)
