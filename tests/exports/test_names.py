"""The contract of exports.names: nothing published says where on a computer something was."""

from __future__ import annotations

from dataclasses import replace

import pytest

import tiny
from captionless.checkpoints.config import EncoderReference
from captionless.exports.names import public_config
from captionless.latents.space import LatentReference


@pytest.mark.parametrize(
    ("recorded", "published"),
    [
        ("/home/ada/private/words", "words"),
        ("~/private/words", "words"),
        ("../private/words", "words"),
        ("madebyollin/taesd", "madebyollin/taesd"),
        ("bundled", "bundled"),
    ],
)
def test_a_place_that_is_gone_is_published_as_its_name_and_a_hub_id_as_it_is(recorded: str, published: str) -> None:
    config = replace(
        tiny.model().config,
        encoder=EncoderReference(recorded, "0" * 64, 8, 1.0),
        autoencoder=LatentReference(recorded, "0" * 64, 3, 4, 8, (0.0,) * 4, (1.0,) * 4),
    )
    public = public_config(config)
    assert public.encoder
    assert public.autoencoder
    assert (public.encoder.name, public.autoencoder.name) == (published, published)
