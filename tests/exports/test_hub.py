"""The contract of `captionless export --to hub`: a folder in the Hub's conventions, uploaded, and loaded from there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, constants
from PIL import Image

import captionless
import encoder_factory
import tiny
from captionless.checkpoints.card import write_model_card
from captionless.checkpoints.config import EncoderReference, TrainingRecord, load_config
from captionless.checkpoints.hub import FETCHED
from captionless.checkpoints.image_list import write_image_list
from captionless.checkpoints.model import Model
from fake_hub import FakeHub, fake_hub

QUICK = captionless.SamplingConfig(steps=2, precision="float32")
NAME = "someone/flowers"
Run = Callable[..., int]


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """The folder of a class-conditional model as a training writes it, with everything that may be private."""
    photos, out = tmp_path / "private" / "photos", tmp_path / "private" / "run"
    photos.mkdir(parents=True)
    (photos / "CREDITS.csv").write_text("file,author\nrose/1.png,Ada\n")
    record = TrainingRecord(
        folder=str(photos), train_images=1, initialised_from=str(tmp_path / "private" / "older"), labels="sub-folders"
    )
    model = tiny.class_model()
    model = replace(model, config=replace(model.config, training=record))
    tiny.saved(model, out)
    write_image_list(out, [("rose/1.png", "0" * 64, "train")])
    write_model_card(out, model.config, model.denoiser, photos)
    (out / "training").mkdir()
    (out / "training" / "state.safetensors").write_bytes(b"")
    return out


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    FETCHED.clear()
    monkeypatch.setenv("HF_TOKEN", FakeHub.TOKEN)
    with fake_hub(monkeypatch, tmp_path / "cache", {}) as hub:
        yield hub
    FETCHED.clear()


def figures(path: Path, *models: str) -> Path:
    """Write what `captionless evaluate` writes for machines."""
    kid = {"label": "KID x 1000", "value": {"value": 12.5, "low": 10, "high": 15, "n": 50}}
    content = {"data": "/home/ada/photos", "models": [{"name": one, "figures": {"kid": kid}} for one in models]}
    path.mkdir()
    (path / "report.json").write_text(json.dumps(content))
    return path


def test_the_folder_is_the_model_with_a_card_that_the_hub_understands(run: Run, trained: Path, tmp_path: Path) -> None:
    report = figures(tmp_path / "report", str(trained))
    out = tmp_path / "flowers"
    words = ("export", str(trained), "--to", "hub", "--out", str(out), "--license", "cc-by-4.0")
    assert run(*words, "--report", str(report)) == 0
    card = ModelCard.load(out / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag, card.data.license) == (
        "captionless",
        "text-to-image",
        "cc-by-4.0",
    )
    assert "captionless" in card.data.tags
    assert card.data.base_model is None  # it is a folder, which nobody else has
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("kid", 12.5, "photos")
    assert [entry["text"] for entry in card.data["widget"]] == ["daisy", "rose"]
    for entry in card.data["widget"]:
        with Image.open(out / entry["output"]["url"]) as image:
            assert image.size == (8, 8)
    assert "```shell\npip install -c constraints.txt .  # in a clone of captionless\n" in card.text
    assert "\ncaptionless generate --model flowers --class daisy\n```" in card.text
    assert card.text.startswith("\n# run\n\n<Gallery />\n")
    assert "## Credits" in card.text
    assert (out / "CREDITS.csv").read_text() == "file,author\nrose/1.png,Ada\n"
    ours, theirs = (
        captionless.load(folder, device="cpu").generate("rose", sampling=QUICK)[0] for folder in (trained, out)
    )
    assert ours.image.tobytes() == theirs.image.tobytes()
    assert not (out / "training").exists()


def test_the_folder_says_nothing_about_where_the_model_was(run: Run, trained: Path, tmp_path: Path) -> None:
    assert run("export", str(trained), "--to", "hub", "--out", str(tmp_path / "out")) == 0
    for path in (path for path in (tmp_path / "out").rglob("*") if path.is_file()):
        assert str(tmp_path).encode() not in path.read_bytes(), path


@pytest.mark.parametrize("name", ["README.md", "CREDITS.csv", "CREDITS-begun-from.csv", "pictures.csv"])
def test_nothing_that_a_link_leads_to_is_published(run: Run, trained: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("a secret")
    (trained / name).unlink(missing_ok=True)
    (trained / name).symlink_to(tmp_path / "secret")
    assert run("export", str(trained), "--to", "hub", "--out", str(tmp_path / "out"), "--prompt", "rose") == 0
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file() and b"a secret" in path.read_bytes()]


def test_an_encoder_in_a_folder_comes_along(run: Run, tmp_path: Path) -> None:
    encoder = encoder_factory.small_pair(tmp_path / "private" / "words")
    known = captionless.load_encoder(str(encoder), "cpu")
    reference = EncoderReference(str(encoder), known.digest, known.width, known.logit_scale)
    network = tiny.denoiser(condition_width=known.width)
    config = replace(tiny.model().config, denoiser=network.config, encoder=reference)
    tiny.saved(Model("tiny", config, network, tiny.unit_vectors(12, known.width)), tmp_path / "run")
    assert run("export", "run", "--to", "hub", "--out", "out", "--prompt", "a red rose") == 0
    encoder.rename(tmp_path / "gone")
    assert load_config(tmp_path / "out").encoder == replace(reference, name="words")
    assert captionless.load(tmp_path / "out", device="cpu").generate("a red rose", sampling=QUICK)


def test_a_cascade_comes_with_its_base_model(run: Run, tmp_path: Path) -> None:
    base = tiny.class_model()
    network = tiny.denoiser(condition_width=2, low_res_channels=4)
    config = replace(base.config, size=16, denoiser=network.config, base_size=8)
    tiny.saved(Model("tiny", config, network, base.bank), tmp_path / "run")
    tiny.saved(base, tmp_path / "run" / "base")
    assert run("export", "run", "--to", "hub", "--out", "out") == 0
    generator = captionless.load(tmp_path / "out", device="cpu")
    assert generator.generate("rose", sampling=QUICK)[0].image.size == (16, 16)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("tags: 3", "`tags` must be a list of words"),
        ("tags: flowers", "`tags` must be a list of words"),
        ("tags: [[flowers]]", "`tags` must be a list of words"),
        ("eval_results: 3", "`eval_results` is no field of a card"),
        ("3: flowers", "the field 3 must have a word as its name"),
        ("self: flowers", "multiple values"),
        (
            "model-index: [{name: x, results: [{task: {type: [x]}, dataset: {type: x, name: x},"
            " metrics: [{type: x, value: 1}]}]}]",
            "unhashable",
        ),
    ],
)
def test_a_card_with_fields_of_the_wrong_type_is_named(
    run: Run, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, reason: str
) -> None:
    (trained / "README.md").write_text(f"---\n{line}\n---\n# mine\n")
    assert run("export", str(trained), "--to", "hub", "--out", str(tmp_path / "out")) == 2
    said = capsys.readouterr().err
    assert f"the front matter of {trained / 'README.md'} cannot be read" in said
    assert reason in said
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_installed_from_a_clone(
    run: Run, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    monkeypatch.delitem(sys.modules, "captionless.exports.diffusers", raising=False)
    assert run("export", str(trained), "--to", "diffusers", "--out", "out") == 2
    assert "clone of captionless: pip install -c constraints.txt '.[diffusers]'" in capsys.readouterr().err


def test_nothing_is_overwritten(run: Run, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert run("export", str(trained), "--to", "hub", "--out", "mine") == 2
    assert "--out mine exists, and nothing is overwritten" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "there is no place to write to. Pass --out FOLDER."),
        (("--out", "x", "--public"), "--public has no effect without --push"),
        (("--out", "x", "--report", "nowhere"), "nowhere is no report of"),
        (("--out", "x", "--prompt", "tulip"), "tulip"),
        (("--to", "web", "--push", "someone/page"), "--push is for models, not for a web page"),
        (("--push", "flowers"), "--push flowers does not have the form user/repo"),
        (("--push", "someone/flowers@v1"), "does not have the form user/repo"),
    ],
)
def test_a_request_that_cannot_be_fulfilled_is_one_line(
    run: Run, trained: Path, tmp_path: Path, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("export", str(trained), "--to", "hub", *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_a_report_about_other_models_is_refused(
    run: Run, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures(tmp_path / "report", "one", "other")
    assert run("export", str(trained), "--to", "hub", "--out", "x", "--report", "report") == 2
    assert f"is no report of `captionless evaluate` about {trained}" in capsys.readouterr().err


def test_a_pushed_model_is_private_and_is_loaded_by_its_name(
    hub: FakeHub, run: Run, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("export", str(trained), "--to", "hub", "--push", NAME) == 0
    assert capsys.readouterr().out.strip().endswith(f"/{NAME}")
    assert (hub.visibility[NAME], len(hub.commits)) == ("private", 1)
    theirs = captionless.load(NAME, device="cpu").generate("rose", sampling=QUICK)[0].image
    ours = captionless.load(trained, device="cpu").generate("rose", sampling=QUICK)[0].image
    assert theirs.tobytes() == ours.tobytes()
    assert f"--model {NAME}" in ModelCard.load(hub.models[NAME]["main"] / "README.md").text


def test_pushing_again_leaves_nothing_of_the_export_before(hub: FakeHub, run: Run, trained: Path) -> None:
    assert run("export", str(trained), "--to", "hub", "--push", NAME, "--public") == 0
    assert run("export", str(trained), "--to", "hub", "--push", NAME, "--prompt", "rose") == 0
    folder = hub.models[NAME]["main"]
    assert [path.name for path in (folder / "examples").iterdir()] == ["1.png"]
    assert (hub.visibility[NAME], len(hub.commits)) == ("public", 2)
    assert (folder / ".gitattributes").exists()


def test_a_repository_of_something_else_is_left_as_it_is(
    hub: FakeHub, run: Run, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.create(NAME, "public")
    (hub.models[NAME]["main"] / "README.md").write_text("---\ntags: [art]\n---\n")
    assert run("export", str(trained), "--to", "hub", "--push", NAME) == 2
    assert "exists and holds no export of captionless" in capsys.readouterr().err
    assert not hub.commits


def test_a_failed_upload_is_one_line_and_leaves_the_folder(
    hub: FakeHub, run: Run, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("export", str(trained), "--to", "hub", "--prompt", "rose")
    assert run(*words, "--push", "another/flowers") == 2
    assert "does not let you write to another/flowers. Run `hf auth login`" in capsys.readouterr().err
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert run(*words, "--push", NAME, "--out", "out") == 2
    error = capsys.readouterr().err
    assert f"the upload to {NAME} failed" in error
    assert error.count("\n") == 1
    assert captionless.load("out", device="cpu").classes == ("daisy", "rose")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(trained / "no-token"))
    assert run(*words, "--push", NAME) == 2
    assert "needs a token. Run `hf auth login`" in capsys.readouterr().err


@pytest.mark.slow
def test_processes_find_the_hub_by_its_environment_variables_and_the_cache_without_it(
    hub: FakeHub, trained: Path, tmp_path: Path
) -> None:
    settings = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": hub.TOKEN}

    def captionless(*words: str, **changes: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **settings, **changes}
        environment.pop("HF_HUB_OFFLINE", None)
        command = [sys.executable, "-m", "captionless", *words]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)

    generate = ("generate", "--class", "rose", "--steps", "1", "--model")
    pushed = captionless("export", str(trained), "--to", "hub", "--push", NAME)
    assert (pushed.returncode, pushed.stdout) == (0, f"{hub.address}/{NAME}\n")
    assert captionless(*generate, f"{NAME}@main").stdout == "images/0001.png\n"
    closed = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    assert captionless(*generate, f"{NAME}@main", **closed).stdout == "images/0002.png\n"
    absent = captionless(*generate, "someone/else", **closed)
    assert (absent.returncode, absent.stderr.count("\n")) == (2, 1)
    assert "there is no folder someone/else, and the model with this name cannot be downloaded" in absent.stderr
