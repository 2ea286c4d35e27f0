"""The contract of conditioning.composition: other prompts, a reference image, what to avoid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

import tiny
from captionless.checkpoints.model import Model
from captionless.conditioning.composition import Composition, compose, slerp, towards_shares
from captionless.config.sampling import SamplingConfig
from captionless.diffusion.samplers import SAMPLERS
from captionless.errors import CaptionlessError
from captionless.generation.editing import Edit
from captionless.generation.generator import Generator
from captionless.generation.image import GeneratedImage
from tiny import FakeEncoder

QUICK = SamplingConfig(steps=4, precision="float32", variety=0)
PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8))
COLD = Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 20, 3), dtype=np.uint8))


@pytest.fixture
def painter(model: Model) -> Generator:
    return Generator(model, FakeEncoder(), device="cpu")  # type: ignore[arg-type]


def words(texts: Sequence[str]) -> Tensor:
    return FakeEncoder().encode_texts(texts)


def levels(first: GeneratedImage | Image.Image, second: GeneratedImage | Image.Image) -> int:
    """The largest difference of two images, in levels of 255."""
    return int(np.abs(np.asarray(first, int) - np.asarray(second, int)).max())


def one(painter: Generator, prompt: str, composition: Composition | None = None, **more: Any) -> GeneratedImage:
    sampling = more.pop("sampling", QUICK)
    (image,) = painter.generate(prompt, sampling=sampling, composition=composition, **more)
    return image


# --- what is sampled ---


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_walk_begins_and_ends_at_the_two_prompts_own_images_of_its_seed(sampler: str, painter: Generator) -> None:
    sampling = QUICK.replace(sampler=sampler)
    walk = painter.generate("a rose", 4, 7, sampling=sampling, composition=Composition(towards="a daisy"))
    rose, daisy = (one(painter, text, seed=7, sampling=sampling) for text in ("a rose", "a daisy"))
    assert levels(walk[0], rose) <= 1
    assert levels(walk[-1], daisy) <= 1
    assert all(levels(walk[i], walk[k]) > 1 for i in range(4) for k in range(i))


def test_a_walk_of_one_image_stands_half_way(painter: Generator) -> None:
    walk = painter.generate("a rose", 3, sampling=QUICK, composition=Composition(towards="a daisy"))
    assert levels(one(painter, "a rose", Composition(towards="a daisy")), walk[1]) <= 1


def test_images_of_several_seeds_may_lie_at_one_place_of_the_walk(painter: Generator) -> None:
    there = Composition(towards="a daisy", towards_share=1 / 3)
    pair = painter.generate("a rose", 2, 6, sampling=QUICK, composition=there)
    walk = painter.generate("a rose", 4, 7, sampling=QUICK, composition=Composition(towards="a daisy"))
    assert [image.seed for image in pair] == [6, 7]
    assert [image.details["towards_share"] for image in pair] == [1 / 3] * 2
    assert levels(pair[1], walk[1]) <= 1


def test_every_prompt_walks_towards_the_other_from_the_same_noise(painter: Generator) -> None:
    walks = painter.generate(["a rose", "a tulip"], 2, 3, sampling=QUICK, composition=Composition(towards="a daisy"))
    assert levels(walks[1], walks[3]) <= 1
    assert levels(walks[0], walks[2]) > 1
    assert [image.seed for image in walks] == [3, 3, 3, 3]


@pytest.mark.parametrize("strength", [1.0, 0.5], ids=["from noise", "from a photograph"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_early_switch_samples_the_later_prompt_and_a_late_one_the_prompt(
    sampler: str, strength: float, painter: Generator
) -> None:
    more: dict[str, Any] = {"sampling": QUICK.replace(sampler=sampler), "edit": Edit(PHOTO, strength)}
    early, middle, late = (
        one(painter, "a rose", Composition(then="a daisy", switch=switch), **more) for switch in (1e-9, 0.5, 1 - 1e-9)
    )
    assert levels(early, one(painter, "a daisy", **more)) <= 1
    assert levels(late, one(painter, "a rose", **more)) <= 1
    assert levels(middle, early) > 1
    assert levels(middle, late) > 1


@pytest.mark.parametrize(
    "composition",
    [
        Composition(then="a daisy", switch=1e-9),
        Composition(towards="a daisy"),
        Composition(like=PHOTO, like_share=1.0),
    ],
    ids=["then", "towards", "like"],
)
def test_only_the_prompt_itself_is_drawn_per_image(composition: Composition, painter: Generator) -> None:
    """Where another prompt or an image alone decides, variety changes nothing."""
    still, varied = (
        painter.generate("a rose", 2, sampling=QUICK.replace(variety=v), composition=composition)[-1] for v in (0, 1)
    )
    assert levels(still, varied) <= 1
    assert levels(*(one(painter, "a rose", sampling=QUICK.replace(variety=v)) for v in (0, 1))) > 1


def test_a_reference_image_is_sampled_with_words_or_without(painter: Generator) -> None:
    alone, other = (one(painter, "", Composition(like=photo)) for photo in (PHOTO, COLD))
    assert levels(alone, other) > 8
    shares = {share: one(painter, "a rose", Composition(like=PHOTO, like_share=share)) for share in (0.0, 0.5, 1.0)}
    assert levels(shares[0.0], one(painter, "a rose")) <= 1
    assert levels(shares[1.0], alone) <= 1
    assert levels(shares[0.5], shares[0.0]) > 1
    assert levels(shares[0.5], alone) > 1


def test_of_several_reference_images_the_mean_counts(painter: Generator) -> None:
    alone = one(painter, "", Composition(like=PHOTO))
    both = one(painter, "", Composition(like=[PHOTO, COLD]))
    assert levels(one(painter, "", Composition(like=[PHOTO, PHOTO])), alone) <= 1
    assert levels(one(painter, "", Composition(like=[COLD, PHOTO])), both) <= 1
    assert levels(both, alone) > 1


def test_one_of_several_prompts_may_be_empty_beside_a_reference_image(painter: Generator) -> None:
    both = painter.generate(["a rose", " "], sampling=QUICK, composition=Composition(like=PHOTO))
    assert levels(both[0], one(painter, "a rose", Composition(like=PHOTO))) <= 1
    assert levels(both[1], one(painter, "", Composition(like=PHOTO))) <= 1


def test_without_a_reference_image_an_empty_prompt_is_refused(painter: Generator) -> None:
    with pytest.raises(CaptionlessError, match="is empty"):
        one(painter, "", Composition(negative="yellow"))


def test_a_reference_image_is_seen_as_training_images_are(painter: Generator) -> None:
    """Its central square, at no more than twice the encoder's own resolution."""
    seen: list[Image.Image] = []

    class Watching(FakeEncoder):
        def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
            seen.extend(images)
            return super().encode_images(images)

    watched = Generator(painter.model, Watching(), device="cpu")  # type: ignore[arg-type]
    for size in ((30, 50), (50, 30), (200, 300)):
        one(watched, "", Composition(like=PHOTO.resize(size).convert("RGBA")))
    assert [(image.size, image.mode) for image in seen] == [((30, 30), "RGB")] * 2 + [((32, 32), "RGB")]


def test_words_to_avoid_take_the_place_of_the_null_condition(painter: Generator) -> None:
    plain, avoiding = one(painter, "a rose"), one(painter, "a rose", Composition(negative="yellow"))
    assert levels(plain, avoiding) > 8
    unguided = {"sampling": QUICK.replace(guidance=0.0)}
    none, asked = (one(painter, "a rose", what, **unguided) for what in (None, Composition(negative="yellow")))
    assert levels(none, asked) == 0


def test_avoiding_the_prompt_itself_leaves_guidance_nothing_to_act_on(painter: Generator) -> None:
    quick = QUICK.replace(perturbed_attention=1000)
    itself = one(painter, "a rose", Composition(negative="a rose"), sampling=quick)
    assert levels(itself, one(painter, "a rose", sampling=quick.replace(guidance=0.0))) <= 1


def test_another_prompt_takes_part_by_its_weight(painter: Generator) -> None:
    with_itself = one(painter, "a rose", Composition(also=(("a rose", 2.0),)))
    assert levels(with_itself, one(painter, "a rose")) <= 1
    weights = [one(painter, "a rose", Composition(also=(("a daisy", w),))) for w in (0.1, 1.0, 1e6, -0.5)]
    assert min(levels(weights[i], weights[k]) for i in range(4) for k in range(i)) > 1
    assert levels(weights[2], one(painter, "a daisy")) <= 1


COMPOSITIONS = {
    "negative": Composition(negative="yellow"),
    "also": Composition(also=(("a meadow", 0.5), ("rain", -0.3))),
    "then": Composition(then="a daisy", switch=0.4),
    "towards": Composition(towards="a daisy"),
    "like": Composition(like=PHOTO, like_share=0.3),
    "all": Composition("yellow", (("a meadow", 0.5),), "a daisy", like=PHOTO),
}


@hypothesis_settings(max_examples=8)
@given(
    what=st.sampled_from(sorted(COMPOSITIONS)),
    sampler=st.sampled_from(list(SAMPLERS)),
    batch=st.integers(1, 6),
    n=st.integers(1, 3),
    edited=st.booleans(),
)
def test_a_composed_image_does_not_depend_on_its_batch(
    what: str, sampler: str, batch: int, n: int, edited: bool
) -> None:
    painter = Generator(tiny.model(), FakeEncoder(), device="cpu")  # type: ignore[arg-type]
    way, composition, edit = QUICK.replace(sampler=sampler), COMPOSITIONS[what], Edit(PHOTO) if edited else None
    more = {"composition": composition, "edit": edit}
    prompts = ["a rose", "a tulip"]
    together = painter.generate(prompts, n, 5, sampling=way.replace(batch=batch), **more)  # type: ignore[arg-type]
    for k, prompt in enumerate(("a rose", "a tulip")):
        alone = painter.generate(prompt, n, 5, sampling=way.replace(batch=1), **more)  # type: ignore[arg-type]
        assert max(levels(*pair) for pair in zip(together[k * n : k * n + n], alone, strict=True)) <= 1


# --- parts ---


def test_a_plain_prompt_is_one_part_at_all_times() -> None:
    (part,), negative = compose(words(["a rose", "a rose", "a tulip", "a tulip"]), 2, Composition(), words)
    assert torch.equal(part.condition, words(["a rose", "a rose", "a tulip", "a tulip"]))
    assert (part.weight, part.interval, negative) == (1.0, (0.0, 1.0), None)


def test_a_switch_divides_the_time_that_is_left_to_sample_in() -> None:
    composition = Composition(then="a daisy", switch=0.25)
    for start, at in ((1.0, 0.75), (0.4, 0.3)):
        first, second = compose(words(["a rose"]), 1, composition, words, start)[0]
        assert first.interval == (pytest.approx(at), 1.0)
        assert second.interval == (0.0, pytest.approx(at))
        assert torch.equal(second.condition, words(["a daisy"]))


def test_further_prompts_and_words_to_avoid_go_with_every_image() -> None:
    composition = Composition("yellow", (("a meadow", 0.5), ("rain", -1.0)))
    parts, negative = compose(words(["a rose", "a rose", "a tulip", "a tulip"]), 2, composition, words)
    assert [part.weight for part in parts] == [1.0, 0.5, -1.0]
    assert all(
        torch.equal(part.condition, words([text] * 4))
        for part, text in zip(parts[1:], ("a meadow", "rain"), strict=True)
    )
    assert negative is not None
    assert torch.equal(negative, words(["yellow"] * 4))


def test_the_steps_of_a_walk_are_even() -> None:
    assert towards_shares(5) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert towards_shares(1) == [0.5]
    (part,), _ = compose(words(["a rose"] * 5), 5, Composition(towards="a daisy"), words)
    angles = [math.acos(float(a @ b)) for a, b in zip(part.condition, part.condition[1:], strict=False)]
    assert angles == pytest.approx([sum(angles) / 4] * 4, abs=1e-3)


# --- between two vectors ---


@given(share=st.floats(0, 1), seed=st.integers(0, 50))
def test_a_vector_in_between_has_length_1_and_divides_the_angle(share: float, seed: int) -> None:
    a, b = torch.nn.functional.normalize(tiny.random(2, tiny.WIDTH, seed=seed).double(), dim=1).split(1)
    mixed = slerp(a, b, share)
    angle = math.acos(float((a * b).sum()))
    assert float(mixed.norm()) == pytest.approx(1)
    assert float((mixed * a).sum()) == pytest.approx(math.cos(share * angle), abs=1e-9)
    assert float((mixed * b).sum()) == pytest.approx(math.cos((1 - share) * angle), abs=1e-9)


@pytest.mark.parametrize("nudge", [0.0, 1e-6, 1e-4, 1e-2])
def test_between_vectors_that_are_nearly_the_same_lies_no_other(nudge: float) -> None:
    a = tiny.unit_vectors(3)
    b = torch.nn.functional.normalize(a + nudge * tiny.random(3, tiny.WIDTH, seed=4), dim=1)
    mixed = slerp(a, b, 0.5)
    assert torch.allclose(mixed, torch.nn.functional.normalize(a + b, dim=1), atol=1e-5)


# --- what can be asked ---


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"negative": ""}, "`negative` is empty"),
        ({"then": " "}, "`then` is empty"),
        ({"towards": "\n"}, "`towards` is empty"),
        ({"also": (("", 1.0),)}, "`also` is empty"),
        *(({"also": (("a rose", weight),)}, "`also` must") for weight in (0.0, math.nan, math.inf)),
        *(({"switch": switch}, f"`switch` must .* not {switch}") for switch in (0.0, 1.0, math.nan)),
        *(({"like_share": share}, f"`like_share` must .* not {share}") for share in (-0.1, 1.1)),
        *(({"towards": "a", "towards_share": share}, "`towards_share` must be from 0 to 1") for share in (-0.1, 1.1)),
        ({"towards_share": 0.5}, "without `towards`"),
        ({"then": "a rose", "towards": "a daisy"}, "`then` and `towards`"),
    ],
    ids=str,
)
def test_what_cannot_be_sampled_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(CaptionlessError, match=message):
        Composition(**wrong)
