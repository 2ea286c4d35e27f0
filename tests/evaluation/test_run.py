"""The verb `evaluate`, from models and a folder to a report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import encoder_factory
import tiny
from captionless.checkpoints.image_list import read_image_list, write_image_list
from captionless.checkpoints.model import BANK
from captionless.errors import CaptionlessError
from captionless.evaluation import one_model
from captionless.evaluation.context import EvaluationContext
from captionless.evaluation.report.page import charts
from captionless.evaluation.report.results import ModelEvaluation, Report, Section
from captionless.evaluation.run import evaluate
from captionless.evaluation.sections.text_alignment import NO_PROMPTS
from captionless.tensor_files import save_tensors
from evaluation_cases import FAST, Remembers, make_fast, sample_photos, small_config, write_model


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of photos, and a model whose record says that it was trained on about half of them."""
    root = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        make_fast(patch, root)
        write_model(root / "model", sample_photos(root / "photos", 100))
        yield root


def measure(model: Path | list[Path], data: Path, out: Path, **options: Any) -> Report:
    options = {"sampling": FAST, "config": small_config(), "encoder": tiny.FakeEncoder(), **options}
    return evaluate(model, data=data, out=out, **options)


@pytest.fixture(scope="module")
def plain(place: Path) -> ModelEvaluation:
    """The evaluation of a copy of the model on its folder, to be read only."""
    model = shutil.copytree(place / "model", place / "plain-model")
    return measure(model, place / "photos", place / "plain").models[0]


@pytest.fixture
def measured(place: Path, tmp_path: Path) -> Callable[..., ModelEvaluation]:
    def call(model: Path | None = None, data: Path | None = None, **options: Any) -> ModelEvaluation:
        options = {"config": small_config(), **options}
        return measure(model or place / "model", data or place / "photos", tmp_path / "report", **options).models[0]

    return call


def section(found: ModelEvaluation, key: str) -> Section:
    return next(one for one in found.sections if one.key == key)


def flattened(folder: Path, out: Path) -> Path:
    """Copy the files of a folder and its sub-folders into one without sub-folders."""
    out.mkdir()
    for path in folder.rglob("*.png"):
        shutil.copy(path, out)
    return out


def test_everything_is_measured_with_its_range_and_written_down(place: Path, plain: ModelEvaluation) -> None:
    keys = {"cosine_gain", "r_precision", "recognised", "kid", "cmmd", "precision", "memorised", "memorised_own"}
    assert keys <= set(plain.figures)
    assert plain.figures["kid"].value.low < plain.figures["kid"].value.high
    assert plain.figures["kid"].value.n == 50
    assert all(plain.figures[key].real is not None for key in keys)
    assert not plain.warnings
    page = (place / "plain" / "index.html").read_text()
    written = json.loads((place / "plain" / "report.json").read_text())
    assert page.startswith("<!doctype html>")
    assert set(written["models"][0]["figures"]) == set(plain.figures)


def test_the_verdict_is_the_same_in_page_card_and_json(place: Path, plain: ModelEvaluation) -> None:
    assert plain.memorises is False
    verdict = json.loads((place / "plain" / "report.json").read_text())["models"][0]["verdict"]
    for path in (place / "plain" / "index.html", place / "plain-model" / "README.md"):
        assert verdict in path.read_text()


def test_a_model_that_copies_its_training_images_is_flagged(
    place: Path, tmp_path: Path, measured: Callable[..., ModelEvaluation], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [name for name, _, role in read_image_list(place / "model") if role == "train"]
    images = [Image.open(place / "photos" / name).resize((8, 8), Image.Resampling.LANCZOS) for name in names]
    pixels = torch.stack([torch.tensor(list(one.tobytes())).reshape(8, 8, 3).permute(2, 0, 1) for one in images])

    def copies(_: EvaluationContext, conditions: torch.Tensor, __: int) -> torch.Tensor:
        return pixels[torch.arange(len(conditions)) % len(pixels)].flip(3).to(torch.uint8)

    monkeypatch.setattr(EvaluationContext, "sample_pixels", copies)
    found = measured(data=flattened(place / "photos", tmp_path / "flat"))
    assert found.memorises is True
    assert found.figures["memorised"].value.value > 0.9


def test_another_evaluation_gives_the_same_figures_and_takes_the_place_of_the_first_in_the_card(
    place: Path, tmp_path: Path, plain: ModelEvaluation
) -> None:
    model = place / "plain-model"
    again = measure(model, place / "photos", tmp_path, seed=0).models[0]
    assert again.figures == plain.figures
    card = (model / "README.md").read_text()
    assert card.count("## Evaluation") == 1
    assert "KID" in card


def test_prompts_of_a_file_are_asked_for(place: Path, tmp_path: Path, measured: Callable[..., ModelEvaluation]) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red rose\na white daisy\na field\n")
    found = measured(prompts=prompts)
    assert found.figures["r_precision"].label.endswith("out of 3")
    assert str(prompts) in section(found, "text_alignment").notes[0]


def test_without_prompts_and_sub_folders_text_alignment_is_left_out(
    place: Path, tmp_path: Path, measured: Callable[..., ModelEvaluation]
) -> None:
    found = measured(data=flattened(place / "photos", tmp_path / "flat"))
    assert section(found, "text_alignment").missing[0][1] == NO_PROMPTS
    assert "kid" in found.figures


def test_a_folder_that_was_trained_on_as_a_whole_brings_a_warning(
    place: Path, tmp_path: Path, measured: Callable[..., ModelEvaluation]
) -> None:
    model = write_model(tmp_path / "whole", place / "photos", trained=1)
    found = measured(model, flattened(place / "photos", tmp_path / "flat"))
    assert "trained on every image of this folder" in found.warnings[0]
    assert found.figures["memorised_own"].real is None
    assert found.figures["kid"].value.n == 100


def test_a_folder_of_other_images_is_all_held_out(tmp_path: Path, measured: Callable[..., ModelEvaluation]) -> None:
    data = flattened(sample_photos(tmp_path / "new", 24, seed=1), tmp_path / "flat")
    found = measured(data=data)
    assert found.figures["kid"].value.n == 24
    assert not section(found, "memorisation").figures
    assert found.memorises is None


def test_where_nothing_can_be_measured_all_reasons_are_given(
    place: Path, tmp_path: Path, measured: Callable[..., ModelEvaluation]
) -> None:
    (tmp_path / "one").mkdir()
    shutil.copy(next((place / "photos").rglob("*.png")), tmp_path / "one")
    model = shutil.copytree(place / "model", tmp_path / "model")
    write_image_list(model, [("gone.png", "0" * 64, "train")])
    save_tensors(model / BANK, {"vectors": tiny.unit_vectors(1)})
    with pytest.raises(CaptionlessError, match=r"nothing could be measured: .*at least 20 .*, but there are 1"):
        measured(model, flattened(tmp_path / "one", tmp_path / "flat"))


# --- several models, classes ---


def test_two_models_are_measured_on_images_that_neither_was_trained_on(place: Path, tmp_path: Path) -> None:
    both = shutil.copytree(place / "photos", tmp_path / "photos")
    sample_photos(both, 60, seed=5)
    other = write_model(tmp_path / "b", sample_photos(tmp_path / "other", 30, seed=5), trained=1)
    one, two = measure([place / "model", other], both, tmp_path / "r").models
    assert one.figures["kid"].value.n == two.figures["kid"].value.n == 160 - 50 - 30
    for key in ("kid", "recognised"):
        assert one.figures[key].real == two.figures[key].real


def test_models_that_have_too_little_unseen_in_common_say_so(place: Path, tmp_path: Path) -> None:
    whole = write_model(tmp_path / "whole", place / "photos", trained=1)
    flat = flattened(place / "photos", tmp_path / "flat")
    report = measure([place / "model", whole], flat, tmp_path / "r")
    assert all("Only 0 images are held out for all" in one.warnings[-1] for one in report.models)


@pytest.fixture
def bundled_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small one in place of the bundled encoder, which models of classes are measured by."""
    monkeypatch.setattr(one_model, "load_encoder", lambda *_: tiny.FakeEncoder("bundled"))


@pytest.mark.usefixtures("bundled_encoder")
def test_a_model_of_classes_is_measured_by_independent_features_without_prompts(place: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "classes", place / "photos", model=tiny.class_model())
    (tmp_path / "p.txt").write_text("a rose\n")
    (found,) = measure(model, place / "photos", tmp_path / "r", prompts=tmp_path / "p.txt").models
    assert {"recognised", "kid", "memorised"} <= set(found.figures)
    assert "evaluated on its classes and not on the prompts" in found.warnings[0]
    assert "independent of the model" in section(found, "fidelity").notes[0]


@pytest.mark.usefixtures("bundled_encoder")
def test_a_model_of_a_table_of_labels_takes_those_it_was_trained_with(place: Path, tmp_path: Path) -> None:
    flat = flattened(place / "photos", tmp_path / "flat")
    model = write_model(tmp_path / "m", place / "photos", model=tiny.class_model())
    rows = read_image_list(model)
    write_image_list(model, [(Path(name).name, digest, role, name.split("/")[0]) for name, digest, role in rows])
    (found,) = measure(model, flat, tmp_path / "r").models
    assert "kid" in found.figures
    without = write_model(tmp_path / "without", place / "photos", model=tiny.class_model())
    with pytest.raises(CaptionlessError, match="no sub-folder with images has the name of"):
        measure(without, flat, tmp_path / "r")


@pytest.mark.slow
def test_models_of_other_encoders_and_sizes_are_not_compared_without_a_warning(place: Path, tmp_path: Path) -> None:
    from captionless.training.run import train

    options: dict[str, Any] = {"width": 16, "batch": 8, "images": 32, "precision": "float32", "hold_out": 0.5}
    encoders = [encoder_factory.small_pair(tmp_path / "pair"), encoder_factory.small_clip(tmp_path / "clip")]
    both = [
        train(place / "photos", tmp_path / str(size), encoder=str(encoder), size=size, **options)
        for size, encoder in zip((8, 16), encoders, strict=True)
    ]
    report = measure(both, place / "photos", tmp_path / "r", encoder=None)
    told = " ".join(report.models[0].warnings)
    assert "for all with `features`" in told
    assert "smaller images are an easier task" in told
    (kid,) = [one for one in charts(report.models, "fidelity") if one.figure.key == "kid"]
    assert sum(row.name.startswith("real images (for ") for row in kid.rows) == 2
    shared = measure(both, place / "photos", tmp_path / "s", encoder=None, features=str(encoders[1])).models[0]
    assert "`features`" not in " ".join(shared.warnings)
    assert "not independent" in section(report.models[0], "fidelity").notes[0]
    assert "(independent of the model)" in section(shared, "fidelity").notes[0]
    assert shared.figures["kid"].value != report.models[0].figures["kid"].value


# --- bad input ---


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"data": Path("nowhere")}, "there is no folder nowhere"),
        ({"out": "a file/nowhere"}, "`out=a file/nowhere` cannot be written"),
        ({"prompts": "nowhere.txt"}, "nowhere.txt"),
        ({"features": "./nowhere"}, "neither a folder nor a hub id"),
        ({"labels": "nowhere.csv"}, "nowhere.csv"),
        ({"data": Path("empty")}, "empty"),
        ({"encoder": tiny.FakeEncoder(digest="1" * 64)}, "was trained with the encoder"),
        ({"models": []}, "each only once"),
        ({"models": ["bundled", "bundled"]}, "each only once"),
    ],
)
def test_bad_input_is_named(
    options: dict[str, Any], said: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a file").touch()
    given = {"models": place / "model", "data": place / "photos", "out": tmp_path / "r", "sampling": FAST, **options}
    with pytest.raises(CaptionlessError, match=said):
        evaluate(**{"encoder": tiny.FakeEncoder(), **given})


@pytest.mark.parametrize("sizes", [{"samples": 0}, {"seed": -1}, {"seed": 2**32}])
def test_sizes_that_no_evaluation_can_use_are_refused(sizes: dict[str, int], place: Path, tmp_path: Path) -> None:
    with pytest.raises(CaptionlessError) as caught:
        measure(place / "model", place / "photos", tmp_path, **sizes)
    assert caught.value.parameter in sizes


def test_a_report_does_not_replace_a_file(tmp_path: Path, measured: Callable[..., ModelEvaluation]) -> None:
    (tmp_path / "report").write_text("mine")
    with pytest.raises(CaptionlessError, match="is a file"):
        measured()


def test_a_model_card_that_cannot_be_written_is_reported_and_nothing_else_is_lost(
    place: Path, tmp_path: Path, measured: Callable[..., ModelEvaluation]
) -> None:
    model = shutil.copytree(place / "model", tmp_path / "model")
    (model / "README.md").unlink(missing_ok=True)
    (model / "README.md").mkdir()
    progress = Remembers()
    assert measured(model, flattened(place / "photos", tmp_path / "flat"), progress=progress).figures
    assert any("not added to the model card" in text for text in progress.said)
    assert (tmp_path / "report" / "report.json").is_file()
