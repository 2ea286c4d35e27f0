"""The contract of training.labelled_dataset: which pictures a training on classes learns from, and as what."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import encoder_factory
import tiny
from captionless.checkpoints.config import TrainingRecord
from captionless.config.train_request import TrainRequest
from captionless.config.training import TrainConfig
from captionless.data.labels import FOLDERS
from captionless.errors import CaptionlessError
from captionless.training.dataset import Dataset
from captionless.training.labelled_dataset import load_labelled_dataset
from captionless.training.resolve import TrainPlan, resolve_label_source
from captionless.training.start import Start
from training_cases import Remembers

CONFIG = TrainConfig(size=8, width=16)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six pictures in two sub-folders, one beside them, and a sub-folder without dataset."""
    folder = tmp_path / "photos"
    names = ["daisy/0.png", "daisy/2.png", "daisy/deep/4.png", "rose/1.png", "rose/3.png", "rose/5.png", "cover.png"]
    for name, image in zip(names, encoder_factory.pictures(7), strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    (folder / "notes").mkdir()
    (folder / "notes" / "read.txt").write_text("no picture")
    return folder


def gather(folder: Path, source: str = FOLDERS, progress: Remembers | None = None, **changes: Any) -> Dataset:
    start = Start(changes.pop("before", None))
    plan = TrainPlan(TrainRequest(folder=folder, out=folder.parent / "out"), start, CONFIG.replace(**changes), source)
    return load_labelled_dataset(plan, progress or Remembers())


def test_conditions_are_one_hot_and_classes_in_order(photos: Path) -> None:
    dataset = gather(photos)
    assert dataset.classes == ("daisy", "rose")
    assert dataset.train.conditions.tolist() == [[1, 0]] * 3 + [[0, 1]] * 3
    assert dataset.labels(dataset.train) == ["daisy"] * 3 + ["rose"] * 3
    assert (dataset.condition_width, dataset.encoder) == (2, None)
    assert dataset.class_counts() == {"daisy": 3, "rose": 3}


def test_a_image_without_a_label_is_skipped_told_and_reported(photos: Path) -> None:
    progress = Remembers()
    dataset = gather(photos, progress=progress)
    assert "cover.png" not in dataset.train.names
    assert any("1 images skipped (no label" in said and "cover.png" in said for said in progress.said)
    report = (photos.parent / "out" / "images-report.csv").read_text()
    assert "cover.png,skipped,no label: the image is not in a sub-folder" in report
    assert "notes/read.txt,skipped,not an image" in report


def test_the_classes_are_told_with_how_many_images_they_have(photos: Path) -> None:
    progress = Remembers()
    gather(photos, progress=progress)
    assert "Classes from sub-folders: daisy 3, rose 3." in progress.said


def test_a_table_goes_before_sub_folders_and_what_it_names_in_vain_is_told(photos: Path) -> None:
    table = photos.parent / "labels.csv"
    table.write_text("file,label\n0.png,white\n1.png,red\n3.png,red\nlost.png,red\n")
    progress = Remembers()
    dataset = gather(photos, str(table), progress)
    assert dict(zip(dataset.train.names, dataset.labels(dataset.train), strict=True)) == {
        "daisy/0.png": "white",
        "rose/1.png": "red",
        "rose/3.png": "red",
    }
    told = "\n".join(progress.said)
    assert "1 lines of" in told
    assert "lost.png" in told
    assert "4 images skipped" in told


def test_identical_images_of_different_classes_count_once_as_the_first_and_are_told(photos: Path) -> None:
    shutil.copyfile(photos / "daisy" / "0.png", photos / "rose" / "0.png")
    progress = Remembers()
    dataset = gather(photos, progress=progress)
    assert "rose/0.png" not in dataset.train.names
    told = "\n".join(progress.said)
    assert "of different classes: daisy/0.png (daisy), rose/0.png (rose); used once, as daisy" in told


def test_of_identical_images_the_labelled_one_counts(photos: Path) -> None:
    shutil.copyfile(photos / "cover.png", photos / "rose" / "cover.png")
    assert "rose/cover.png" in gather(photos).train.names


def test_held_out_images_keep_their_label(photos: Path) -> None:
    dataset = gather(photos, hold_out=0.5)
    rows = dataset.image_list()
    assert {row[2] for row in rows} == {"train", "held out"}
    assert all(row[3] == row[0].split("/")[0] for row in rows)


def test_a_class_that_is_held_out_whole_is_refused(photos: Path) -> None:
    with pytest.raises(CaptionlessError, match=r"the class \w+ has no training images.*smaller `hold_out`"):
        gather(photos, hold_out=0.95)


def test_a_class_whose_images_all_belong_to_another_is_refused(photos: Path) -> None:
    (photos / "tulip").mkdir()
    shutil.copyfile(photos / "rose" / "1.png", photos / "tulip" / "1.png")
    with pytest.raises(CaptionlessError, match=r"the class tulip .* copies of images of another"):
        gather(photos)


def test_a_sub_folder_without_images_is_no_class(photos: Path) -> None:
    shutil.rmtree(photos / "rose")
    with pytest.raises(CaptionlessError, match=r"only one class \(daisy\)"):
        gather(photos)


def test_other_classes_than_those_of_the_model_begun_from_are_refused_and_listed(photos: Path) -> None:
    before = tiny.class_model(("daisy", "tulip")).config
    with pytest.raises(CaptionlessError, match=r"\(missing: tulip; new: .*rose\)\. The classes are: daisy, tulip\."):
        gather(photos, before=before)
    assert not (photos.parent / "out").exists()


def test_more_classes_than_those_of_the_model_begun_from_are_refused_too(photos: Path) -> None:
    (photos / "tulip").mkdir()
    encoder_factory.pictures(1, seed=9)[0].save(photos / "tulip" / "0.png")
    before = tiny.class_model(("daisy", "rose")).config
    with pytest.raises(CaptionlessError, match=r"\(new: tulip\)"):
        gather(photos, before=before)


# --- where labels come from ---


def source(start: Start, **given: Any) -> str | None:
    return resolve_label_source(TrainRequest(folder=Path(), out=Path(), **given), start)


def test_labels_come_from_the_table_else_from_sub_folders_else_there_are_none() -> None:
    assert source(Start(), classes=True, labels="x.csv") == "x.csv"
    assert source(Start(), labels=Path("x.csv")) == "x.csv"
    assert source(Start(), classes=True) == FOLDERS
    assert source(Start()) is None


def test_a_resumed_model_of_classes_takes_its_own_labels_again() -> None:
    config = tiny.class_model().config
    recorded = Start(replace(config, training=TrainingRecord(labels="/data/x.csv")), resumed=True)
    assert source(Start(config, resumed=True)) == FOLDERS
    assert source(recorded) == "/data/x.csv"
    assert source(recorded, classes=True) == FOLDERS
    assert source(replace(recorded, resumed=False)) is None


def test_a_model_of_words_is_not_resumed_with_classes() -> None:
    start = Start(tiny.model().config, resumed=True)
    with pytest.raises(CaptionlessError, match="which is text-conditional"):
        source(start, classes=True)
    assert source(replace(start, resumed=False), classes=True) == FOLDERS
