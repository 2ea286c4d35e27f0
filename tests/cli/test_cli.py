"""The command line, through its real entry point."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import encoder_factory
from captionless.training.run import train
from platforms import needs_posix

Run = Callable[..., int]


@pytest.fixture
def photos(photos: Path) -> Path:
    (photos / "notes.txt").write_text("no picture")
    return photos


WORDS = ["--size", "8", "--width", "16", "--batch", "4", "--images", "8", "--precision", "float32"]


@pytest.fixture(scope="module")
def once(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a ``model`` trained on the photos with ``WORDS``, and of the ``cache`` that this filled."""
    folder = tmp_path_factory.mktemp("once")
    (folder / "photos").mkdir()
    for i, image in enumerate(encoder_factory.pictures(6)):
        image.save(folder / "photos" / f"{i}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPTIONLESS_CACHE", str(folder / "cache"))
        tiny: dict[str, Any] = {"size": 8, "width": 16, "batch": 4, "images": 8, "precision": "float32"}  # WORDS
        train(folder / "photos", folder / "model", encoder=str(encoder), **tiny)
    return folder


@pytest.fixture
def trained(run: Run, once: Path, tmp_path: Path) -> Path:
    """A copy of the model, which may be changed."""
    shutil.copytree(once / "cache", tmp_path / "cache")
    return Path(shutil.copytree(once / "model", tmp_path / "model"))


def one_line(text: str) -> str:
    """The only line of an error; a traceback or a second line fails."""
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) == 1, text
    return lines[0]


def test_the_first_command_works_in_a_process_of_its_own(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("captionless")
    done = subprocess.run(
        [script, "generate", "a round white daisy with a yellow center", "--size", "64", "--steps", "8"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "images/0001.png\n"
    with Image.open(tmp_path / "images" / "0001.png") as picture:
        assert min(picture.size) >= 32
        assert np.asarray(picture).std() > 20  # not a flat grey


BAD = [
    (["train", "photos"], "--out"),
    (["train", "nowhere", "--out", "x"], "nowhere"),
    (["train", "photos/0.png", "--out", "x"], "is a file"),
    (["train", "photos", "--out", "x", "--encoder", "nowhere/at-all"], "nowhere/at-all"),
    (["train", "photos", "--out", "x", "--images", "0"], "--images must be an integer above 0"),
    (["train", "photos", "--out", "x", "--size", "0"], "--size must be an integer above 0"),
    (
        ["train", "photos", "--out", "x", "--width", "33"],
        "--width must be an integer above 0, at most 16,384 and a multiple of 16",
    ),
    (["train", "photos", "--out", "x", "--hold-out", "1"], "--hold-out"),
    (["train", "photos", "--out", "x", "--from", "nowhere"], "nowhere does not exist"),
    (["train", "photos", "--out", "photos/0.png"], "is inside photos"),
    (["train", "empty", "--out", "x"], "empty"),
    (["train", "photos", "--out", "x", "--classes"], "form no class"),
    (["train", "photos", "--out", "x", "--classes", "--encoder", "bundled"], "--encoder applies only"),
    (["train", "photos", "--out", "x", "--classes", "--vectors", "clip.csv"], "--vectors applies only"),
    (
        ["train", "photos", "--out", "x", "--classes", "--sample-prompt", "a"],
        "--sample-prompt applies only",
    ),
    (["train", "photos", "--out", "x", "--classes", "--condition-cosine", "0.9"], "--condition-cosine 0.9"),
    (["train", "photos", "--out", "x", "--labels", "nowhere.csv"], "nowhere.csv"),
    (["train", "photos", "--out", "x", "--labels", "photos/notes.txt"], "line 1: the header lacks file and label"),
    (["embed", "nowhere"], "nowhere"),
    (["embed", "nowhere", "--shards", "x"], "nowhere"),
    (["embed", "photos", "--engine", "ray"], "--engine cannot be used without --shards"),
    (["embed", "photos", "--shards", "x", "--csv", "y.csv"], "--csv cannot be used with --shards"),
    (["embed", "photos", "--shards", "x", "--shard", "2/2"], "--shard 0/8"),
    (["train", "photos/*.tar", "--out", "x"], "there are no files in photos/*.tar"),
    (["train", "nostore://bucket/photos", "--out", "x"], "cannot open nostore://bucket/photos"),
    (["info", "nowhere"], "nowhere"),
    (["paint", "a"], "paint"),
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
    words = [*WORDS, "--images", "16", "--resume"]
    assert run("train", str(photos), "--out", str(trained), "--encoder", str(encoder), *words) == 0
    assert json.loads((trained / "config.json").read_text())["training"]["images_seen"] == 16


def test_embed_writes_the_courses_table_and_train_reads_it(
    run: Run, photos: Path, encoder: Path, tmp_path: Path
) -> None:
    assert run("embed", str(photos), "--encoder", str(encoder), "--csv", "clip.csv") == 0
    rows = (tmp_path / "clip.csv").read_text().splitlines()
    assert len(rows) == 6
    assert all(len(row.split(",")) == 25 for row in rows)
    words = ["--vectors", "clip.csv", "--size", "8", "--width", "16", "--batch", "4", "--images", "8"]
    assert run("train", str(photos), "--out", "model", "--encoder", str(encoder), *words) == 0


def test_train_reads_tars_and_the_shards_of_their_vectors_as_it_reads_a_folder(
    run: Run, trained: Path, photos: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, half in enumerate((photos.glob("[0-2].png"), photos.glob("[3-5].png"))):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as tar:
            for path in sorted(half):
                tar.add(path, path.name)
    assert run("embed", f"{tmp_path}/*.tar", "--shards", "vectors", "--encoder", str(encoder)) == 0
    assert run("embed", f"{tmp_path}/*.tar", "--shards", "vectors", "--encoder", str(encoder), "--shard", "1/2") == 0
    assert "Shards: 1 of 1 are complete." in capsys.readouterr().err
    assert run("train", f"{tmp_path}/*.tar", "--vectors", "vectors", "--out", "from-tars", *WORDS) == 0
    assert "newly embedded" not in capsys.readouterr().err
    for name in ("model.safetensors", "bank.safetensors"):
        expected, found = load_file(trained / name), load_file(tmp_path / "from-tars" / name)
        for key, tensor in expected.items():
            np.testing.assert_allclose(found[key], tensor, atol=1e-4)


def test_shards_without_the_vector_of_an_image_say_which(
    run: Run, photos: Path, encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("embed", str(photos), "--shards", "vectors", "--encoder", str(encoder)) == 0
    (photos / "0.png").rename(photos / "renamed.png")  # content decides, not the name
    encoder_factory.pictures(7)[6].save(photos / "new.png")
    capsys.readouterr()
    assert run("train", str(photos), "--vectors", "vectors", "--out", "model", "--size", "8", "--images", "8") == 2
    assert "vectors has no vector for 1 images: new.png." in capsys.readouterr().err.splitlines()[-1]


def test_info_tells_of_models_and_of_folders(
    run: Run, trained: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run("info", str(trained)) == 0
    assert "8 x 8" in capsys.readouterr().out
    assert run("info", str(photos)) == 0
    told = capsys.readouterr().out
    assert "not an image" in told
    assert "6" in told
    assert run("info", "bundled") == 0
    assert "64 x 64" in capsys.readouterr().out


def test_a_table_of_labels_makes_a_model_of_classes_that_info_describes_and_generate_paints(
    run: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{i}.png,{'odd' if i % 2 else 'quite even'}" for i in range(5)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows, "lost.png,odd"]))
    assert run("train", str(photos), "--out", "model", "--labels", "labels.csv", *WORDS) == 0
    told = capsys.readouterr().err
    assert "quite even 3, odd 2" in told
    assert "5.png" in told  # has no label
    assert "lost.png" in told  # is no picture
    assert "--model model --class odd" in told
    assert run("info", "model") == 0
    assert "odd (2), quite even (3)" in capsys.readouterr().out
    assert run("generate", "--model", "model", "--class", "quite even", "--steps", "1") == 0
    words = [*WORDS, "--images", "16", "--resume"]
    assert run("train", str(photos), "--out", "model", "--labels", "labels.csv", *words) == 0
    assert json.loads((tmp_path / "model" / "config.json").read_text())["training"]["images_seen"] == 16
    capsys.readouterr()
    assert run("generate", "--model", "model", "--class", "ode", "--steps", "1") == 2
    assert "Did you mean odd?" in one_line(capsys.readouterr().err)


def test_info_of_a_config_that_was_edited_wrongly_is_one_line(
    run: Run, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((trained / "config.json").read_text())
    for odd in ({"minutes": "many"}, {"settings": [3]}, {"loss": {}}, []):
        (trained / "config.json").write_text(json.dumps(config | {"training": odd}))
        capsys.readouterr()
        assert run("info", str(trained)) == 2
        assert "config.json" in one_line(capsys.readouterr().err)
    (trained / "config.json").write_text(json.dumps(config | {"training": {}}))
    assert run("info", str(trained)) == 0


def test_the_package_can_be_run_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "captionless", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "0.1.0"), done.stderr


@needs_posix("terminal that a program can make")
def test_results_go_to_their_pipe_though_a_bar_is_on_the_screen() -> None:
    import termios

    main, screen = os.openpty()
    termios.tcsetwinsize(screen, (24, 80))
    code = "from captionless.cli.console import print_result, show_progress\nwith show_progress() as bar:\n"
    code += "    bar.advance('Painting', 0, 2)\n    import time; time.sleep(1.2); bar.advance('Painting', 1, 2)\n"
    code += "    print_result('picture.png')"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=screen, text=True)
    os.close(screen)
    assert done.stdout == "picture.png\n"
    assert b"Painting" in os.read(main, 10_000)
    os.close(main)


def test_a_listener_to_remarks_who_goes_away_does_not_end_the_work() -> None:
    code = "from captionless.cli.console import open_streams, print_remark, print_result\nimport sys\n"
    code += "open_streams()\nsys.stdin.read()\n"
    code += "for i in range(3):\n    print_remark('busy')\nprint_result('done')"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as process:
        assert process.stderr is not None
        process.stderr.close()
        process.stderr = None
        out, _ = process.communicate("")
    assert (process.returncode, out) == (0, "done\n")


@pytest.mark.parametrize(
    "words", [["--version"], ["train", "--help"], pytest.param(["info", "bundled"], marks=pytest.mark.slow)]
)
def test_a_reader_who_goes_away_changes_no_verdict(words: list[str]) -> None:
    command = [sys.executable, "-m", "captionless", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()  # as `| head` does when it has seen enough
        _, err = process.communicate()
    assert (process.returncode, err) == (0, "")


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


def test_the_help_of_train_tells_the_defaults(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "--help") == 0
    text = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    size = "default: planned: up to 64; with --enlarge"
    for option in ("--size INTEGER", size, "default: cosine", "Optimisation", "--no-flip"):
        assert option in text
