"""The command line, through its real entry point."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import encoder_factory
import tiny
from captionless.checkpoint import save_config, save_tensors
from captionless.cli import main

Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Call the entry point in this process, in an empty folder; return its exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAPTIONLESS_CACHE", str(tmp_path / "cache"))

    def call(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["captionless", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        return int(stop.value.code or 0)

    return call


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_factory.small_pair(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, image in enumerate(encoder_factory.pictures(6)):
        image.save(folder / f"{i}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def trained(run: Run, photos: Path, encoder: Path, tmp_path: Path) -> Path:
    words = ["--size", "8", "--width", "16", "--batch", "4", "--images", "8", "--precision", "float32"]
    assert run("train", str(photos), "--out", str(tmp_path / "model"), "--encoder", str(encoder), *words) == 0
    return tmp_path / "model"


def one_line(text: str) -> str:
    """The only line of an error; a traceback or a second line fails."""
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) == 1, text
    return lines[0]


def test_the_first_command_works_in_a_process_of_its_own(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("captionless")
    done = subprocess.run(
        [script, "generate", "a round white daisy with a yellow center"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "0001.png\n"
    with Image.open(tmp_path / "0001.png") as picture:
        assert min(picture.size) >= 32
        assert np.asarray(picture).std() > 20  # not a flat grey


def test_pictures_remember_how_they_were_made(run: Run, trained: Path, tmp_path: Path) -> None:
    words = [
        "-n",
        "2",
        "--seed",
        "7",
        "--guidance",
        "1.5",
        "--steps",
        "3",
        "--sampler",
        "ddim",
        "--out",
        "pictures",
        "--model",
    ]
    assert run("generate", "a daisy", "a röse", *words, str(trained)) == 0
    files = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert files == ["0001.png", "0002.png", "0003.png", "0004.png", "manifest.jsonl", "sheet-0001.png"]
    with Image.open(tmp_path / "pictures" / "0004.png") as picture:
        kept = {name: picture.info[name] for name in ("prompt", "seed", "guidance", "steps", "sampler", "model")}
    assert kept == {
        "prompt": "a röse",
        "seed": "8",
        "guidance": "1.5",
        "steps": "3",
        "sampler": "ddim",
        "model": str(trained),
    }
    with Image.open(tmp_path / "pictures" / "sheet-0001.png") as sheet:
        assert "prompt" not in sheet.info
    lines = [json.loads(line) for line in (tmp_path / "pictures" / "manifest.jsonl").read_text().splitlines()]
    assert [(line["file"], line["prompt"], line["seed"]) for line in lines] == [
        ("0001.png", "a daisy", 7),
        ("0002.png", "a daisy", 8),
        ("0003.png", "a röse", 7),
        ("0004.png", "a röse", 8),
    ]


def test_nothing_is_overwritten_and_the_manifest_grows(run: Run, trained: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert run("generate", "a", "--steps", "1", "--model", str(trained)) == 0
    assert (tmp_path / "0002.png").exists()
    assert (tmp_path / "sheet-0002.png").exists()
    assert len((tmp_path / "manifest.jsonl").read_text().splitlines()) == 2


def test_prompts_come_from_a_file_or_the_standard_input(
    run: Run, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prompts.txt").write_text("\ufeffa\n\n  b  \n", encoding="utf-8")
    assert run("generate", "--prompts", "prompts.txt", "--steps", "1", "--model", str(trained)) == 0
    assert capsys.readouterr().out.split()[-2:] == ["0001.png", "0002.png"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"c\nd\ne\n")))
    assert run("generate", "--prompts", "-", "--steps", "1", "--model", str(trained)) == 0
    assert capsys.readouterr().out.split() == ["0003.png", "0004.png", "0005.png"]


def test_a_prompt_in_a_long_list_is_painted_as_when_it_is_asked_for_alone(
    run: Run, trained: Path, tmp_path: Path
) -> None:
    common = ["--steps", "3", "--precision", "float32", "--model", str(trained)]
    assert run("generate", "a", "b", "c", "-n", "3", "--seed", "5", "--batch", "4", "--out", "many", *common) == 0
    assert run("generate", "b", "--seed", "7", "--out", "one", *common) == 0
    with Image.open(tmp_path / "many" / "0006.png") as many, Image.open(tmp_path / "one" / "0001.png") as one:
        assert np.abs(np.asarray(many, int) - np.asarray(one, int)).max() <= 1


BAD = [
    (["generate"], "no prompt given"),
    (["generate", ""], "empty prompt"),
    (["generate", "a", "b", " "], "empty prompt (number 3 of 3)"),
    (["generate", "a", "-n", "0"], "-n must be at least 1"),
    (["generate", "a", "--steps", "0"], "at least 1 sampling step"),
    (["generate", "a", "--sampler", "magic"], "dpmpp-2m"),
    (["generate", "a", "--bridge", "magic"], "nearest"),
    (["generate", "a", "--precision", "int3"], "float32"),
    (["generate", "a", "--guidance", "nan"], "--guidance"),
    (["generate", "a", "--seed", "-1"], "--seed"),
    (["generate", "a", "--batch", "0"], "batch"),
    (["generate", "a", "--model", "nowhere"], "nowhere does not exist"),
    (["generate", "a", "--model", "photos"], "not a captionless model"),
    (["generate", "a", "--out", "photos/notes.txt"], "is a file"),
    (["generate", "--prompts", "nowhere.txt"], "nowhere.txt"),
    (["generate", "--prompts", "photos/0.png"], "not UTF-8"),
    (["generate", "a", "--steps", "many"], "--steps"),
    (["train", "photos"], "--out"),
    (["train", "nowhere", "--out", "x"], "nowhere"),
    (["train", "photos/0.png", "--out", "x"], "is a file"),
    (["train", "photos", "--out", "x", "--encoder", "nowhere/at-all"], "nowhere/at-all"),
    (["train", "photos", "--out", "x", "--images", "0"], "--images must be more than 0"),
    (["train", "photos", "--out", "x", "--size", "0"], "--size must be more than 0"),
    (["train", "photos", "--out", "x", "--width", "33"], "--width must be a multiple of 16"),
    (["train", "photos", "--out", "x", "--hold-out", "1"], "--hold-out"),
    (["train", "photos", "--out", "x", "--from", "nowhere"], "nowhere does not exist"),
    (["train", "photos", "--out", "photos/0.png"], "is a file"),
    (["train", "empty", "--out", "x"], "empty"),
    (["embed", "nowhere"], "nowhere"),
    (["info", "nowhere"], "nowhere"),
    (["paint", "a"], "paint"),
    (["generate", "a", "--colour"], "--colour"),
]


@pytest.mark.parametrize(("words", "names"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_is_answered_by_one_line_and_exit_code_2(
    run: Run,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    names: str,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    before = sorted(path for path in tmp_path.rglob("*") if "cache" not in path.parts)
    assert run(*words) == 2
    line = one_line(capsys.readouterr().err)
    assert line.startswith("captionless: ")
    assert names in line
    assert sorted(path for path in tmp_path.rglob("*") if "cache" not in path.parts) == before


def test_a_second_training_into_the_same_folder_is_refused_and_harmless(
    run: Run, trained: Path, photos: Path, encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (trained / "model.safetensors").read_bytes()
    capsys.readouterr()
    assert run("train", str(photos), "--out", str(trained), "--encoder", str(encoder)) == 2
    assert "--resume" in one_line(capsys.readouterr().err)
    assert (trained / "model.safetensors").read_bytes() == before


def test_the_same_command_with_resume_goes_on(run: Run, trained: Path, photos: Path, encoder: Path) -> None:
    words = ["--size", "8", "--width", "16", "--batch", "4", "--images", "16", "--precision", "float32"]
    assert run("train", str(photos), "--out", str(trained), "--encoder", str(encoder), *words, "--resume") == 0
    assert json.loads((trained / "config.json").read_text())["training"]["images"] == 16


def test_a_full_disk_costs_nothing_that_was_there(
    run: Run, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("generate", "a", "--steps", "1", "--model", str(trained)) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    capsys.readouterr()
    assert run("generate", "a", "--steps", "1", "--model", str(trained)) == 2
    assert "No space left on device" in one_line(capsys.readouterr().err)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_a_prompt_longer_than_the_encoder_reads_is_cut_with_a_remark(
    run: Run, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run("generate", "a " * 60, "--steps", "1", "--model", str(trained)) == 0
    assert "the rest is left out" in capsys.readouterr().err.replace("\n", " ")


def test_embed_writes_the_courses_table_and_train_reads_it(
    run: Run, photos: Path, encoder: Path, tmp_path: Path
) -> None:
    assert run("embed", str(photos), "--encoder", str(encoder), "--csv", "clip.csv") == 0
    rows = (tmp_path / "clip.csv").read_text().splitlines()
    assert len(rows) == 6
    assert all(len(row.split(",")) == 25 for row in rows)
    words = ["--vectors", "clip.csv", "--size", "8", "--width", "16", "--batch", "4", "--images", "8"]
    assert run("train", str(photos), "--out", "model", "--encoder", str(encoder), *words) == 0


def test_info_tells_of_models_and_of_folders(
    run: Run, trained: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run("info", str(trained)) == 0
    assert "8 x 8" in capsys.readouterr().out
    assert run("info", str(photos)) == 0
    told = capsys.readouterr().out
    assert "not a picture" in told
    assert "6" in told
    assert run("info", "bundled") == 0
    assert "32 x 32" in capsys.readouterr().out


def test_a_model_whose_encoder_is_gone_says_so(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny.model()
    save_config(tmp_path / "orphan", model.config)
    save_tensors(tmp_path / "orphan" / "model.safetensors", model.denoiser.state_dict())
    save_tensors(tmp_path / "orphan" / "bank.safetensors", {"vectors": model.bank})
    assert run("generate", "a", "--model", "orphan") == 2
    assert model.config.encoder.name in one_line(capsys.readouterr().err)


def test_a_model_whose_encoder_moved_is_told_where_it_lies(
    run: Run, trained: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((trained / "config.json").read_text())
    config["encoder"]["name"] = "was/here/once"
    (trained / "config.json").write_text(json.dumps(config))
    capsys.readouterr()
    assert run("generate", "a", "--steps", "1", "--model", str(trained)) == 2
    assert "--encoder FOLDER" in one_line(capsys.readouterr().err)
    assert run("generate", "a", "--steps", "1", "--model", str(trained), "--encoder", str(encoder)) == 0
    assert (tmp_path / "0001.png").exists()


def test_the_manifest_names_the_precision_that_was_computed_in(run: Run, trained: Path, tmp_path: Path) -> None:
    assert run("generate", "a", "--steps", "1", "--model", str(trained)) == 0
    assert json.loads((tmp_path / "manifest.jsonl").read_text())["precision"] in ("float32", "bf16")


def test_a_sheet_that_shows_a_part_says_so(
    run: Run, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("captionless.gallery.MAX_ROWS", 1)
    monkeypatch.setattr("captionless.gallery.COLUMNS", 2)
    capsys.readouterr()
    assert run("generate", "a", "b", "c", "--batch", "1", "--steps", "1", "--model", str(trained)) == 0
    told = capsys.readouterr()
    assert "the first 2 of 3 pictures" in told.err
    assert told.out.split() == ["0001.png", "0002.png", "0003.png"]


def test_info_of_a_config_that_was_edited_wrongly_is_one_line(
    run: Run, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((trained / "config.json").read_text())
    for odd in ({"minutes": "many"}, {"settings": [3]}, []):
        (trained / "config.json").write_text(json.dumps(config | {"training": odd}))
        capsys.readouterr()
        assert run("info", str(trained)) == 2
        assert "config.json" in one_line(capsys.readouterr().err)
    (trained / "config.json").write_text(json.dumps(config | {"training": {"loss": {}, "from": 3, "extra": []}}))
    assert run("info", str(trained)) == 0


def test_the_package_can_be_run_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "captionless", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "0.1.0"), done.stderr


def test_version_is_printed(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.strip() == "0.1.0"


def test_asking_for_help_does_not_load_torch() -> None:
    code = "import sys; sys.argv = ['captionless', 'generate', '--help']\n"
    code += "from captionless.cli import main\n"
    code += "try:\n    main()\nexcept SystemExit:\n    pass\n"
    code += "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
