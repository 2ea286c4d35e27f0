"""What a model is measured against: which images it was trained on, and their labels."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tiny
from captionless.checkpoints.config import ModelConfig, TrainingRecord, load_config, model_folder, save_config
from captionless.checkpoints.image_list import write_image_list
from captionless.evaluation.data import EvaluationData, ImageSet, folder_labels
from captionless.evaluation.lineage import lineage, lineage_encoders, seen_digests, training_images


def write_model(folder: Path, rows: list[tuple[str, str, str]], initialised_from: Path | None = None) -> Path:
    """A model folder as far as its history goes."""
    folder.mkdir()
    config = tiny.model().config
    training = TrainingRecord(initialised_from=None if initialised_from is None else str(initialised_from))
    save_config(folder, ModelConfig(8, config.denoiser, config.encoder, training=training))
    if rows:
        write_image_list(folder, rows)
    return folder


def test_what_a_model_was_trained_on_is_seen_and_what_it_held_out_is_not(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m", [("a.png", "aa", "train"), ("b.png", "bb", "held out")])
    assert seen_digests(model) == ({"aa"}, ())


def test_what_the_models_it_was_initialised_from_were_trained_on_is_seen_too(tmp_path: Path) -> None:
    first = write_model(tmp_path / "first", [("a.png", "aa", "train"), ("c.png", "cc", "held out")])
    second = write_model(tmp_path / "second", [("b.png", "bb", "train")], first)
    third = write_model(tmp_path / "third", [("c.png", "cc", "train")], second)
    assert seen_digests(third) == ({"aa", "bb", "cc"}, ())


@pytest.mark.parametrize("remove", ["pictures.csv", "config.json"])
def test_an_ancestor_that_does_not_say_any_more_is_named(remove: str, tmp_path: Path) -> None:
    first = write_model(tmp_path / "first", [("a.png", "aa", "train")])
    second = write_model(tmp_path / "second", [("b.png", "bb", "train")], first)
    (first / remove).unlink()
    seen, unknown = seen_digests(second)
    assert "bb" in seen
    assert unknown == ((str(first),) if remove == "pictures.csv" else ())


def test_an_ancestor_that_is_gone_is_named(tmp_path: Path) -> None:
    second = write_model(tmp_path / "second", [("b.png", "bb", "train")], tmp_path / "gone")
    assert seen_digests(second) == ({"bb"}, (str(tmp_path / "gone"),))


def test_the_encoders_of_all_ancestors_are_encoder_digests(tmp_path: Path) -> None:
    first = write_model(tmp_path / "first", [])
    second = write_model(tmp_path / "second", [], first)
    assert lineage_encoders(second) == {"0" * 64}
    assert [name for name, _ in lineage(second)] == [str(second), str(first)]
    config = load_config(first)
    assert config.encoder is not None
    save_config(first, replace(config, encoder=replace(config.encoder, digest="1" * 64)))
    assert lineage_encoders(second) == {"0" * 64, "1" * 64}


def test_a_model_that_claims_to_descend_from_itself_is_read_once(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m", [("a.png", "aa", "train")], tmp_path / "m")
    assert seen_digests(model) == ({"aa"}, ())


def test_the_bundled_model_records_what_it_was_trained_on() -> None:
    seen, unknown = seen_digests("bundled")
    assert len(seen) > 2_000
    assert not unknown
    with (model_folder("bundled") / "pictures.csv").open(encoding="utf-8") as file:
        assert {row["sha256"] for row in csv.DictReader(file) if row["role"] != "held out"} == seen
    assert len(set(training_images("bundled").values())) == load_config("bundled").training.train_images


def test_a_copy_is_seen_but_is_not_one_more_image(tmp_path: Path) -> None:
    rows = [("a.png", "aa", "train"), ("b.png", "bb", "train"), ("c.png", "cc", "held out"), ("a.png", "a2", "copy")]
    model = write_model(tmp_path / "m", rows)
    assert seen_digests(model) == ({"aa", "bb", "a2"}, ())
    assert training_images(model) == {"aa": "aa", "bb": "bb", "a2": "aa"}
    assert folder_of("a2", "cc", own=training_images(model)).found == 1
    assert folder_of("a2", "aa", "bb", own=training_images(model)).found == 2
    assert folder_of(own=training_images(model)).trained_on == 2


def folder_of(*digests: str, own: dict[str, str]) -> EvaluationData:
    """A folder whose images of these digests a model was trained on, some of them in its own training."""
    n = len(digests)
    seen = ImageSet(digests, digests, torch.zeros(n, 3, 2, 2), torch.zeros(n, 2), (None,) * n)
    return EvaluationData(seen, seen.take([]), seen, own)


def test_labels_are_the_outermost_sub_folders() -> None:
    names = ["rose/1.jpg", "rose/deep/2.jpg", "daisy/3.jpg", "4.jpg"]
    assert folder_labels(names) == {"rose/1.jpg": "rose", "rose/deep/2.jpg": "rose", "daisy/3.jpg": "daisy"}


def test_the_parts_of_a_data_set_are_no_labels() -> None:
    names = ["train/rose/1.jpg", "train/daisy/2.jpg", "val/rose/3.jpg", "val/daisy/4.jpg"]
    assert set(folder_labels(names).values()) == {"rose", "daisy"}


@pytest.mark.parametrize(
    "names",
    [
        ["oak/leaf/1.jpg", "oak/bark/2.jpg", "fir/leaf/3.jpg"],  # not the same kinds
        ["oak/leaf/1.jpg", "fir/leaf/2.jpg"],  # nothing to tell apart
        ["oak/leaf/1.jpg", "oak/bark/2.jpg", "fir/leaf/3.jpg", "fir/bark/4.jpg", "fir/5.jpg"],
    ],
)
def test_folders_that_merely_look_like_parts_are_labels(names: list[str]) -> None:
    assert set(folder_labels(names).values()) == {"oak", "fir"}


def test_folders_called_like_parts_are_parts_even_where_a_kind_is_missing_in_one() -> None:
    names = ["Train/rose/1.jpg", "Train/daisy/2.jpg", "val/rose/3.jpg"]
    assert set(folder_labels(names).values()) == {"rose", "daisy"}


def test_a_folder_around_all_others_is_no_label() -> None:
    assert folder_labels(["flowers/rose/1.jpg", "flowers/daisy/2.jpg"]) == {
        "flowers/rose/1.jpg": "rose",
        "flowers/daisy/2.jpg": "daisy",
    }
    assert folder_labels(["rose/1.jpg", "rose/2.jpg"]) == {"rose/1.jpg": "rose", "rose/2.jpg": "rose"}


def test_taking_images_keeps_all_that_is_known_of_them_together() -> None:
    pixels = torch.arange(4 * 3 * 2 * 2).reshape(4, 3, 2, 2).to(torch.uint8)
    images = ImageSet(tuple("abcd"), ("1", "2", "3", "4"), pixels, tiny.unit_vectors(4), ("x", None, "y", "z"))
    two = images.take([3, 1])
    assert (two.names, two.digests, two.labels, len(two)) == (("d", "b"), ("4", "2"), ("z", None), 2)
    assert torch.equal(two.pixels, pixels[[3, 1]])
    assert torch.equal(two.conditions, images.conditions[[3, 1]])
    assert len(images.take([])) == 0
