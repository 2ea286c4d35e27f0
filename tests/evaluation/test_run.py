"""The verb `evaluate`, from models and a folder to a report, with tiny models and a tiny encoder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import encoder_factory
from captionless.checkpoints.image_list import read_image_list
from captionless.checkpoints.model import BANK, load_model
from captionless.checkpoints.tensors import save_tensors
from captionless.config.sampling import SamplingConfig
from captionless.errors import CaptionlessError
from captionless.evaluation.report.page import parts
from captionless.evaluation.report.results import ModelEvaluation, Section
from captionless.evaluation.run import evaluate
from captionless.evaluation.sections.text_alignment import NO_PROMPTS
from captionless.progress import Silent
from captionless.training.run import train
from evaluation_cases import TINY, build_place, make_fast, sample_photos, small_config

FAST = SamplingConfig(steps=1, precision="float32")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_place(tmp_path_factory.mktemp("evaluate"))


@pytest.fixture(autouse=True)
def fast(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_fast(monkeypatch, place)


@pytest.fixture
def measured(place: Path, tmp_path: Path) -> Callable[..., ModelEvaluation]:
    def call(model: Path | None = None, **options: Any) -> ModelEvaluation:
        config = small_config(**{name: options.pop(name) for name in ("samples", "seed") if name in options})
        options = {"data": place / "photos", "out": tmp_path / "report", "sampling": FAST, "config": config, **options}
        return evaluate(model or place / "model", **options).models[0]

    return call


def section(found: ModelEvaluation, key: str) -> Section:
    return next(one for one in found.sections if one.key == key)


def test_everything_is_measured_with_its_range_and_written_down(
    measured: Callable[..., ModelEvaluation], tmp_path: Path
) -> None:
    found = measured()
    held_out = [row for row in read_image_list(Path(found.model)) if row[2] == "held out"]
    keys = {"cosine_gain", "r_precision", "recognised", "kid", "cmmd", "memorised", "memorised_own"}
    assert keys <= set(found.figures)
    assert found.figures["kid"].value.low < found.figures["kid"].value.high
    assert found.figures["kid"].value.n == len(held_out)
    assert (tmp_path / "report" / "index.html").read_text().startswith("<!doctype html>")
    written = json.loads((tmp_path / "report" / "report.json").read_text())
    assert set(written["models"][0]["figures"]) == set(found.figures)
    assert "--data" in written["command"]
    assert not found.warnings


def test_the_model_card_gets_the_figures(measured: Callable[..., ModelEvaluation], place: Path, tmp_path: Path) -> None:
    model = shutil.copytree(place / "model", tmp_path / "model")
    measured(model)
    card = (model / "README.md").read_text()
    assert "## Evaluation" in card
    assert "KID" in card
    measured(model)
    assert (model / "README.md").read_text().count("## Evaluation") == 1


def test_the_same_evaluation_gives_the_same_figures(measured: Callable[..., ModelEvaluation]) -> None:
    one, other = measured(), measured()
    assert one.figures == other.figures


def test_real_images_stand_beside_what_their_labels_ask_for(
    measured: Callable[..., ModelEvaluation], tmp_path: Path
) -> None:
    labelled = measured(samples=21)
    for key in ("cosine_gain", "r_precision"):
        real = labelled.figures[key].real
        assert real is not None
        assert real.n == 21
        assert "Beside it" in labelled.figures[key].explanation
    (tmp_path / "p.jsonl").write_text('{"prompt": "a red rose", "label": "rose"}\n{"prompt": "a white daisy"}\n')
    asked = measured(prompts=tmp_path / "p.jsonl")
    assert asked.figures["cosine_gain"].real is None
    assert "Beside it" not in asked.figures["cosine_gain"].explanation


def test_a_figure_that_samples_cut_off_names_samples(measured: Callable[..., ModelEvaluation]) -> None:
    missing = dict(section(measured(samples=10), "fidelity").missing)
    assert "raise --samples to 20 or more" in missing["Fidelity and diversity"]


def test_words_of_a_file_are_asked_for(measured: Callable[..., ModelEvaluation], tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(
        '{"prompt": "a red rose", "label": "rose"}\n{"prompt": "a white daisy"}\n{"prompt": "a field"}\n'
    )
    found = measured(prompts=prompts)
    assert found.figures["recognised"].value.n == 8  # only one of the three says what it shows
    assert found.figures["r_precision"].label.endswith("out of 3")
    assert str(prompts) in section(found, "text_alignment").notes[0]


def test_prompts_without_labels_leave_the_classifier_out_with_its_reason(
    measured: Callable[..., ModelEvaluation], tmp_path: Path
) -> None:
    (tmp_path / "prompts.txt").write_text("a red rose\na white daisy\n")
    found = measured(prompts=tmp_path / "prompts.txt")
    assert "recognised" not in found.figures
    assert ("Recognised as asked", "the prompts have no labels") in section(found, "text_alignment").missing


def test_labels_that_the_folder_does_not_have_are_named(
    measured: Callable[..., ModelEvaluation], tmp_path: Path
) -> None:
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"prompt": "a cat", "label": "cat"}\n{"prompt": "a rose", "label": "rose"}\n')
    missing = dict(section(measured(prompts=prompts), "text_alignment").missing)
    assert missing["Recognised as asked, for cat"].startswith("the folder has no such label")
    prompts.write_text('{"prompt": "a cat", "label": "cat"}\n{"prompt": "a dog", "label": "dog"}\n')
    missing = dict(section(measured(prompts=prompts), "text_alignment").missing)
    assert missing["Recognised as asked"].endswith("or none, labelled cat, dog; its labels are daisy, rose")


def test_without_prompts_and_sub_folders_words_are_left_out(
    measured: Callable[..., ModelEvaluation], place: Path, tmp_path: Path
) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in (place / "photos").rglob("*.png"):
        shutil.copy(path, flat)
    found = measured(data=flat)
    assert section(found, "text_alignment").missing[0][1] == NO_PROMPTS
    assert "kid" in found.figures


def test_a_folder_that_was_trained_on_as_a_whole_brings_a_warning(
    measured: Callable[..., ModelEvaluation], place: Path, tmp_path: Path
) -> None:
    model = train(place / "photos", tmp_path / "whole", encoder=str(place / "encoder"), **TINY)
    found = measured(model)
    assert "trained on every image of this folder" in found.warnings[0]
    assert found.figures["memorised_own"].real is None
    assert found.figures["kid"].value.n == 60


def test_a_folder_of_strange_images_is_all_held_out_and_copies_are_looked_for_in_features(
    measured: Callable[..., ModelEvaluation], tmp_path: Path
) -> None:
    found = measured(data=sample_photos(tmp_path / "new", 24, seed=1))
    assert found.figures["kid"].value.n == 24
    assert "proves nothing" in section(found, "memorisation").notes[0]


def test_too_few_images_leave_out_what_needs_more_and_say_how_many(
    measured: Callable[..., ModelEvaluation], tmp_path: Path
) -> None:
    found = measured(data=sample_photos(tmp_path / "few", 12, seed=1))
    assert "at least 20 pictures, and there are 12" in dict(section(found, "fidelity").missing).popitem()[1]
    assert "cosine_gain" in found.figures


def test_where_nothing_can_be_measured_all_reasons_are_given(
    measured: Callable[..., ModelEvaluation], place: Path, tmp_path: Path
) -> None:
    one = tmp_path / "one"
    one.mkdir()
    picture = next((place / "photos").rglob("*.png"))
    shutil.copy(picture, one)
    model = shutil.copytree(place / "model", tmp_path / "model")
    rows = [row for row in (model / "pictures.csv").read_text().splitlines() if "train" not in row]
    (model / "pictures.csv").write_text("\n".join(rows) + "\n")
    save_tensors(model / BANK, {"vectors": torch.ones(1, load_model(model).bank.shape[1])})
    with pytest.raises(CaptionlessError, match=r"nothing could be measured: .*at least 20 pictures, and there are 1"):
        measured(model, data=one)


# --- several models, classes ---


def test_two_models_are_measured_on_images_that_neither_has_seen(place: Path, tmp_path: Path) -> None:
    fifty = tmp_path / "photos"
    shutil.copytree(place / "photos", fifty)
    sample_photos(fifty, 60, seed=5)
    other = train(sample_photos(tmp_path / "other", 30, seed=5), tmp_path / "b", encoder=str(place / "encoder"), **TINY)
    report = evaluate([place / "model", other], data=fifty, out=tmp_path / "r", sampling=FAST, config=small_config())
    one, two = report.models
    trained = sum(row[2] == "train" for row in read_image_list(place / "model"))
    assert one.figures["kid"].value.n == two.figures["kid"].value.n == 120 - trained - 30
    assert one.figures["kid"].real == two.figures["kid"].real
    assert one.figures["recognised"].real == two.figures["recognised"].real


def test_models_that_have_too_little_unseen_in_common_say_so(place: Path, tmp_path: Path) -> None:
    other = train(place / "photos", tmp_path / "b", encoder=str(place / "encoder"), **TINY)
    report = evaluate(
        [place / "model", other], data=place / "photos", out=tmp_path / "r", sampling=FAST, config=small_config()
    )
    assert all("Only 0 images were used to train none of these models" in one.warnings[-1] for one in report.models)


def test_a_model_of_classes_is_measured_without_words(place: Path, tmp_path: Path) -> None:
    model = train(place / "photos", tmp_path / "classes", classes=True, hold_out=0.5, **TINY)
    report = evaluate(model, data=place / "photos", out=tmp_path / "r", sampling=FAST, config=small_config())
    (found,) = report.models
    assert {"recognised", "kid", "memorised"} <= set(found.figures)
    assert dict(section(found, "text_alignment").missing)["Cosine with the prompt, R-precision"].startswith(
        "the model generates"
    )
    assert "independent of the model" in section(found, "fidelity").notes[0]


def test_a_model_of_classes_says_that_it_was_not_asked_for_prompts(place: Path, tmp_path: Path) -> None:
    model = train(place / "photos", tmp_path / "classes", classes=True, hold_out=0.5, **TINY)
    (tmp_path / "p.txt").write_text("a rose\n")
    options: dict[str, Any] = {
        "data": place / "photos",
        "out": tmp_path / "r",
        "sampling": FAST,
        "config": small_config(),
    }
    (found,) = evaluate(model, prompts=tmp_path / "p.txt", **options).models
    assert "evaluated on those and not on the prompts" in found.warnings[0]


def test_a_model_of_a_table_of_labels_knows_them_again(place: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    rows = ["file,label"]
    for path in sorted((place / "photos").rglob("*.png")):
        shutil.copy(path, flat)
        rows.append(f"{path.name},{path.parent.name}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    model = train(flat, tmp_path / "m", labels=tmp_path / "labels.csv", hold_out=0.5, **TINY)
    (found,) = evaluate(model, data=flat, out=tmp_path / "r", sampling=FAST, config=small_config()).models
    assert {"recognised", "kid"} <= set(found.figures)


def test_models_of_other_encoders_and_sizes_are_not_compared_without_a_word(place: Path, tmp_path: Path) -> None:
    clip = encoder_factory.small_clip(tmp_path / "clip")
    options = {**TINY, "size": 16}
    other = train(place / "photos", tmp_path / "b", encoder=str(clip), hold_out=0.5, **options)
    both = [place / "model", other]
    report = evaluate(both, data=place / "photos", out=tmp_path / "r", sampling=FAST, config=small_config())
    told = " ".join(report.models[0].warnings)
    assert "Choose one for all with `features`" in told
    assert "the smaller has the easier task" in told
    marks = [row.name for part in parts(report) for block in part.blocks for row in block.rows if row.kind == "mark"]
    assert len(marks) == len(set(marks)) == 6
    told = " ".join(
        evaluate(
            both, data=place / "photos", out=tmp_path / "s", sampling=FAST, config=small_config(), features=str(clip)
        )
        .models[0]
        .warnings
    )
    assert "`features`" not in told


def test_a_sub_folder_of_too_few_images_does_not_stop_the_classifier(
    measured: Callable[..., ModelEvaluation], place: Path, tmp_path: Path
) -> None:
    more = shutil.copytree(place / "photos", tmp_path / "more")
    (more / "misc").mkdir()
    Image.new("RGB", (9, 9), "blue").save(more / "misc" / "1.png")
    found = measured(data=more)
    assert "recognised" in found.figures
    assert any("for misc" in what for what, _ in section(found, "text_alignment").missing)


def test_features_of_another_model_are_independent(measured: Callable[..., ModelEvaluation], place: Path) -> None:
    own, other = measured(), measured(features=str(encoder_factory.small_clip(place / "clip")))
    assert "not independent" in section(own, "fidelity").notes[0]
    assert "(independent of the model)" in section(other, "fidelity").notes[0]
    assert own.figures["kid"].value != other.figures["kid"].value


# --- bad input ---


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"samples": 0}, "`samples` must be at least 1, not 0"),
        ({"data": "nowhere"}, "there is no folder nowhere"),
        ({"seed": 2**32}, "`seed` must be a whole number"),
        ({"out": "/proc/nowhere"}, "`out` /proc/nowhere cannot be written"),
        ({"prompts": "nowhere.txt"}, "cannot read --prompts nowhere.txt"),
        ({"features": "./nowhere"}, "neither a folder nor a hub id"),
        ({"labels": "nowhere.csv"}, "cannot read --labels nowhere.csv"),
    ],
)
def test_bad_input_is_named(options: dict[str, Any], said: str, measured: Callable[..., ModelEvaluation]) -> None:
    with pytest.raises(CaptionlessError, match=said):
        measured(**options)


def test_an_empty_folder_is_named(measured: Callable[..., ModelEvaluation], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CaptionlessError, match=r"there is no usable image in .*empty: it is empty\. Give"):
        measured(data=tmp_path / "empty")


def test_another_encoder_than_the_models_own_is_refused(
    measured: Callable[..., ModelEvaluation], tmp_path: Path
) -> None:
    other = encoder_factory.small_clip(tmp_path / "clip")
    with pytest.raises(CaptionlessError, match="was trained with the encoder"):
        measured(encoder=str(other))


def test_the_same_model_twice_is_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(CaptionlessError, match="each only once"):
        evaluate([place / "model"] * 2, data=place / "photos", out=tmp_path / "r")


def test_a_report_does_not_replace_a_file(measured: Callable[..., ModelEvaluation], tmp_path: Path) -> None:
    (tmp_path / "report").write_text("mine")
    with pytest.raises(CaptionlessError, match="is a file"):
        measured()


def test_a_model_card_that_cannot_be_written_is_told_of_and_nothing_else_is_lost(
    measured: Callable[..., ModelEvaluation], place: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(place / "model", tmp_path / "model")
    (model / "README.md").unlink()
    (model / "README.md").mkdir()
    progress = Remembers()
    assert measured(model, progress=progress).figures
    assert any("not added to the model card" in text for text in progress.said)
    assert (tmp_path / "report" / "report.json").is_file()


class Remembers(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)
