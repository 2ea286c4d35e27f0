"""A model in the latents of an autoencoder is served as others are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import latent_cases
import tiny
from captionless.checkpoints.model import Model
from captionless.generation.generator import Generator
from captionless.latents.autoencoder import load_autoencoder
from captionless.latents.space import LatentSpace
from server_cases import SAMPLING, pixels, serving


def generator(folder: Path) -> Generator:
    autoencoder = load_autoencoder(latent_cases.autoencoder(folder, **latent_cases.SMALL))
    space = LatentSpace(autoencoder).fitted((255 * tiny.uniform(8, 3, 16, 16)).byte(), torch.device("cpu"))
    network, model = tiny.denoiser(channels=4), tiny.model()
    config = replace(model.config, size=16, denoiser=network.config, autoencoder=space.reference)
    return Generator(Model("latent", config, network, model.bank), encoder=tiny.FakeEncoder(), device="cpu")  # type: ignore[arg-type]


def test_images_and_predictions_on_the_way_are_decoded(tmp_path: Path) -> None:
    painter = generator(tmp_path)
    with serving({"latent": painter}) as served:
        (found,) = served.client().images.generate(prompt="a rose", extra_body={"seed": 4}).data or []
        stream = served.client().images.generate(prompt="a rose", extra_body={"seed": 4}, stream=True, partial_images=1)
        shown = [pixels(event.b64_json) for event in stream]
    (wanted,) = painter.generate("a rose", seed=4, sampling=SAMPLING)
    assert np.abs(pixels(found.b64_json) - np.asarray(wanted.image).astype(int)).max() <= 1
    assert [image.shape for image in shown] == [(16, 16, 3)] * 2
