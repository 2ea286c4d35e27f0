"""The verb `train` with `--enlarge`: a second model for the pictures of a first one."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import encoder_factory
import tiny
from captionless.checkpoints.config import CONFIG, base_folder, load_config, save_config
from captionless.checkpoints.image_list import read_image_list
from captionless.checkpoints.model import WEIGHTS, copy_model, load_model
from captionless.config.evaluation import EvaluationConfig
from captionless.config.sampling import SamplingConfig
from captionless.errors import CaptionlessError
from captionless.evaluation.data import load_evaluation_data
from captionless.evaluation.lineage import lineage, seen_digests, training_images
from captionless.evaluation.one_model import EvaluationPlan
from captionless.generation.generator import Generator, load
from captionless.models.unet import Denoiser
from captionless.progress import Silent
from captionless.tensor_files import read_tensors
from captionless.training.dataset import Examples
from captionless.training.loop import loop
from captionless.training.resolve import resolve_settings
from captionless.training.run import train
from captionless.training.sample_grid import SampleGrids
from captionless.training.start import Start
from training_cases import Remembers, StopsAt, same_state, save_photos

TINY: dict[str, Any] = {"size": 8, "width": 16, "batch": 4, "images": 24, "precision": "float32", "sample_grids": 0}
LARGE: dict[str, Any] = {"width": 16, "batch": 4, "images": 24, "precision": "float32", "sample_grids": 0}


pytestmark = pytest.mark.usefixtures("module_cache")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def small(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    encoder = encoder_factory.small_pair(folder / "encoder")
    return train(photos / "rose", folder / "model", encoder=str(encoder), **TINY)


@pytest.fixture(scope="module")
def large(photos: Path, small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(photos, tmp_path_factory.mktemp("large") / "model", enlarge=small, **LARGE)


def test_the_two_become_one_model_that_paints_twice_as_large(large: Path, small: Path) -> None:
    model = load_model(large)
    assert (model.config.size, model.config.base_size) == (16, 8)
    assert model.base is not None
    for name, weight in load_model(small).denoiser.state_dict().items():
        assert torch.equal(model.base.denoiser.state_dict()[name], weight)
    assert torch.equal(model.bank, load_model(small).bank)
    (image,) = Generator(model).generate(["a daisy"], sampling=SamplingConfig(steps=2))
    assert image.image.size == (16, 16)


def test_the_size_of_the_base_model_stops_before_the_super_resolution_stage(large: Path, small: Path) -> None:
    generator, quick = load(large), SamplingConfig(steps=2)
    steps = []
    (stopped,) = generator.generate("a daisy", size=8, sampling=quick, on_step=steps.append)
    (alone,) = load(small).generate("a daisy", sampling=quick)
    assert stopped.image.tobytes() == alone.image.tobytes()
    assert len(steps) == generator.steps(quick.replace(size=8)) == 2
    (whole,) = generator.generate("a daisy", size=16, sampling=quick)
    assert whole.image.size == (16, 16)
    with pytest.raises(CaptionlessError, match=r"images of 8 or 16 pixels, not 32\. .* `size=8` or `size=16`"):
        generator.generate("a daisy", size=32)


def test_the_base_model_alone_is_evaluated_on_images_of_its_own_size(large: Path) -> None:
    def plan(quick: bool, size: int | None) -> EvaluationPlan:
        return EvaluationPlan((), "", None, SamplingConfig(size=size), EvaluationConfig(quick=quick), Silent())

    generator = load(large)
    assert plan(False, None).sampling_for(generator).size == 16
    assert plan(False, 8).sampling_for(generator).size == plan(True, None).sampling_for(generator).size == 8
    with pytest.raises(CaptionlessError, match="images of 8 or 16 pixels, not 32"):
        plan(True, 32).sampling_for(generator)


def test_it_is_trained_most_where_detail_is_made_unless_told_otherwise(
    large: Path, small: Path, photos: Path, tmp_path: Path
) -> None:
    def weighting(folder: Path) -> str:
        return str(load_config(folder).training.settings["weighting"])

    assert weighting(large) == "log-normal"
    given = {**LARGE, "images": 1}
    even = train(photos, tmp_path / "even", enlarge=small, weighting="uniform", **given)
    assert weighting(even) == "uniform"
    assert weighting(train(photos, tmp_path / "from", start_from=even, enlarge=small, **given)) == "log-normal"


def test_what_the_base_model_held_out_stays_held_out_unless_told_otherwise(small: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    copy_model(small, base)
    config = load_config(base)
    settings = config.training.settings | {"hold_out": 0.3}
    save_config(base, replace(config, training=replace(config.training, settings=settings)))
    assert resolve_settings(Start(base=base), {}).hold_out == 0.3
    assert resolve_settings(Start(base=base), {"hold_out": 0.0}).hold_out == 0


def test_it_may_be_trained_on_crops(photos: Path, small: Path, tmp_path: Path) -> None:
    cropped = load_model(train(photos, tmp_path / "cropped", enlarge=small, crop=0.7, **LARGE))
    assert cropped.denoiser.state_dict()["embedding.crop.weight"].any(0).all()
    (image,) = Generator(cropped).generate(["a daisy"], sampling=SamplingConfig(steps=2))
    assert image.image.size == (16, 16)


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.slow
def test_it_learns_from_small_images_as_the_small_model_was_shown_them(
    by_class: bool, photos: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Examples] = []

    def spy(state: Any, examples: Examples, *rest: Any) -> None:
        given.append(examples)
        loop(state, examples, *rest)

    monkeypatch.setattr("captionless.training.run.loop", spy)
    if by_class:
        small = train(photos, tmp_path / "first", classes=True, **{**TINY, "images": 1})
    else:
        train(photos, tmp_path / "first", start_from=small, **{**TINY, "images": 1})
    train(photos, tmp_path / "out", enlarge=small, classes=by_class, **{**LARGE, "images": 1})
    first, second = given
    assert second.low_res is not None
    # Both are reduced from cached images, which are larger for a larger stage; see tests/data/test_crop.py.
    assert (second.low_res.float() - first.pixels.float()).abs().mean() < 1
    assert first.low_res is None


def test_the_model_folder_needs_no_other_one(large: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(large, tmp_path / "elsewhere", ignore=shutil.ignore_patterns("training", "samples"))
    files = {path.relative_to(moved).as_posix() for path in moved.rglob("*") if path.is_file()}
    assert {CONFIG, WEIGHTS, "base/config.json", "base/model.safetensors", "base/bank.safetensors"} <= files
    assert not any("training" in name for name in files)
    assert load(moved).generate("a rose", sampling=SamplingConfig(steps=2))[0].image.size == (16, 16)


@pytest.mark.slow
def test_the_images_of_both_are_credited(photos: Path, small: Path, tmp_path: Path) -> None:
    folders = [Path(shutil.copytree(photos, tmp_path / name)) for name in ("ours", "theirs")]
    for folder in folders:
        (folder / "CREDITS.csv").write_text(f"file,author\nrose/1.png,{folder.name}\n")
    first = train(folders[1], tmp_path / "first", start_from=small, **{**TINY, "images": 1})
    out = train(folders[0], tmp_path / "out", enlarge=first, **{**LARGE, "images": 1})
    assert "[base/CREDITS.csv](base/CREDITS.csv)" in (out / "README.md").read_text()
    again = train(photos, tmp_path / "again", start_from=out, **{**TINY, "images": 1})
    # It begins with the small model's weights.
    assert "theirs" in (again / "CREDITS-begun-from.csv").read_text()


def test_an_interrupted_training_goes_on_as_if_it_had_never_stopped(
    photos: Path, small: Path, large: Path, tmp_path: Path
) -> None:
    # The learning rate depends on the whole length: as after a stop, the first half must know it.
    part = tmp_path / "part"
    with pytest.raises(KeyboardInterrupt):
        train(photos, part, enlarge=small, progress=StopsAt(500), **LARGE)
    train(photos, part, resume=True)
    assert same_state(large, part)


def test_the_images_of_both_count_as_seen(large: Path, small: Path, photos: Path) -> None:
    assert len(read_image_list(small)) == 6
    seen, unknown = seen_digests(large)
    assert (len(seen), unknown) == (12, ())
    assert len(lineage(large)) == 2


def test_copies_are_looked_for_among_what_either_of_the_two_was_trained_on(
    photos: Path, small: Path, tmp_path: Path
) -> None:
    """It is the small model that decides what a picture shows, and remembers it."""
    out = train(photos / "daisy", tmp_path / "model", enlarge=small, **{**LARGE, "images": 1})
    assert set(training_images(out)) == {digest for folder in (out, small) for _, digest, _ in read_image_list(folder)}
    data = load_evaluation_data(photos / "daisy", load(out), 16, Silent())
    assert (data.found, data.trained_on) == (6, 12)


def test_contact_sheets_show_what_the_finished_model_makes_of_words(
    photos: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its words are bridged to the small model's pictures, not to those that it learned to enlarge."""
    asked: list[torch.Tensor] = []
    original = SampleGrids.draw

    def spy(self: SampleGrids, denoiser: Denoiser) -> Image.Image:
        asked.append(self.rows.conditions)
        return original(self, denoiser)

    monkeypatch.setattr(SampleGrids, "draw", spy)
    given = {**LARGE, "images": 1, "sample_grids": 1}
    out = train(photos / "daisy", tmp_path / "model", enlarge=small, sample_prompts=["a rose"], **given)
    torch.testing.assert_close(asked[0], load(out).conditions(["a rose"]))


def test_another_training_of_its_base_size_begins_with_its_small_model(large: Path, small: Path, photos: Path) -> None:
    given = {**LARGE, "size": 8, "images": 1, "learning_rate": 1e-12}
    out = train(photos, large.parent / "again", start_from=large, **given)
    config = load_config(out)
    assert (config.size, config.base_size, config.training.initialised_from) == (8, None, str(large))
    old = load_model(small).denoiser.state_dict()
    for name, weight in load_model(out).denoiser.state_dict().items():
        torch.testing.assert_close(weight, old[name], atol=1e-6, rtol=0)


def test_of_a_model_that_enlarges_the_small_one_is_enlarged(large: Path, photos: Path, tmp_path: Path) -> None:
    out = train(photos, tmp_path / "model", enlarge=large, **{**LARGE, "size": 24, "images": 1})
    config = load_config(out)
    assert (config.size, config.base_size, config.training.base_model) == (24, 8, str(large))


def test_another_enlargement_may_begin_with_its_large_one(large: Path, small: Path, photos: Path) -> None:
    given = {**LARGE, "images": 1, "learning_rate": 1e-12}
    out = train(photos, large.parent / "more", start_from=large, enlarge=small, **given)
    old = load_model(large).denoiser.state_dict()
    for name, weight in load_model(out).denoiser.state_dict().items():
        torch.testing.assert_close(weight, old[name], atol=1e-6, rtol=0)


def with_levels(multipliers: tuple[int, ...], photos: Path, small: Path, out: Path) -> Path:
    """Train a super-resolution stage with other levels than usual."""
    return train(photos, out, enlarge=small, multipliers=multipliers, **{**LARGE, "images": 1})


@pytest.mark.slow
def test_a_wider_one_keeps_its_levels_and_what_it_has_learned(small: Path, photos: Path, tmp_path: Path) -> None:
    old = with_levels((1, 2, 3), photos, small, tmp_path / "old")
    given = {**LARGE, "images": 1, "learning_rate": 1e-12}
    same = train(photos, tmp_path / "same", start_from=old, enlarge=small, **given)
    wider = train(photos, tmp_path / "wider", start_from=old, enlarge=small, **{**given, "width": 32})
    levels = [load_config(folder).denoiser.levels for folder in (old, same, wider)]
    assert levels == [(16, 32, 48), (16, 32, 48), (32, 64, 96)]
    known, grown = (load_model(folder).denoiser for folder in (old, wider))
    seen = tiny.random(2, 7, 16, 16), torch.tensor([0.2, 0.7]), tiny.unit_vectors(2, known.config.condition_width)
    torch.testing.assert_close(grown(*seen), known(*seen), atol=1e-4, rtol=0)


@pytest.mark.slow
def test_renamed_images_keep_their_small_ones(photos: Path, small: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(photos, tmp_path / "photos"))
    whole = train(folder, tmp_path / "whole", enlarge=small, **LARGE)
    with pytest.raises(KeyboardInterrupt):
        train(folder, tmp_path / "part", enlarge=small, progress=StopsAt(500), **LARGE)
    (folder / "rose" / "1.png").rename(folder / "rose" / "zz.png")
    part = train(folder, tmp_path / "part", resume=True)
    expected, got = (read_tensors(out / WEIGHTS) for out in (whole, part))
    assert all(torch.equal(expected[name], got[name]) for name in expected)


@pytest.mark.slow
def test_the_small_model_is_taken_over_once_as_it_was_at_the_beginning(
    photos: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[tuple[Path, Path]] = []
    copy = copy_model

    def spy(source: Path, target: Path) -> None:
        copied.append((source, target))
        copy(source, target)

    monkeypatch.setattr("captionless.training.checkpointer.copy_model", spy)
    out = tmp_path / "out"
    more = {"hold_out": 0.5, "evaluate_every": 12, "checkpoint_minutes": 0.0}
    folder = many(tmp_path)
    train(folder, out, enlarge=small, **more, **LARGE)
    assert copied == [(small, base_folder(out)), (base_folder(out), out / "best" / "base")]


@pytest.mark.slow
def test_weights_that_read_other_classes_are_not_taken_over(photos: Path, tmp_path: Path) -> None:
    def labelled(name: str, *classes: str) -> Path:
        table = tmp_path / f"{name}.csv"
        rows = [f"{path.relative_to(photos)},{classes[path.parent.name == 'rose']}" for path in photos.rglob("*.png")]
        table.write_text("\n".join(["file,label", *rows]))
        return table

    flowers, colours = labelled("flowers", "daisy", "rose"), labelled("colours", "red", "white")
    large = train(photos, tmp_path / "large", enlarge=trained_on(photos, flowers), labels=flowers, **LARGE)
    told = Remembers()
    given = {**LARGE, "images": 1, "learning_rate": 1e-12, "seed": 1}
    enlarge = trained_on(photos, colours)
    out = train(photos, tmp_path / "out", enlarge=enlarge, start_from=large, labels=colours, progress=told, **given)
    old, new = (load_model(folder).denoiser.state_dict() for folder in (large, out))
    changed = {name for name, weight in new.items() if not torch.allclose(weight, old[name], atol=1e-6, rtol=0)}
    assert changed == {"embedding.condition.weight"}
    assert any("the base model were trained with different classes" in line for line in told.said)


def trained_on(photos: Path, labels: Path) -> Path:
    return train(photos, labels.with_suffix(""), labels=labels, **TINY)


@pytest.mark.slow
def test_classes_are_enlarged_too(photos: Path, tmp_path: Path) -> None:
    small = train(photos, tmp_path / "small", classes=True, **TINY)
    large = train(photos, tmp_path / "large", enlarge=small, classes=True, **{**LARGE, "size": 24})
    (image,) = load(large).generate("rose", sampling=SamplingConfig(steps=2))
    assert image.image.size == (24, 24)
    with pytest.raises(CaptionlessError, match=r"is class-conditional, .* Add `classes=True`"):
        train(photos, tmp_path / "words", enlarge=small, **LARGE)


def many(folder: Path) -> Path:
    target = folder / "many"
    target.mkdir()
    for i, image in enumerate(encoder_factory.pictures(70)):
        image.save(target / f"{i}.png")
    return target


@pytest.mark.slow
def test_the_best_of_a_training_is_whole_too(photos: Path, small: Path, tmp_path: Path) -> None:
    folder = many(tmp_path)
    told = Remembers()
    again = train(folder, tmp_path / "small", start_from=small, **{**TINY, "images": 1})
    out = train(folder, tmp_path / "out", enlarge=again, hold_out=0.5, evaluate_every=12, progress=told, **LARGE)
    assert any(f"training images of {again}, the base model" in line for line in told.said)
    assert load(out / "best").generate("a rose", sampling=SamplingConfig(steps=2))[0].image.size == (16, 16)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"size": 20}, "`size=20` must be a multiple .* Try `size=16`"),
        ({"size": 8}, "`size=8` must be a multiple"),
        ({"grey": True}, "`grey` conflicts with"),
        ({"tokens": 4}, "without attention. Leave `network` and `tokens` out"),
        ({"classes": True}, "is text-conditional, .* Leave `classes`"),
    ],
)
def test_what_cannot_be_enlarged_is_refused(
    given: dict[str, Any], told: str, photos: Path, small: Path, tmp_path: Path
) -> None:
    with pytest.raises(CaptionlessError, match=told):
        train(photos, tmp_path / "model", enlarge=small, **(LARGE | given))
    assert not (tmp_path / "model" / CONFIG).exists()


def test_models_are_not_mixed_up(photos: Path, small: Path, large: Path, tmp_path: Path) -> None:
    with pytest.raises(CaptionlessError, match=r"cannot start from .*, which has no such stage"):
        train(photos, tmp_path / "model", enlarge=small, start_from=small, **LARGE)
    with pytest.raises(CaptionlessError, match="started with `enlarge="):
        train(photos, large, enlarge="bundled", resume=True)
    with pytest.raises(CaptionlessError, match="started without `enlarge`"):
        train(photos / "rose", small, enlarge=small, resume=True)


def test_a_model_whose_small_one_is_gone_or_another_says_so(large: Path, small: Path, tmp_path: Path) -> None:
    without = shutil.copytree(large, tmp_path / "without")
    shutil.rmtree(base_folder(without))
    with pytest.raises(CaptionlessError, match="does not exist"):
        load_model(without)
    mixed = shutil.copytree(large, tmp_path / "mixed")
    shutil.rmtree(base_folder(mixed))
    shutil.copytree(base_folder(large), base_folder(mixed))
    text = (base_folder(mixed) / CONFIG).read_text()
    (base_folder(mixed) / CONFIG).write_text(text.replace('"digest": "', '"digest": "0'))
    with pytest.raises(CaptionlessError, match="is not the base model"):
        load_model(mixed)


def test_card_and_info_tell_of_the_small_model(large: Path, run: Callable[..., int], capsys: Any) -> None:
    assert "upsamples the 8 x 8 pixel images of the base model in [base](base)" in (large / "README.md").read_text()
    assert run("info", str(large)) == 0
    assert re.search(r"Base model +8 x 8 pixels, colour; U-Net", capsys.readouterr().out)
