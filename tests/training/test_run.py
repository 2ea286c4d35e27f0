"""The verb `train`, from a folder of pictures to a model folder, with a tiny encoder of the bundled kind."""

from __future__ import annotations

import csv
import errno
import shutil
import signal
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image
from safetensors.torch import save_file

import encoder_factory
import image_zoo as zoo
from captionless.checkpoints.config import load_config
from captionless.checkpoints.image_list import read_image_list
from captionless.checkpoints.model import BANK, STATE, WEIGHTS, load_model
from captionless.config.sampling import SamplingConfig
from captionless.config.train_request import TrainRequest
from captionless.encoders.choice import DOMAIN
from captionless.encoders.dual_encoder import load_encoder
from captionless.encoders.embeddings import embed
from captionless.encoders.vector_csv import write_vectors
from captionless.errors import CaptionlessError
from captionless.generation.generator import Generator
from captionless.progress import Silent
from captionless.training.checkpointer import lock_checkpoints
from captionless.training.dataset import load_dataset
from captionless.training.resolve import resolve
from captionless.training.run import train
from captionless.training.state import TrainState, save_state
from training_cases import Remembers, StopsAt, same_state, save_photos, state_tensors

SEEN = 12
TINY: dict[str, Any] = {"size": 8, "width": 16, "batch": 4, "images": SEEN, "precision": "float32", "sample_grids": 0}
WITH_GRID = TINY | {"sample_grids": 1}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_factory.small_pair(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve pictures in two sub-folders, and what is found beside pictures."""
    return add_others(save_photos(tmp_path / "photos"))


def add_others(folder: Path) -> Path:
    shutil.copyfile(folder / "daisy" / "0.png", folder / "daisy" / "copy.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "CREDITS.csv").write_text("file,photographer\ndaisy\\0.png,Ada\nelsewhere/9.png,Bob\n")
    return folder


@pytest.fixture(scope="module")
def once(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a ``model`` trained on the photos, and of the ``cache`` that this filled."""
    folder = tmp_path_factory.mktemp("once")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPTIONLESS_CACHE", str(folder / "cache"))
        train(add_others(save_photos(folder / "photos")), folder / "model", encoder=str(encoder), **TINY)
    return folder


@pytest.fixture
def trained(once: Path, photos: Path, own_cache: None, tmp_path: Path) -> Path:
    """A copy of the model, which ``train(photos, tmp_path / "model", encoder=str(encoder), **TINY)`` makes too."""
    shutil.copytree(once / "cache", tmp_path / "cache")
    return Path(shutil.copytree(once / "model", tmp_path / "model"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTIONLESS_CACHE", str(tmp_path / "cache"))


def test_a_model_folder_holds_everything_that_painting_needs(photos: Path, encoder: Path, tmp_path: Path) -> None:
    out = train(photos, tmp_path / "model", encoder=str(encoder), hold_out=0.2, **WITH_GRID)
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {"config.json", "model.safetensors", "bank.safetensors", "pictures.csv", "README.md", "CREDITS.csv"} <= names
    assert {"images-report.csv", "training/state.safetensors", "samples/000000012.png"} <= names
    (image,) = Generator(load_model(out)).generate(["a daisy"], sampling=SamplingConfig(steps=2))
    assert image.image.size == (8, 8)


def test_each_image_is_trained_on_once_or_held_out_and_the_folder_says_which(
    photos: Path, encoder: Path, tmp_path: Path
) -> None:
    out = train(photos, tmp_path / "model", encoder=str(encoder), hold_out=0.4, **TINY)
    rows = read_image_list(out)
    assert len(rows) == 12  # the copy counts once, the broken file not at all
    assert len({digest for _, digest, _ in rows}) == 12
    roles = [role for _, _, role in rows]
    training = load_config(out).training
    assert (roles.count("train"), roles.count("held out")) == (training.train_images, training.held_out)
    assert 0 < training.held_out < 12
    assert load_model(out).bank.shape == (training.train_images, 24)


def test_a_broken_image_and_a_copy_are_told_and_reported(photos: Path, encoder: Path, tmp_path: Path) -> None:
    progress = Remembers()
    out = train(photos, tmp_path / "model", encoder=str(encoder), progress=progress, **TINY)
    said = "\n".join(progress.said)
    assert "broken.jpg" in said
    assert "daisy/copy.png" in said
    report = (out / "images-report.csv").read_text()
    assert "broken.jpg,skipped" in report
    assert ",duplicate," in report


def test_the_card_credits_only_the_images_trained_on(trained: Path) -> None:
    assert (trained / "CREDITS.csv").read_text() == "file,photographer\ndaisy\\0.png,Ada\n"


def test_an_interrupted_training_goes_on_as_if_it_had_never_stopped(
    photos: Path, encoder: Path, trained: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(photos, tmp_path / "parts", encoder=str(encoder), progress=StopsAt(300), **TINY)
    parts = train(photos, tmp_path / "parts", encoder=str(encoder), resume=True, **TINY)
    assert same_state(trained, parts)
    assert load_config(trained).training.loss == load_config(parts).training.loss
    assert [(trained / name).read_bytes() == (parts / name).read_bytes() for name in (WEIGHTS, BANK)] == [True, True]


class StopsAtGrid(Remembers):
    """Presses Ctrl-C when the first step of a sample grid is done, and remembers whether there was a model by then."""

    def __init__(self, out: Path) -> None:
        super().__init__()
        self.out, self.saved = out, list[bool]()

    def advance(self, task: str, done: int, total: int, detail: str = "") -> None:
        if task == "Drawing the sample grid":
            self.saved.append((self.out / "config.json").exists())
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(("grids", "images"), [(1, SEEN), (3, 4)])
def test_a_signal_abandons_a_sample_grid_and_the_model_is_saved(
    grids: int, images: int, photos: Path, encoder: Path, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "parts"
    progress = StopsAtGrid(out)
    with pytest.raises(KeyboardInterrupt):
        train(photos, out, encoder=str(encoder), progress=progress, **TINY | {"sample_grids": grids})
    assert progress.saved == [grids == 1]  # the last grid is drawn of a model that is safe
    assert not any(path.is_file() for path in (out / "samples").glob("**/*"))
    assert load_model(out).config.training.images_seen == images
    if images < SEEN:
        train(photos, out, encoder=str(encoder), resume=True, **TINY)
    assert same_state(trained, out)


def test_images_that_a_chosen_encoder_does_not_know_are_told(photos: Path, tmp_path: Path) -> None:
    folder = encoder_factory.small_pair(tmp_path / "encoder")
    known = load_encoder(str(folder)).encode_images([Image.new("RGB", (32, 32), "red")])
    save_file({"reference": -known}, folder / DOMAIN, {"neighbours": "1", "threshold": "0.9"})
    first, resumed, continued = Remembers(), Remembers(), Remembers()
    model = train(photos, tmp_path / "model", encoder=str(folder), progress=first, **TINY)
    train(photos, model, resume=True, images=SEEN + 4, progress=resumed)
    train(photos, tmp_path / "other", start_from=model, images=SEEN, sample_grids=0, progress=continued)
    told = [any("unlike those that the encoder" in line for line in one.said) for one in (first, resumed, continued)]
    assert told == [True, False, True]


def test_a_larger_figure_lengthens_a_finished_training(photos: Path, trained: Path) -> None:
    train(photos, trained, resume=True, images=40)
    assert load_config(trained).training.images_seen == 40


def test_the_other_limit_lengthens_a_finished_training(
    photos: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("captionless.training.rehearsal.SECONDS", 0.01)
    out = train(photos, tmp_path / "model", encoder=str(encoder), **(TINY | {"images": None, "minutes": 1e-4}))
    seen = load_config(out).training.images_seen
    train(photos, out, resume=True, images=seen + 16)
    assert load_config(out).training.images_seen == seen + 16
    train(photos, out, resume=True, minutes=load_config(out).training.minutes + 0.02)  # recorded to 0.01
    assert load_config(out).training.images_seen > seen + 16
    assert load_config(out).training.settings["images"] is None


def test_the_files_of_another_training_of_the_same_shape_are_refused(
    photos: Path, encoder: Path, trained: Path, tmp_path: Path
) -> None:
    one, two = trained, train(photos, tmp_path / "other", encoder=str(encoder), seed=1, **TINY)
    for name, read in ((WEIGHTS, load_model), (BANK, load_model), (STATE, partial(train, photos, resume=True))):
        before = (one / name).read_bytes()
        (one / name).write_bytes((two / name).read_bytes())
        with pytest.raises(CaptionlessError, match="belongs to another model"):
            read(one)
        (one / name).write_bytes(before)
    load_model(one)


def test_resuming_where_nothing_is_yet_starts_at_the_beginning(photos: Path, encoder: Path, tmp_path: Path) -> None:
    out = train(photos, tmp_path / "model", encoder=str(encoder), resume=True, **TINY)
    assert load_config(out).training.images_seen == SEEN


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({}, "already contains a model"),
        ({"resume": True, "size": 16}, "`size=16` conflicts with"),
        ({"resume": True, "start_from": "bundled"}, "started without `start_from`"),
        ({"resume": True, "encoder": "OTHER"}, "was trained with the encoder"),
    ],
)
def test_a_model_is_not_overwritten_or_resumed_as_another(
    photos: Path, encoder: Path, trained: Path, tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    before = state_tensors(trained)
    if changes.get("encoder") == "OTHER":
        other = encoder_factory.copy(encoder, tmp_path / "other")
        encoder_factory.edit_weights(other, lambda tensors: tensors["visual_projection.weight"].add_(1))
        changes = changes | {"encoder": str(other)}
    with pytest.raises(CaptionlessError, match=complaint):
        train(photos, trained, **changes)
    assert all(torch.equal(before[name], tensor) for name, tensor in state_tensors(trained).items())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name", ["README.md", "CREDITS.csv", "model.safetensors", "images-report.csv", "samples/1.png"]
)
@pytest.mark.parametrize("kind", ["file", "dangling link"])
@pytest.mark.parametrize("more", [{}, {"resume": True}, {"base_size": 4}], ids=["new", "resumed", "cascade"])
def test_files_of_others_are_not_replaced(
    photos: Path, encoder: Path, tmp_path: Path, name: str, kind: str, more: dict[str, Any]
) -> None:
    out = tmp_path / "mine"
    (out / name).parent.mkdir(parents=True)
    if kind == "file":
        (out / name).write_text("mine")
    else:
        (out / name).symlink_to("elsewhere")
    with pytest.raises(CaptionlessError, match=rf"would replace: {name}"):
        train(photos, out, encoder=str(encoder), **(TINY | more))
    assert [path.relative_to(out).as_posix() for path in out.rglob("*.*")] == [name]
    assert (out / name).is_symlink() or (out / name).read_text() == "mine"


def test_a_run_that_was_killed_before_its_first_checkpoint_is_begun_again(
    photos: Path, encoder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    with lock_checkpoints(out):  # what it wrote is its own
        (out / "README.md").write_text("half a model")
    train(photos, out, encoder=str(encoder), **TINY)
    assert load_model(out).config.training.images_seen == SEEN


def test_a_training_that_was_begun_before_another_had_written_does_not_train_over_it(
    photos: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model"
    written: dict[str, bytes] = {}

    def another_is_faster(folder: Path) -> AbstractContextManager[None]:
        monkeypatch.undo()
        monkeypatch.setenv("CAPTIONLESS_CACHE", str(tmp_path / "cache"))
        train(photos, folder, encoder=str(encoder), **TINY)
        written.update(contents(folder))
        return lock_checkpoints(folder)

    monkeypatch.setattr("captionless.training.run.lock_checkpoints", another_is_faster)
    with pytest.raises(CaptionlessError, match="already contains a model"):
        train(photos, out, encoder=str(encoder), **(TINY | {"seed": 7}))
    assert contents(out) == written


def test_a_refused_resume_leaves_every_file_as_it_was(
    photos: Path, encoder: Path, trained: Path, tmp_path: Path
) -> None:
    before = contents(trained)
    other = save_photos(tmp_path / "other")
    (other / "rose" / "1.png").unlink()
    with pytest.raises(CaptionlessError, match="have changed"):
        train(other, trained, encoder=str(encoder), resume=True, images=40)
    assert contents(trained) == before


def test_where_no_lock_is_to_be_had_training_goes_on_with_a_remark(
    photos: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refused)
    with pytest.warns(UserWarning, match="cannot be locked"):
        out = train(photos, tmp_path / "model", encoder=str(encoder), **TINY)
    assert load_model(out).config.training.images_seen == SEEN


def test_a_disk_that_is_full_for_a_while_ends_no_training(
    photos: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def full(folder: Path, state: TrainState, *_: object) -> None:
        tries.append(state.images_seen)
        if state.images_seen < 8:
            raise CaptionlessError("No space left on device.", code="cannot_write")
        save_state(folder, state, *_)

    monkeypatch.setattr("captionless.training.checkpointer.save_state", full)
    with pytest.warns(UserWarning, match="No space left on device. Training goes on"):
        out = train(photos, tmp_path / "model", encoder=str(encoder), checkpoint_minutes=1e-9, **TINY)
    assert tries == [4, 8, 12]
    assert load_model(out).config.training.images_seen == SEEN


def test_credits_are_not_followed_through_a_link(photos: Path, encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "private.csv").write_text("file,password\ndaisy/0.png,secret\n")
    (photos / "CREDITS.csv").unlink()
    (photos / "CREDITS.csv").symlink_to(tmp_path / "private.csv")
    with pytest.warns(UserWarning, match="is a link"):
        out = train(photos, tmp_path / "model", encoder=str(encoder), **TINY)
    assert not any(b"secret" in data for data in contents(out).values())


def test_credits_of_any_length_are_kept_whole(photos: Path, encoder: Path, tmp_path: Path) -> None:
    long = "Ada, " * 200_000 + '"the\nfirst"'
    rows = [["file", "photographer"], ["daisy/0.png", long], ["elsewhere/9.png", "Bob"]]
    with (photos / "CREDITS.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    usual = csv.field_size_limit()
    out = train(photos, tmp_path / "model", encoder=str(encoder), **TINY)
    assert csv.field_size_limit() == usual
    csv.field_size_limit(2_000_000)
    try:
        with (out / "CREDITS.csv").open(newline="") as file:
            assert list(csv.reader(file)) == rows[:2]
    finally:
        csv.field_size_limit(usual)


def test_credits_that_cannot_be_read_are_a_remark(
    photos: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("captionless.checkpoints.card.read_text", refused)
    with pytest.warns(UserWarning, match=r"the CREDITS\.csv of .*photos cannot be read .*Permission denied"):
        out = train(photos, tmp_path / "model", encoder=str(encoder), **TINY)
    assert not (out / "CREDITS.csv").exists()


def test_a_changed_folder_is_not_resumed(photos: Path, trained: Path) -> None:
    (photos / "rose" / "1.png").unlink()
    with pytest.raises(CaptionlessError, match="1 removed, 0 added"):
        train(photos, trained, resume=True, images=40)


@pytest.mark.slow
def test_renamed_images_do_not_disturb_a_resume(photos: Path, encoder: Path, tmp_path: Path) -> None:
    whole = train(photos, tmp_path / "whole", encoder=str(encoder), **TINY)
    with pytest.raises(KeyboardInterrupt):
        train(photos, tmp_path / "parts", encoder=str(encoder), progress=StopsAt(300), **TINY)
    (photos / "rose" / "1.png").rename(photos / "rose" / "zz.png")
    parts = train(photos, tmp_path / "parts", resume=True)
    assert same_state(whole, parts)


def test_other_vectors_than_it_was_begun_with_are_refused(
    photos: Path, encoder: Path, trained: Path, tmp_path: Path
) -> None:
    embedded = embed(photos, load_encoder(str(encoder)))
    write_vectors(tmp_path / "clip.csv", embedded.names, np.roll(embedded.vectors, 1, axis=1))
    with pytest.raises(CaptionlessError, match="vectors differ"):
        train(photos, trained, resume=True, images=40, vectors=tmp_path / "clip.csv")


def test_without_its_training_state_a_model_is_not_resumed(photos: Path, trained: Path) -> None:
    shutil.rmtree(trained / "training")
    with pytest.raises(CaptionlessError, match=r"cannot be resumed.*start_from"):
        train(photos, trained, resume=True, images=40)


def test_a_model_folder_inside_the_images_is_refused(photos: Path, encoder: Path) -> None:
    with pytest.raises(CaptionlessError, match="is inside"):
        train(photos, photos / "model", encoder=str(encoder), **TINY)


def test_two_trainings_do_not_write_to_one_folder(photos: Path, encoder: Path, tmp_path: Path) -> None:
    with lock_checkpoints(tmp_path / "model"), pytest.raises(CaptionlessError, match="another training"):
        train(photos, tmp_path / "model", encoder=str(encoder), **TINY)


def test_files_that_came_while_a_training_was_planned_are_not_replaced(tmp_path: Path) -> None:
    lock = FileLock.acquire

    def late(self: FileLock, *arguments: Any, **more: Any) -> Any:
        (tmp_path / "README.md").write_text("mine")
        return lock(self, *arguments, **more)

    for _ in range(2):  # what the first left behind is no proof that the files are those of a training
        with (
            patch.object(FileLock, "acquire", late),
            pytest.raises(CaptionlessError, match="has files that training would replace: README"),
            lock_checkpoints(tmp_path),
        ):
            pytest.fail("it would have trained")
    assert (tmp_path / "README.md").read_text() == "mine"


@pytest.mark.parametrize("more", [{}, {"resume": True}])
def test_a_config_that_is_a_folder_is_named(photos: Path, tmp_path: Path, more: dict[str, bool]) -> None:
    (tmp_path / "model" / "config.json").mkdir(parents=True)
    with pytest.raises(CaptionlessError, match=r"config\.json is damaged .+ \(it is a folder, not a file\)"):
        train(photos, tmp_path / "model", classes=True, **TINY, **more)


def test_a_colour_model_does_not_start_a_grey_one(photos: Path, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(CaptionlessError, match=r"grey.* conflicts with"):
        train(photos, tmp_path / "second", start_from=trained, grey=True)


def test_the_credits_of_the_model_begun_from_are_kept(photos: Path, trained: Path, tmp_path: Path) -> None:
    second = train(photos / "rose", tmp_path / "second", start_from=trained, images=4)
    assert "Ada" in (second / "CREDITS-begun-from.csv").read_text()
    assert "CREDITS-begun-from.csv" in (second / "README.md").read_text()


@pytest.mark.slow
def test_starting_from_a_model_takes_its_weights_and_encoder_and_may_grow(
    photos: Path, encoder: Path, tmp_path: Path
) -> None:
    first = train(photos, tmp_path / "first", encoder=str(encoder), **(TINY | {"width": 32}))
    # No step has been taken when the interruption comes, but one batch: the weights are still nearly the first's.
    with pytest.raises(KeyboardInterrupt):
        train(
            photos,
            tmp_path / "grown",
            start_from=first,
            progress=StopsAt(1),
            **(TINY | {"size": 16, "width": 64, "learning_rate": 1e-9}),
        )
    grown, small = load_model(tmp_path / "grown"), load_model(first)
    assert (grown.config.size, grown.config.denoiser.width) == (16, 64)
    assert grown.config.encoder == small.config.encoder
    stem = state_tensors(tmp_path / "grown")["network.stem.weight"][:32]
    torch.testing.assert_close(stem, small.denoiser.state_dict()["stem.weight"], atol=1e-4, rtol=1e-3)


def test_crops_may_begin_and_end_with_a_new_run_and_a_resumed_one_keeps_them(
    photos: Path, trained: Path, tmp_path: Path
) -> None:
    begun = train(photos, tmp_path / "begun", start_from=trained, crop=0.6, **TINY)
    whole = train(photos, tmp_path / "whole", start_from=begun, **TINY)
    assert [load_config(one).denoiser.crops for one in (trained, begun, whole)] == [False, True, True]
    layer = "embedding.crop.weight"
    told = load_model(begun).denoiser.state_dict()[layer]
    assert told.any(0).all()  # of size and both places
    assert torch.equal(load_model(whole).denoiser.state_dict()[layer], told)  # nobody was told of crops
    (image,) = Generator(load_model(begun)).generate(["a daisy"], sampling=SamplingConfig(steps=2))
    assert image.image.size == (8, 8)
    with pytest.raises(CaptionlessError, match=r"`crop=0\.7` conflicts"):
        train(photos, begun, resume=True, crop=0.7)
    longer = train(photos, begun, resume=True, images=24)
    assert load_config(longer).training.settings["crop"] == 0.6


def test_a_size_that_does_not_divide_is_refused_with_one_that_does(photos: Path, encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(CaptionlessError, match=r"multiple of 4, not 10\. Try `size=8`"):
        train(photos, tmp_path / "model", encoder=str(encoder), **(TINY | {"size": 10}))
    assert not (tmp_path / "model" / "config.json").exists()


def test_precomputed_vectors_are_used_and_need_their_encoder_named(photos: Path, encoder: Path, tmp_path: Path) -> None:
    embedded = embed(photos, load_encoder(str(encoder)))
    turned = np.roll(embedded.vectors, 1, axis=1)  # unmistakably not what the encoder would say
    write_vectors(tmp_path / "clip.csv", embedded.names, turned)
    with pytest.raises(CaptionlessError, match="Pass the encoder that computed them"):
        train(photos, tmp_path / "model", vectors=tmp_path / "clip.csv", **TINY)
    out = train(photos, tmp_path / "model", vectors=tmp_path / "clip.csv", encoder=str(encoder), **TINY)
    bank, rolled = load_model(out).bank, torch.from_numpy(turned)
    assert float((bank @ rolled.T).max(dim=1).values.min()) > 0.999


@pytest.mark.slow
def test_sheets_show_the_prompts_asked_for_else_the_folders_else_images_beside_originals(
    photos: Path, encoder: Path, tmp_path: Path
) -> None:
    def height(out: Path) -> tuple[int, int]:
        with Image.open(out / "samples" / "000000012.png") as sheet:
            return sheet.size

    one = train(photos, tmp_path / "one", encoder=str(encoder), sample_prompts=["a"], **WITH_GRID)
    two = train(photos, tmp_path / "two", encoder=str(encoder), **WITH_GRID)
    flat = train(photos / "daisy", tmp_path / "flat", encoder=str(encoder), **WITH_GRID)
    assert height(one)[1] < height(two)[1] < height(flat)[1]
    assert height(flat)[0] > height(two)[0]  # one column more: the originals


def test_an_encoder_named_by_a_relative_folder_is_found_from_elsewhere(
    photos: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(encoder.parent)
    out = train(photos, tmp_path / "model", encoder=encoder.name, **TINY)
    monkeypatch.chdir(tmp_path)
    assert Generator(load_model(out)).generate(["a daisy"], sampling=SamplingConfig(steps=1))


def test_grey_images_make_a_grey_model(photos: Path, encoder: Path, tmp_path: Path) -> None:
    out = train(photos, tmp_path / "model", encoder=str(encoder), grey=True, **TINY)
    (image,) = Generator(load_model(out)).generate(["a daisy"], sampling=SamplingConfig(steps=1))
    assert image.image.mode == "L"


def test_holding_out_everything_is_refused(photos: Path, encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(CaptionlessError, match="none are left for training"):
        train(photos / "daisy", tmp_path / "model", encoder=str(encoder), hold_out=0.9999, **TINY)


@pytest.mark.slow
def test_a_tensorboard_log_is_written_if_wanted(photos: Path, encoder: Path, tmp_path: Path) -> None:
    out = train(photos, tmp_path / "model", encoder=str(encoder), track="tensorboard", **(TINY | {"images": 88}))
    assert list((out / "log").rglob("events*"))


def test_transparent_and_small_images_are_told_and_shown_on_the_background_that_the_model_records(
    encoder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "sprites"
    folder.mkdir()
    for i in range(4):
        sprite = Image.new("RGBA", (4, 4), (40 * i, 0, 0, 255))
        sprite.putpixel((0, 0), (0, 0, 0, 0))
        sprite.save(folder / f"{i}.png")
    zoo.noise(6).save(folder / "photograph.png")
    progress = Remembers()
    out = train(folder, tmp_path / "model", encoder=str(encoder), background="#00ff00", progress=progress, **TINY)
    assert "  4 images are partly transparent, shown on #00ff00 (`background` sets another)." in progress.said
    assert "  4 images are pixel art smaller than 8 px, enlarged by a whole factor." in progress.said
    assert "  1 image is smaller than 8 px, enlarged smoothly." in progress.said
    assert load_config(out).training.settings["background"] == "#00ff00"
    plan = resolve(TrainRequest(folder=folder, out=out, resume=True), {}, print)
    train_images = load_dataset(plan, Silent(), torch.device("cpu")).train
    corner = train_images.pixels[[name.endswith("0.png") for name in train_images.names], :, 0, 0]
    assert corner.tolist() == [[0, 255, 0]]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux, which lists what is mapped")
def test_training_reads_squares_from_mapped_memory(photos: Path, encoder: Path, tmp_path: Path) -> None:
    plan = resolve(
        TrainRequest(folder=photos, out=tmp_path / "model", encoder=str(encoder)), {"size": 8, "hold_out": 0.4}, print
    )
    dataset = load_dataset(plan, Silent(), torch.device("cpu"))
    maps = [line.split() for line in Path("/proc/self/maps").read_text("utf-8").splitlines() if "arrays-1" in line]
    ranges = [[int(address, 16) for address in line[0].split("-")] for line in maps]
    for examples in (dataset.train, dataset.held_out):
        assert len(examples.pixels)
        assert any(start <= examples.pixels.data_ptr() < end for start, end in ranges)
