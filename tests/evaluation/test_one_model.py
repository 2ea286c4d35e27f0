"""What one model's images are generated from and compared with."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import tiny
from captionless.config.evaluation import EvaluationConfig
from captionless.evaluation.data import EvaluationData
from captionless.evaluation.one_model import (
    EvaluationPlan,
    choose_real_images,
    evaluation_prompts,
    limit_training_images,
    training_conditions,
)
from captionless.generation.generator import Generator
from captionless.generation.prompts import Prompt
from captionless.progress import Silent
from evaluation_cases import FAST, image_set, split

WORDS = Generator(tiny.model(), tiny.FakeEncoder())  # type: ignore[arg-type]
CLASSES = Generator(tiny.class_model(("daisy", "rose")))
SEEN, HELD_OUT = image_set(8, 0, ["rose", "daisy"] * 4), image_set(6, 1, ["rose", None] * 3)
DATA = split(SEEN, HELD_OUT)


def plan(*prompts: Prompt, **sizes: int) -> EvaluationPlan:
    return EvaluationPlan(prompts, "a file", None, FAST, EvaluationConfig(**sizes), Silent())


def test_prompts_are_those_of_the_file_else_the_labels_and_for_classes_always_these() -> None:
    rose = Prompt("a red rose", "rose")
    of_file, of_labels = evaluation_prompts(WORDS, DATA, plan(rose)), evaluation_prompts(WORDS, DATA, plan())
    assert of_file is not None
    assert (of_file.prompts, of_file.source) == ((rose,), "a file")
    assert of_labels is not None
    assert [prompt.text for prompt in of_labels.prompts] == ["a photo of a daisy", "a photo of a rose"]
    of_classes = evaluation_prompts(CLASSES, DATA, plan(rose))
    assert of_classes is not None
    assert of_classes.prompts == (Prompt("daisy", "daisy"), Prompt("rose", "rose"))
    unlabelled = replace(DATA, everything=image_set(8, 0))
    assert evaluation_prompts(WORDS, unlabelled, plan()) is None


@pytest.mark.parametrize(("prompts", "used", "images"), [(1, 1, 300), (10, 10, 30), (400, 300, 1)])
def test_few_prompts_get_many_images_each(prompts: int, used: int, images: int) -> None:
    chosen = evaluation_prompts(WORDS, DATA, plan(*(Prompt(str(i)) for i in range(prompts))))
    assert chosen is not None
    assert (len(set(chosen.prompts)), chosen.images) == (used, images)
    assert ("a random choice of 400" in chosen.source) == (used < prompts)


def test_real_images_are_held_out_ones_and_training_images_only_without_any() -> None:
    real = choose_real_images(DATA, EvaluationConfig(samples=4))
    assert len(real) == 4
    assert set(real.names) < set(HELD_OUT.names)
    assert list(real.names) == sorted(real.names)
    assert choose_real_images(split(SEEN, HELD_OUT.take([])), EvaluationConfig()).names == SEEN.names


def test_images_of_no_class_of_the_model_are_not_generated_from() -> None:
    conditions = torch.eye(2)[[0, 1, 0, 1, 0, 1]] * torch.tensor([1.0, 0, 1, 1, 0, 1]).unsqueeze(1)
    real = choose_real_images(split(SEEN, replace(HELD_OUT, conditions=conditions)), EvaluationConfig())
    assert real.names == tuple(HELD_OUT.names[i] for i in (0, 2, 3, 5))


@pytest.mark.parametrize(
    ("data", "source"),
    [
        (DATA, SEEN.conditions),
        (split(SEEN, HELD_OUT, trained={SEEN.digests[3]: SEEN.digests[3]}), SEEN.conditions[3:4]),
        (split(SEEN, HELD_OUT, trained={}), SEEN.conditions),
        (split(SEEN, HELD_OUT.take([])), torch.empty(0, tiny.WIDTH)),
    ],
)
def test_training_conditions_are_of_the_models_own_images_else_of_its_ancestors(
    data: EvaluationData, source: torch.Tensor
) -> None:
    found = training_conditions(WORDS, data, EvaluationConfig())
    assert sorted(found.tolist()) == sorted(source.tolist())
    assert len(training_conditions(WORDS, data, EvaluationConfig(training_samples=3))) == min(3, len(source))


def test_a_model_of_classes_has_no_conditions_of_single_images() -> None:
    assert not len(training_conditions(CLASSES, DATA, EvaluationConfig()))


def test_of_many_training_images_the_models_own_are_compared_first() -> None:
    data = split(SEEN, HELD_OUT, trained={SEEN.digests[i]: SEEN.digests[i] for i in (2, 6)})
    few = limit_training_images(data, EvaluationConfig(compared=3))
    assert len(few.seen) == 3
    assert few.found == few.trained_on == 2
    assert limit_training_images(data, EvaluationConfig(compared=8)).seen.names == SEEN.names
