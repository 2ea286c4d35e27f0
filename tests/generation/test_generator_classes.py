"""The contract of captionless.generation.generator for models of classes: their names are the prompts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from captionless.conditioning.composition import Composition
from captionless.config.sampling import SamplingConfig
from captionless.errors import CaptionlessError
from captionless.generation.generator import Generator
from captionless.generation.image import GeneratedImage
from captionless.generation.prepared import prepare

FEW = SamplingConfig(steps=3, precision="float32")


@pytest.fixture
def generator() -> Generator:
    return Generator(tiny.class_model(("daisy", "rose", "tulip")), device="cpu")


def arrays(images: list[GeneratedImage]) -> list[Any]:
    return [np.asarray(image, np.int32) for image in images]


def test_class_names_are_prompts(generator: Generator) -> None:
    assert generator.classes == ("daisy", "rose", "tulip")
    assert generator.conditions(["tulip", "daisy"]).tolist() == [[0, 0, 1], [1, 0, 0]]
    rose, tulip = arrays(generator.generate(["rose", "tulip"], sampling=FEW))
    (alone,) = arrays(generator.generate("rose", sampling=FEW))
    assert np.abs(rose - alone).max() <= 1
    assert np.abs(rose - tulip).max() > 1


def test_a_model_of_words_has_no_classes() -> None:
    assert Generator(tiny.model(), device="cpu").classes == ()


def test_an_unknown_class_is_refused_with_the_right_ones(generator: Generator) -> None:
    with pytest.raises(CaptionlessError, match=r"no class 'rosé'\. Did you mean rose\? The classes are: daisy, rose,"):
        generator.generate(["rosé"], sampling=FEW)


@pytest.mark.parametrize("where", ["negative", "then", "towards", "also"])
def test_what_goes_with_a_class_is_a_class_too(generator: Generator, where: str) -> None:
    def composed(name: str) -> Composition:
        return Composition(also=((name, 0.5),)) if where == "also" else Composition(**{where: name})  # type: ignore[arg-type]

    images = generator.generate("rose", n=2, sampling=FEW, composition=composed("daisy"))
    plain = generator.generate("rose", n=2, sampling=FEW)
    assert np.abs(arrays(images)[1] - arrays(plain)[1]).max() > 1
    with pytest.raises(CaptionlessError, match="no class 'a meadow'"):
        generator.generate("rose", sampling=FEW, composition=composed("a meadow"))


def test_between_two_classes_lie_their_mixtures(generator: Generator) -> None:
    conditions = prepare(generator, ["rose"], 3, 0, FEW, Composition(towards="tulip")).conditions[0].condition
    torch.testing.assert_close(conditions[0], torch.tensor([0.0, 1.0, 0.0]))
    torch.testing.assert_close(conditions[1], torch.tensor([0.0, 0.5**0.5, 0.5**0.5]))
    torch.testing.assert_close(conditions[2], torch.tensor([0.0, 0.0, 1.0]))


def test_nothing_that_needs_an_encoder_is_done_in_silence(generator: Generator) -> None:
    model = generator.model
    told = r"the model tiny is class-conditional: it has no encoder.* The classes are: daisy, rose, tulip\."
    with pytest.raises(CaptionlessError, match=told):
        generator.conditions(["rose"], SamplingConfig(bridge="none"))
    with pytest.raises(CaptionlessError, match=told):
        generator.generate("rose", sampling=FEW, composition=Composition(like=Image.new("RGB", (8, 8))))
    with pytest.raises(CaptionlessError, match=told):
        Generator(model, encoder="somewhere")
    with pytest.raises(CaptionlessError, match=told):
        Generator(model, encoder=tiny.FakeEncoder())  # type: ignore[arg-type]
    with pytest.raises(CaptionlessError, match=told):
        _ = model.bridge_data
