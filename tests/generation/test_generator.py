"""The contract of captionless.generation.generator: from words to pictures."""

import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

import captionless
import tiny
from captionless.checkpoints.config import save_config
from captionless.checkpoints.image_list import write_image_list
from captionless.checkpoints.model import BANK, WEIGHTS, Model
from captionless.conditioning.bridge import BridgeData, to_condition
from captionless.conditioning.composition import Composition
from captionless.conditioning.familiarity import UnfamiliarPrompt
from captionless.conditioning.subject import subject_prompts
from captionless.config.sampling import BRIDGES, SamplingConfig
from captionless.diffusion.samplers import SAMPLERS
from captionless.encoders import dual_encoder as encoders
from captionless.encoders.vocabulary import EncoderVocabulary
from captionless.errors import CaptionlessError
from captionless.generation import generator
from captionless.generation.generator import Generator, load
from captionless.generation.image import GeneratedImage
from captionless.generation.sample import MAX_SEED
from captionless.progress import Progress, Silent
from captionless.tensor_files import save_tensors
from tiny import FakeEncoder

QUICK = SamplingConfig(steps=3, precision="float32")


@pytest.fixture
def painter(model: Model) -> Generator:
    return Generator(model, FakeEncoder(), device="cpu")  # type: ignore[arg-type]


class Recorded(Silent):
    """A progress that notes what it receives."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []

    def advance(self, task: str, done: int, total: int) -> None:
        self.seen.append((task, done, total))


def levels(first: GeneratedImage | Image.Image, second: GeneratedImage | Image.Image) -> int:
    """The largest difference of two pictures, in levels of 255."""
    return int(np.abs(np.asarray(first, int) - np.asarray(second, int)).max())


# --- what comes out ---


def test_every_prompt_gets_its_images_in_order(painter: Generator) -> None:
    images = painter.generate(["a daisy", "a rose"], n=2, sampling=QUICK)
    assert [(one.image.mode, one.image.size) for one in images] == [("RGB", (8, 8))] * 4
    daisies, roses = (painter.generate(prompt, n=2, sampling=QUICK) for prompt in ("a daisy", "a rose"))
    assert [levels(*pair) <= 1 for pair in zip(images, daisies + roses, strict=True)] == [True] * 4


def test_one_prompt_may_be_given_as_plain_text(painter: Generator) -> None:
    (listed,), (plain,) = painter.generate(["a daisy"], sampling=QUICK), painter.generate("a daisy", sampling=QUICK)
    assert listed.image == plain.image


def test_other_words_sample_another_image(painter: Generator) -> None:
    daisy, rose = painter.generate(["a daisy", "a rose"], sampling=QUICK)
    assert levels(daisy, rose) > 8


def test_a_grey_model_paints_grey_images() -> None:
    painter = Generator(tiny.model(channels=1), FakeEncoder(), device="cpu")  # type: ignore[arg-type]
    (image,) = painter.generate("a daisy", sampling=QUICK)
    assert (image.image.mode, image.image.size) == ("L", (8, 8))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("bridge", BRIDGES)
def test_every_sampler_and_bridge_paints(sampler: str, bridge: str, painter: Generator) -> None:
    sampling = QUICK.replace(sampler=sampler, bridge=bridge)
    (image,) = painter.generate("a daisy", sampling=sampling)
    (again,) = painter.generate("a daisy", sampling=sampling)
    assert image.image == again.image


def test_the_verbs_of_the_package_compose_and_edit(painter: Generator) -> None:
    photo = Image.new("RGB", (20, 30), "red")
    near = captionless.Edit(photo, strength=1e-3)
    (image,) = painter.generate(
        "a rose", sampling=QUICK, composition=captionless.Composition(negative="red"), edit=near
    )
    assert levels(image, photo.resize((8, 8))) <= 3


def test_a_listener_sees_every_step_of_every_batch(painter: Generator) -> None:
    seen: list[tuple[int, int]] = []
    sampling = QUICK.replace(batch=2)
    painter.generate("a rose", n=3, sampling=sampling, on_step=lambda step: seen.append((step.number, len(step.x0))))
    assert seen == [(step, n) for n in (2, 1) for step in range(3)]


def test_progress_counts_the_steps_of_all_images(painter: Generator) -> None:
    progress = Recorded()
    painter.generate("a daisy", n=5, sampling=QUICK.replace(batch=2), progress=progress)
    assert progress.seen == [("Generating", done, 15) for done in (2, 4, 6, 8, 10, 12, 13, 14, 15)]


def test_painting_does_not_disturb_the_randomness_of_its_caller(painter: Generator) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    painter.generate("a daisy", sampling=QUICK.replace(sampler="ddpm"))
    assert torch.equal(torch.rand(1), expected)


# --- a seed means a picture ---


def test_image_i_uses_the_seed_plus_i(painter: Generator) -> None:
    several = painter.generate("a daisy", n=4, seed=70, sampling=QUICK)
    for i, image in enumerate(several):
        (alone,) = painter.generate("a daisy", seed=70 + i, sampling=QUICK)
        assert levels(image, alone) <= 1


def test_other_seeds_sample_other_images(painter: Generator) -> None:
    images = painter.generate("a daisy", n=6, sampling=QUICK)
    assert min(levels(images[i], images[k]) for i in range(6) for k in range(i)) > 8


# --- what a result says ---


def test_a_result_holds_all_that_decided_it(painter: Generator) -> None:
    composition = Composition(negative="a tulip", then="a daisy")
    images = painter.generate("a rose", n=2, seed=3, sampling=QUICK, composition=composition)
    assert [(one.prompt, one.seed) for one in images] == [("a rose", 3), ("a rose", 4)]
    wanted = {"model": "tiny", "negative": "a tulip", "then": "a daisy", "switch": 0.5}
    assert images[1].details == wanted | {"version": captionless.__version__}
    config = images[1].config
    assert config == QUICK.replace(guidance_interval=config.guidance_interval)
    assert config.guidance_interval == pytest.approx((0.037, 0.9), abs=1e-3)
    (again,) = painter.generate(images[1].prompt, seed=images[1].seed, sampling=config, composition=composition)
    assert levels(again, images[1]) <= 1


def test_an_image_that_was_read_from_its_file_is_reproduced(painter: Generator, tmp_path: Path) -> None:
    image = painter.generate("a daisy", n=2, seed=7, sampling=QUICK.replace(guidance=2, sampler="ddpm"))[1]
    image.save(tmp_path / "daisy.png")
    read = GeneratedImage.open(tmp_path / "daisy.png")
    again = painter.generate(read.prompt, seed=read.seed, sampling=read.config)[0]
    assert levels(read, image) == 0
    assert levels(again, image) <= 1
    assert again.metadata == image.metadata


def test_files_of_a_composition_and_an_edit_are_recorded(painter: Generator, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    photo = Image.open(tmp_path / "red.png")
    (image,) = painter.generate("", sampling=QUICK, composition=Composition(like=photo), edit=captionless.Edit(photo))
    told = {name: image.details[name] for name in ("like", "like_share", "init", "strength")}
    assert told == {
        "like": str(tmp_path / "red.png"),
        "like_share": 0.5,
        "init": str(tmp_path / "red.png"),
        "strength": 0.6,
    }


def test_a_generator_describes_itself(painter: Generator) -> None:
    assert re.fullmatch(
        r"<Generator 'tiny': 8 x 8 RGB, encoder 'fake', \d+\.\d million weights, on cpu>", repr(painter)
    )
    assert "2 classes" in repr(Generator(tiny.class_model(), device="cpu"))


# --- batch by batch ---


def test_a_stream_yields_the_images_of_generate_after_each_batch(painter: Generator) -> None:
    sampling, prompts, steps = QUICK.replace(batch=4), ["a daisy", "a rose"], []
    streamed, steps_before = [], []
    for image in painter.stream(prompts, 3, 7, sampling=sampling, on_step=steps.append):
        streamed.append(image)
        steps_before.append(len(steps))
    assert steps_before == [3] * 4 + [6] * 2
    assert [one.image for one in streamed] == [one.image for one in painter.generate(prompts, 3, 7, sampling=sampling)]
    (rose,) = painter.generate("a rose", seed=8, sampling=QUICK)
    assert levels(streamed[4], rose) <= 1


def test_a_stream_refuses_an_empty_last_prompt_before_it_paints(
    painter: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator, "sample_batches", lambda *_, **__: pytest.fail("painted"))
    with pytest.raises(CaptionlessError, match="is empty"):
        next(painter.stream(["a daisy", " "], sampling=QUICK.replace(batch=1)))


# --- bad input ---


@pytest.mark.parametrize("prompts", [[], "", "  ", ["a daisy", ""], ["\n"]])
def test_empty_prompts_are_refused(prompts: Any, painter: Generator) -> None:
    with pytest.raises(CaptionlessError, match="is empty"):
        painter.generate(prompts)


@pytest.mark.parametrize("n", [0, -1])
def test_fewer_than_one_image_is_refused(n: int, painter: Generator) -> None:
    with pytest.raises(CaptionlessError, match="from 1 to 1,000,000"):
        painter.generate("a daisy", n=n)


@pytest.mark.parametrize(("seed", "n"), [(-1, 1), (MAX_SEED + 1, 1), (MAX_SEED, 2)])
def test_seeds_outside_the_range_are_refused(seed: int, n: int, painter: Generator) -> None:
    with pytest.raises(CaptionlessError, match=f"`seed` must .* not {seed}"):
        painter.generate("a daisy", n=n, seed=seed)


def test_the_largest_seed_paints(painter: Generator) -> None:
    assert len(painter.generate("a daisy", n=2, seed=MAX_SEED - 1, sampling=QUICK)) == 2


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
    with pytest.raises(CaptionlessError, match=r"encoder fake of the model tiny .* pass its folder as `encoder`"):
        Generator(model, device="cpu").generate("a daisy")


def test_a_download_is_announced(
    model: Model, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load_encoder(name: str, *, progress: Progress) -> FakeEncoder:
        progress.say("downloading the encoder: 605 MB")
        return FakeEncoder()

    monkeypatch.setattr(encoders, "load_encoder", load_encoder)
    Generator(model, device="cpu").generate("a daisy", sampling=QUICK)
    assert "605 MB" in capsys.readouterr().err


def test_words_become_conditions_through_the_bridge_and_the_models_own_images(painter: Generator) -> None:
    texts = FakeEncoder().encode_texts(["a daisy", "a rose"])
    for bridge in BRIDGES:
        bridge_data = BridgeData(painter.model.bank, painter.text_mean)
        sampling = SamplingConfig(bridge=bridge)
        expected = to_condition(texts, bridge_data, sampling)
        torch.testing.assert_close(painter.conditions(["a daisy", "a rose"], sampling), expected)
        drawn = to_condition(texts[[1, 0, 1]], bridge_data, sampling, [3, 4, 5])
        torch.testing.assert_close(painter.conditions(["a rose", "a daisy", "a rose"], sampling, [3, 4, 5]), drawn)


def test_an_unfamiliar_prompt_is_sampled_with_a_warning(model: Model) -> None:
    class Specialised(FakeEncoder):
        @property
        def vocabulary(self) -> EncoderVocabulary:
            return EncoderVocabulary("flowers", ("rose",), frozenset(["rose"]), frozenset(["a", "rose"]))

    painter = Generator(model, Specialised(), device="cpu")  # type: ignore[arg-type]
    with pytest.warns(UnfamiliarPrompt, match="a cat") as warned:
        images = painter.generate(["a rose", "a cat"], n=2, sampling=QUICK)
    assert len(images) == 4
    assert len(warned) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnfamiliarPrompt)
        painter.generate("a rose", sampling=QUICK, composition=Composition(negative="yellow"))


def test_the_mean_of_texts_is_that_of_prompts_about_the_training_images(model: Model, tmp_path: Path) -> None:
    write_image_list(tiny.saved(model, tmp_path), [("rose/1.jpg", "a", "train"), ("daisy/2.jpg", "b", "train")])
    found = load(tmp_path, FakeEncoder(), "cpu").text_mean  # type: ignore[arg-type]
    expected = FakeEncoder().encode_texts(subject_prompts(["daisy", "rose"])).mean(0)
    torch.testing.assert_close(found, expected)


def test_a_model_that_recorded_the_hash_of_the_whole_encoder_loads_with_it(model: Model, tmp_path: Path) -> None:
    config = model.config
    folder = tiny.saved(
        replace(model, config=replace(config, encoder=replace(config.encoder, digest="7" * 64))), tmp_path
    )
    encoder: Any = FakeEncoder()
    with pytest.raises(CaptionlessError, match="was trained with the encoder"):
        load(folder, encoder, "cpu")
    encoder = Mock(wraps=encoder, digests={encoder.digest, "7" * 64})
    assert load(folder, encoder, "cpu").encoder is encoder


def test_a_model_folder_is_loaded_by_its_path(model: Model, tmp_path: Path) -> None:
    save_tensors(tmp_path / WEIGHTS, model.denoiser.state_dict())
    save_tensors(tmp_path / BANK, {"vectors": model.bank})
    save_config(tmp_path, model.config)
    loaded = load(tmp_path, device="cpu")
    conditions = tiny.unit_vectors(2)
    ours, theirs = (holder.sample(conditions, [3, 4], QUICK) for holder in (loaded, Generator(model, device="cpu")))
    assert ours == theirs


def test_the_null_condition_paints_unconditionally(painter: Generator) -> None:
    """With no condition, guidance has nothing to lean to but what attention adds."""
    null, quick = torch.zeros(1, tiny.WIDTH), QUICK.replace(perturbed_attention=1000)
    (plain,), (guided,) = (painter.sample(null, [0], quick.replace(guidance=w)) for w in (0.0, 5.0))
    assert levels(plain, guided) <= 1
    (perturbed,) = painter.sample(null, [0], QUICK.replace(guidance=5.0))
    assert levels(plain, perturbed) > 1
