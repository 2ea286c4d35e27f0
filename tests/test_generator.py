"""The contract of captionless.generator: from words to pictures."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
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
from captionless import encoder_files, encoders, generator
from captionless.bridge import to_condition
from captionless.checkpoint import BANK, WEIGHTS, Model, save_config, save_tensors
from captionless.errors import CaptionlessError
from captionless.generator import MAX_SEED, Generator, initial_noise, load, paint, to_bytes, to_images
from captionless.sampling import BRIDGES, SAMPLERS, Sampling
from captionless.schedule import CosineSchedule
from tiny import FakeEncoder

QUICK = Sampling(steps=3, precision="float32")
NETWORK = tiny.denoiser()


@pytest.fixture
def painter(model: Model) -> Generator:
    return Generator(model, FakeEncoder(), device="cpu")  # type: ignore[arg-type]


def levels(first: Image.Image, second: Image.Image) -> int:
    """The largest difference of two pictures, in levels of 255."""
    return int(np.abs(np.asarray(first, int) - np.asarray(second, int)).max())


# --- what comes out ---


def test_every_prompt_gets_its_pictures_in_order(painter: Generator) -> None:
    images = painter.generate(["a daisy", "a rose"], n=2, sampling=QUICK)
    assert [(image.mode, image.size) for image in images] == [("RGB", (8, 8))] * 4
    daisies, roses = (painter.generate(prompt, n=2, sampling=QUICK) for prompt in ("a daisy", "a rose"))
    assert [levels(*pair) <= 1 for pair in zip(images, daisies + roses, strict=True)] == [True] * 4


def test_one_prompt_may_be_given_as_plain_text(painter: Generator) -> None:
    (listed,), (plain,) = painter.generate(["a daisy"], sampling=QUICK), painter.generate("a daisy", sampling=QUICK)
    assert listed == plain


def test_other_words_paint_another_picture(painter: Generator) -> None:
    daisy, rose = painter.generate(["a daisy", "a rose"], sampling=QUICK)
    assert levels(daisy, rose) > 8


def test_a_grey_model_paints_grey_pictures() -> None:
    painter = Generator(tiny.model(channels=1), FakeEncoder(), device="cpu")  # type: ignore[arg-type]
    (image,) = painter.generate("a daisy", sampling=QUICK)
    assert (image.mode, image.size) == ("L", (8, 8))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("bridge", BRIDGES)
def test_every_sampler_and_bridge_paints(sampler: str, bridge: str, painter: Generator) -> None:
    sampling = replace(QUICK, sampler=sampler, bridge=bridge)
    (image,) = painter.generate("a daisy", sampling=sampling)
    (again,) = painter.generate("a daisy", sampling=sampling)
    assert image == again


def test_guidance_and_steps_change_the_picture(painter: Generator) -> None:
    (image,) = painter.generate("a daisy", sampling=QUICK)
    for change in ({"guidance": 0.0}, {"steps": 5}, {"sampler": "ddpm"}):
        (changed,) = painter.generate("a daisy", sampling=replace(QUICK, **change))  # type: ignore[arg-type]
        assert levels(image, changed) > 1, change


def test_progress_counts_pictures(painter: Generator) -> None:
    seen: list[tuple[int, int]] = []
    painter.generate("a daisy", n=5, sampling=replace(QUICK, batch=2), on_progress=lambda *done: seen.append(done))
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_painting_does_not_disturb_the_randomness_of_its_caller(painter: Generator) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    painter.generate("a daisy", sampling=replace(QUICK, sampler="ddpm"))
    assert torch.equal(torch.rand(1), expected)


# --- pixels ---


def test_the_range_of_pictures_is_mapped_onto_0_to_255_and_clipped() -> None:
    x = torch.tensor([-3.0, -1.0, -0.999, 0.0, 0.5, 1.0, 7.0]).reshape(1, 1, 1, 7)
    assert to_bytes(x).flatten().tolist() == [0, 0, 0, 128, 191, 255, 255]


def test_pixels_keep_their_place_and_channel() -> None:
    pixels = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).reshape(2, 3, 4, 4)
    for picture, image in zip(pixels, to_images(pixels), strict=True):
        assert np.array_equal(np.asarray(image), picture.permute(1, 2, 0).numpy())


# --- a seed means a picture ---


def test_picture_i_uses_the_seed_plus_i(painter: Generator) -> None:
    several = painter.generate("a daisy", n=4, seed=70, sampling=QUICK)
    for i, image in enumerate(several):
        (alone,) = painter.generate("a daisy", seed=70 + i, sampling=QUICK)
        assert levels(image, alone) <= 1


def test_other_seeds_paint_other_pictures(painter: Generator) -> None:
    images = painter.generate("a daisy", n=6, sampling=QUICK)
    assert min(levels(images[i], images[k]) for i in range(6) for k in range(i)) > 8


@hypothesis_settings(max_examples=10)
@given(
    seeds=st.lists(st.integers(0, MAX_SEED), min_size=1, max_size=7),
    batch=st.integers(1, 8),
    sampler=st.sampled_from(SAMPLERS),
    guidance=st.sampled_from([0.0, 2.0]),
)
def test_a_seeds_picture_does_not_depend_on_its_batch(
    seeds: list[int], batch: int, sampler: str, guidance: float
) -> None:
    conditions, sampling = tiny.unit_vectors(len(seeds)), replace(QUICK, sampler=sampler, guidance=guidance)
    schedule = CosineSchedule()
    batched = paint(NETWORK, schedule, conditions, seeds, 8, replace(sampling, batch=batch))
    for i, seed in enumerate(seeds):
        alone = paint(NETWORK, schedule, conditions[i : i + 1], [seed], 8, sampling)
        assert (batched[i].int() - alone[0].int()).abs().max() <= 1


def record_noise(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Replace DDPM by something that notes its initial noise and three later draws."""
    noises: list[Tensor] = []

    def spy(denoise: Any, x: Tensor, times: Tensor, schedule: Any, noise: Callable[[], Tensor], *_: Any) -> Tensor:
        noises.append(torch.stack([x, noise(), noise(), noise()], dim=1))
        return x

    monkeypatch.setitem(generator.SAMPLERS, "ddpm", spy)
    return noises


def test_all_noise_of_a_seed_is_bitwise_the_same_alone_and_in_any_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    noises, seeds, network = record_noise(monkeypatch), [7, 8, 0, 7, MAX_SEED], tiny.denoiser()
    for batch in (5, 3, 1):
        sampling = Sampling(sampler="ddpm", precision="float32", batch=batch)
        paint(network, CosineSchedule(), tiny.unit_vectors(5), seeds, 8, sampling)
    together, by_threes, alone = noises[0], torch.cat(noises[1:3]), torch.cat(noises[3:])
    assert torch.equal(together, by_threes)
    assert torch.equal(together, alone)
    for i, seed in enumerate(seeds):
        assert torch.equal(together[i, 0], initial_noise(seed, 3, 8)[0])


def test_the_noise_of_one_seed_is_standard_normal_and_never_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    noises = record_noise(monkeypatch)
    sampling = Sampling(sampler="ddpm", precision="float32")
    paint(tiny.denoiser(), CosineSchedule(), tiny.unit_vectors(40), range(40), 8, sampling)
    draws = noises[0].flatten(0, 1).flatten(1)  # 160 draws of 192 numbers
    assert draws.mean() == pytest.approx(0, abs=0.03)
    assert draws.std() == pytest.approx(1, abs=0.03)
    correlation = (draws @ draws.T / 192).fill_diagonal_(0)
    assert correlation.abs().max() < 0.5


@pytest.mark.parametrize("seed", [0, 1, 12345, MAX_SEED - 1])
def test_neighbouring_seeds_start_from_different_noise(seed: int) -> None:
    assert not torch.equal(initial_noise(seed, 3, 8)[0], initial_noise(seed + 1, 3, 8)[0])


def test_the_largest_seed_is_the_last_that_the_generator_tells_from_others() -> None:
    """If this fails, PyTorch reads more of a seed than it did, and ``MAX_SEED`` may rise."""
    assert torch.equal(initial_noise(5, 3, 8)[0], initial_noise(5 + MAX_SEED + 1, 3, 8)[0])


# --- batch by batch ---


def test_a_stream_hands_out_the_pictures_of_generate_batch_by_batch(painter: Generator) -> None:
    sampling, prompts = replace(QUICK, batch=4), ["a daisy", "a rose"]
    batches = list(painter.stream(prompts, 3, 7, sampling))
    assert [len(batch) for batch in batches] == [4, 2]
    streamed = [image for batch in batches for image in batch]
    assert streamed == painter.generate(prompts, 3, 7, sampling)
    (rose,) = painter.generate("a rose", seed=8, sampling=QUICK)
    assert levels(streamed[4], rose) <= 1


def test_a_stream_refuses_an_empty_last_prompt_before_it_paints(
    painter: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator, "paint", lambda *_: pytest.fail("painted"))
    with pytest.raises(CaptionlessError, match="empty prompt"):
        next(painter.stream(["a daisy", " "], sampling=replace(QUICK, batch=1)))


# --- formats of numbers and of memory ---


def test_float32_on_cuda_does_without_tf32_and_leaves_the_setting_as_it_was() -> None:
    before = torch.backends.cudnn.allow_tf32
    with generator.exact_convolutions("float32", torch.device("cuda")):
        assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.enabled
    assert torch.backends.cudnn.allow_tf32 == before
    with generator.exact_convolutions("bf16", torch.device("cuda")):
        assert torch.backends.cudnn.allow_tf32 == before


# --- bf16 ---


def test_bf16_paints_nearly_the_picture_of_float32_alone_or_in_a_batch() -> None:
    """The stated tolerance: 2 of 255 levels on average and 12 at most, with this network of random weights."""
    network, schedule, conditions = tiny.denoiser(), CosineSchedule(), tiny.unit_vectors(3)

    def painted(precision: str, batch: int) -> Tensor:
        sampling = replace(QUICK, precision=precision, batch=batch)
        return paint(network, schedule, conditions, [0, 1, 2], 8, sampling).float()

    exact, together, alone = painted("float32", 3), painted("bf16", 3), painted("bf16", 1)
    for difference in ((together - exact).abs(), (together - alone).abs()):
        assert difference.mean() <= 2
        assert difference.max() <= 12
    assert not torch.equal(together, exact)


# --- bad input ---


@pytest.mark.parametrize("prompts", [[], "", "  ", ["a daisy", ""], ["\n"]])
def test_empty_prompts_are_refused(prompts: Any, painter: Generator) -> None:
    with pytest.raises(CaptionlessError, match="empty prompt"):
        painter.generate(prompts)


@pytest.mark.parametrize("n", [0, -1])
def test_fewer_than_one_picture_is_refused(n: int, painter: Generator) -> None:
    with pytest.raises(CaptionlessError, match=f"-n must be at least 1, not {n}"):
        painter.generate("a daisy", n=n)


@pytest.mark.parametrize(("seed", "n"), [(-1, 1), (MAX_SEED + 1, 1), (MAX_SEED, 2)])
def test_seeds_outside_the_range_are_refused(seed: int, n: int, painter: Generator) -> None:
    with pytest.raises(CaptionlessError, match=f"--seed must .* not {seed}"):
        painter.generate("a daisy", n=n, seed=seed)


def test_the_largest_seed_paints(painter: Generator) -> None:
    assert len(painter.generate("a daisy", n=2, seed=MAX_SEED - 1, sampling=QUICK)) == 2


@pytest.mark.parametrize(("conditions", "seeds"), [(1, 2), (2, 1), (0, 0)])
def test_every_condition_needs_its_seed(conditions: int, seeds: int, painter: Generator) -> None:
    with pytest.raises(CaptionlessError, match=f"{conditions} conditions and {seeds} seeds"):
        painter.paint(torch.zeros(conditions, tiny.WIDTH), range(seeds), QUICK)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "at least 1 sampling step, not 0"),
        ({"batch": 0}, "at least 1 picture, not 0"),
        ({"guidance": math.nan}, "--guidance must be a number from -100 to 100, not nan"),
        ({"guidance": math.inf}, "--guidance must be a number from -100 to 100, not inf"),
        ({"guidance": -101.0}, "--guidance must be a number from -100 to 100, not -101.0"),
        ({"sampler": "euler-maruyama"}, "no sampler 'euler-maruyama'. Choose one of: dpmpp-2m, ddim, ddpm"),
        ({"bridge": "bifrost"}, "no bridge 'bifrost'. Choose one of: nearest, none"),
        ({"precision": "fp8"}, "no precision 'fp8'. Choose one of: auto, float32, bf16"),
    ],
)
def test_impossible_ways_of_sampling_are_refused_before_any_work(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(CaptionlessError, match=message):
        Sampling(**wrong)


# --- models and encoders ---


def test_an_encoder_other_than_the_models_is_refused(model: Model) -> None:
    with pytest.raises(CaptionlessError, match="trained with the encoder fake"):
        Generator(model, FakeEncoder(digest="1" * 64), device="cpu")  # type: ignore[arg-type]


def test_the_models_encoder_is_loaded_by_its_name_when_first_needed(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def load_encoder(name: str, *_: Any, **__: Any) -> FakeEncoder:
        asked.append(name)
        return FakeEncoder()

    monkeypatch.setattr(encoders, "load_encoder", load_encoder)
    painter = Generator(model, device="cpu")
    assert asked == []
    painter.generate("a daisy", sampling=QUICK)
    painter.generate("a daisy", sampling=QUICK)
    assert asked == ["fake"]


def test_a_loaded_encoder_other_than_the_models_is_refused(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "load_encoder", lambda *_, **__: FakeEncoder(digest="1" * 64))
    with pytest.raises(CaptionlessError, match="trained with the encoder"):
        Generator(model, device="cpu").generate("a daisy")


def test_an_encoder_that_moved_is_found_where_it_is_said_to_lie(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def load_encoder(name: str, **_: Any) -> FakeEncoder:
        asked.append(name)
        return FakeEncoder()

    monkeypatch.setattr(encoders, "load_encoder", load_encoder)
    monkeypatch.setattr(generator, "load_model", lambda _: model)
    load("tiny", encoder="elsewhere/encoder", device="cpu").generate("a daisy", sampling=QUICK)
    load("tiny", encoder=Path("elsewhere"), device="cpu").generate("a daisy", sampling=QUICK)
    load("tiny", encoder=FakeEncoder(), device="cpu").generate("a daisy", sampling=QUICK)  # type: ignore[arg-type]
    assert asked == ["elsewhere/encoder", "elsewhere"]


def test_an_encoder_that_is_not_found_asks_where_it_lies(model: Model) -> None:
    with pytest.raises(CaptionlessError, match=r"encoder fake of the model tiny .* name the place: --encoder FOLDER"):
        Generator(model, device="cpu").generate("a daisy")


def test_a_download_is_announced_even_while_other_warnings_are_silenced(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_encoder(name: str, *, announce: Callable[[str], None]) -> FakeEncoder:
        with encoder_files.quiet():
            announce("downloading the encoder: 605 MB")
        return FakeEncoder()

    monkeypatch.setattr(encoders, "load_encoder", load_encoder)
    with pytest.warns(UserWarning, match="605 MB"):
        Generator(model, device="cpu").generate("a daisy", sampling=QUICK)


def test_words_become_conditions_through_the_bridge_and_the_models_own_pictures(painter: Generator) -> None:
    texts = FakeEncoder().encode_texts(["a daisy", "a rose"])
    for bridge in BRIDGES:
        expected = to_condition(texts, painter.model.bank, 1 / 20.0, bridge)
        torch.testing.assert_close(painter.conditions(["a daisy", "a rose"], bridge), expected)


def test_a_model_folder_is_loaded_by_its_path(model: Model, tmp_path: Path) -> None:
    save_tensors(tmp_path / WEIGHTS, model.denoiser.state_dict())
    save_tensors(tmp_path / BANK, {"vectors": model.bank})
    save_config(tmp_path, model.config)
    loaded = load(tmp_path, device="cpu")
    conditions = tiny.unit_vectors(2)
    ours, theirs = (holder.paint(conditions, [3, 4], QUICK) for holder in (loaded, Generator(model, device="cpu")))
    assert ours == theirs


def test_the_null_condition_paints_unconditionally(painter: Generator) -> None:
    """With no condition, guidance has nothing to lean to."""
    null = torch.zeros(1, tiny.WIDTH)
    (plain,), (guided,) = (painter.paint(null, [0], replace(QUICK, guidance=w)) for w in (0.0, 5.0))
    assert levels(plain, guided) <= 1
