"""`captionless generate`, through its real entry point."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

import encoder_factory
import tiny
from captionless.checkpoints.config import EncoderReference, ModelConfig, save_config
from captionless.checkpoints.model import WEIGHTS, Model
from captionless.cli.console import CommandProgress
from captionless.encoders.dual_encoder import load_encoder
from captionless.tensor_files import save_tensors

Run = Callable[..., int]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small encoder with larger random weights for words, else all words are nearly one to it."""
    folder = encoder_factory.small_pair(tmp_path_factory.mktemp("encoder"))

    def enlarge(tensors: dict[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            tensor.mul_(10 if name.startswith("text_model.") and tensor.ndim == 2 else 1)

    encoder_factory.edit_weights(folder, enlarge)
    return folder


@pytest.fixture(scope="module")
def model(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a model of random weights that paints 8 x 8 pixels."""
    known = load_encoder(str(encoder))
    reference = EncoderReference(str(encoder), known.digest, known.width, known.logit_scale)
    network = tiny.denoiser(condition_width=known.width)
    config = ModelConfig(8, network.config, reference)
    bank = tiny.unit_vectors(12, known.width, seed=3)
    return str(tiny.saved(Model("tiny", config, network, bank), tmp_path_factory.mktemp("model")))


@pytest.fixture
def paint(run: Run, model: str, tmp_path: Path) -> Callable[..., Path]:
    """Call `captionless generate` with quick settings and return the folder written into."""

    def call(*words: str, out: str = "images", steps: int = 3) -> Path:
        assert run("generate", *words, "--steps", str(steps), "--model", model, "--out", out) == 0
        return tmp_path / out

    return call


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photograph of 40 x 24 pixels, a mask of its size that is white in the left half of its central square."""
    picture = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "photo.png")
    mask = Image.new("L", (40, 24))
    mask.paste(255, (8, 0, 20, 24))
    mask.save(tmp_path / "mask.png")
    return tmp_path / "photo.png"


def one_line(text: str) -> str:
    """The only line of an error; a traceback or a second line fails."""
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) == 1, text
    return lines[0]


def manifest(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image, int)


def same(first: Path, second: Path) -> bool:
    """Whether two pictures differ by no more than one level of 255."""
    return bool(np.abs(picture(first) - picture(second)).max() <= 1)


# --- files and records ---


def test_images_remember_how_they_were_made(paint: Callable[..., Path], model: str) -> None:
    words = ["-n", "2", "--seed", "7", "--guidance", "1.5", "--sampler", "ddim", "--eta", "0.5"]
    folder = paint("a daisy", "a röse", *words)
    files = sorted(path.name for path in folder.iterdir())
    assert files == ["0001.png", "0002.png", "0003.png", "0004.png", "grid-0001.png", "manifest.jsonl"]
    kept = {"prompt": "a röse", "seed": "8", "guidance": "1.5", "steps": "3", "sampler": "ddim", "eta": "0.5"}
    with Image.open(folder / "0004.png") as image:
        wanted = kept | {"model": model, "threshold": "static"}
        assert {name: image.info[name] for name in wanted} == wanted
        assert json.loads(image.info["guidance_interval"]) == pytest.approx([0.037, 0.9], abs=1e-3)
        assert not {"churn", "variance", "negative", "init"} & set(image.info)
    with Image.open(folder / "grid-0001.png") as sheet:
        assert "prompt" not in sheet.info
    lines = manifest(folder)
    assert [(line["file"], line["prompt"], line["seed"]) for line in lines] == [
        ("0001.png", "a daisy", 7),
        ("0002.png", "a daisy", 8),
        ("0003.png", "a röse", 7),
        ("0004.png", "a röse", 8),
    ]
    assert lines[0]["precision"] in ("float32", "bf16")


def test_nothing_is_overwritten_and_the_manifest_grows(paint: Callable[..., Path]) -> None:
    for _ in range(2):
        folder = paint("a", "-n", "2", steps=1)
    assert (folder / "0004.png").exists()
    assert (folder / "grid-0002.png").exists()
    assert len(manifest(folder)) == 4


def test_a_single_image_gets_no_grid(paint: Callable[..., Path]) -> None:
    assert {path.name for path in paint("a", steps=1).iterdir()} == {"0001.png", "manifest.jsonl"}


def test_prompts_come_from_a_file_or_the_standard_input(
    run: Run, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prompts.txt").write_text("\ufeffa\n\n  b  \n", encoding="utf-8")
    assert run("generate", "--prompts", "prompts.txt", "--steps", "1", "--model", model) == 0
    assert capsys.readouterr().out.split()[-2:] == ["images/0001.png", "images/0002.png"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"c\nd\ne\n")))
    assert run("generate", "--prompts", "-", "--steps", "1", "--model", model) == 0
    assert capsys.readouterr().out.split() == [f"images/000{i}.png" for i in (3, 4, 5)]


def test_json_lines_have_settings_for_each_prompt(paint: Callable[..., Path], tmp_path: Path) -> None:
    lines = [{"prompt": "a", "n": 2, "seed": 7}, {"prompt": "b", "negative": "c", "guidance": 2, "label": "bee"}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    exact = ["--precision", "float32"]
    folder = paint("d", "--prompts", "p.jsonl", "--seed", "3", *exact)
    told = [(line["prompt"], line["seed"], line["guidance"], line.get("negative")) for line in manifest(folder)]
    assert told == [("d", 3, 3.0, None), ("a", 7, 3.0, None), ("a", 8, 3.0, None), ("b", 3, 2, "c")]
    assert manifest(folder)[3]["label"] == "bee"
    alone = paint("b", "--seed", "3", "--negative", "c", "--guidance", "2", *exact, out="alone")
    assert same(folder / "0004.png", alone / "0001.png")


def test_a_prompt_in_a_long_list_is_sampled_as_when_it_is_asked_for_alone(paint: Callable[..., Path]) -> None:
    exact = ["--precision", "float32"]
    many = paint("a", "b", "c", "-n", "3", "--seed", "5", "--batch", "4", *exact, out="many")
    assert same(many / "0006.png", paint("b", "--seed", "7", *exact, out="one") / "0001.png")


def test_a_full_disk_costs_nothing_that_was_there(
    run: Run, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("generate", "a rose", "--steps", "1", "--model", model) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    capsys.readouterr()
    assert run("generate", "a rose", "--steps", "1", "--model", model) == 2
    assert "No space left on device" in one_line(capsys.readouterr().err)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == before


def test_a_prompt_longer_than_the_encoder_reads_is_cut_with_a_remark(
    paint: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    paint("a " * 60, steps=1)
    assert "the rest is ignored" in capsys.readouterr().err.replace("\n", " ")


def test_a_sheet_that_shows_a_part_says_so(
    paint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("captionless.generation.request.MOST_SHOWN", 2)
    paint("a", "b", "c", "--batch", "1", steps=1)
    told = capsys.readouterr()
    assert "the first 2 of 3 images" in told.err
    assert told.out.split() == [f"images/{number:04d}.png" for number in (1, 2, 3)]
    paint("a", "b", "c", "--guidance", "0,1", steps=1)
    assert "the first 2 of 6 images" in capsys.readouterr().err


# --- comparing guidance ---


@pytest.mark.parametrize("spelling", [["--guidance", "-2,0,1.5"], ["--guidance=-2,0,1.5"]], ids=" ".join)
def test_several_scales_sample_the_same_prompts_and_seeds_at_each(
    spelling: list[str], paint: Callable[..., Path]
) -> None:
    folder = paint("a daisy", "a rose", "-n", "2", "--seed", "5", "--precision", "float32", *spelling)
    lines = manifest(folder)
    wanted = [(w, text, s) for w in (-2.0, 0.0, 1.5) for text in ("a daisy", "a rose") for s in (5, 6)]
    assert [(line["guidance"], line["prompt"], line["seed"]) for line in lines] == wanted
    with Image.open(folder / "0012.png") as image:
        assert (image.info["guidance"], image.info["prompt"], image.info["seed"]) == ("1.5", "a rose", "6")
    alone = paint("a rose", "--seed", "6", "--precision", "float32", "--guidance", "-2", out="alone")
    assert same(folder / "0004.png", alone / "0001.png")
    assert not same(folder / "0004.png", folder / "0012.png")


def test_the_sheet_of_a_sweep_has_a_row_a_image_and_a_column_a_scale(paint: Callable[..., Path]) -> None:
    folder = paint("a daisy", "a rose", "-n", "2", "--guidance", "-1,0,1", steps=1)
    assert [path.name for path in folder.glob("grid-*")] == ["grid-0001.png"]
    with Image.open(folder / "grid-0001.png") as sheet:
        assert 3 * 128 < sheet.width < 4 * 128
        assert 4 * 128 < sheet.height < 6 * 128


def test_the_bar_counts_the_images_of_the_whole_sweep(
    paint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    advance = CommandProgress.advance

    def watched(bar: CommandProgress, task: str, done: int, total: int) -> None:
        advance(bar, task, done, total)
        seen.append((done, total))

    monkeypatch.setattr(CommandProgress, "advance", watched)
    paint("a", "b", "c", "--guidance", "0,1", "--batch", "2", steps=1)
    assert seen == [(done, 6) for done in range(1, 7)]


def test_every_setting_of_guidance_and_sampling_arrives(paint: Callable[..., Path]) -> None:
    guided = ["--guidance-interval", "0.2,0.8", "--guidance-rescale", "0.7", "--threshold", "dynamic"]
    paint("a", *guided, "--sampler", "heun", "--churn", "3", "--spacing", "karras")
    folder = paint("a", "--sampler", "ddpm", "--variance", "upper", "--bridge", "none")
    first, second = manifest(folder)
    wanted = {
        "guidance_interval": [0.2, 0.8],
        "guidance_rescale": 0.7,
        "threshold": "dynamic",
        "churn": 3.0,
        "spacing": "karras",
    }
    assert {name: first[name] for name in wanted} == wanted
    assert (second["sampler"], second["variance"], second["bridge"]) == ("ddpm", "upper", "none")


# --- what to show ---


def test_what_goes_with_a_prompt_decides_the_image_and_is_recorded(paint: Callable[..., Path], photo: Path) -> None:
    also = [word for text in ("a cat:0.5", "red: white", "yellow:-.5") for word in ("--also", text)]
    mixed = ["--like", str(photo), "--like-share", "0.3"]
    for extra in ([], ["--negative", "red"], also, ["--then", "a cat", "--switch", "0.4"], mixed):
        folder = paint("a daisy", *extra)
    lines = manifest(folder)
    assert lines[1]["negative"] == "red"
    assert lines[2]["also"] == [["a cat", 0.5], ["red: white", 1.0], ["yellow", -0.5]]
    assert (lines[3]["then"], lines[3]["switch"]) == ("a cat", 0.4)
    assert (lines[4]["like"], lines[4]["like_share"]) == (str(photo), 0.3)
    assert not {"negative", "also", "then", "switch", "towards", "like", "init", "strength", "mask"} & set(lines[0])
    with Image.open(folder / "0003.png") as image:
        assert image.info["also"] == '[["a cat", 0.5], ["red: white", 1.0], ["yellow", -0.5]]'
    files = sorted(folder.glob("0*.png"))
    assert len(files) == 5
    assert not any(same(files[i], files[k]) for i in range(5) for k in range(i))


def test_a_walk_has_eight_images_of_one_seed_unless_told_otherwise(paint: Callable[..., Path]) -> None:
    lines = manifest(paint("a daisy", "--towards", "a rose", "--seed", "3", steps=1))
    assert [line["seed"] for line in lines] == [3] * 8
    assert [line["towards_share"] for line in lines] == pytest.approx([i / 7 for i in range(8)])
    (half,) = manifest(paint("a daisy", "--towards", "a rose", "-n", "1", steps=1, out="half"))
    assert half["towards_share"] == 0.5
    (near,) = manifest(paint("a daisy", "--towards", "a rose", "--towards-share", "0.2", steps=1, out="near"))
    assert near["towards_share"] == 0.2


def test_a_reference_image_needs_no_prompt(paint: Callable[..., Path], photo: Path) -> None:
    (line,) = manifest(paint("--like", str(photo)))
    assert (line["prompt"], line["like"]) == ("", str(photo))


# --- a photograph to begin from ---


def test_a_photograph_is_sampled_over(paint: Callable[..., Path], photo: Path) -> None:
    folder = paint("a daisy", "--init", str(photo), "--strength", "0.001")
    with Image.open(photo) as image:
        square = image.crop((8, 0, 32, 24)).resize((8, 8), Image.Resampling.LANCZOS, reducing_gap=4.0)
    assert np.abs(picture(folder / "0001.png") - np.asarray(square, int)).max() <= 3
    paint("a daisy", "--init", str(photo))
    assert [(line["init"], line["strength"]) for line in manifest(folder)] == [(str(photo), 0.001), (str(photo), 0.6)]


def test_outside_the_mask_the_photograph_stays_as_it_is(paint: Callable[..., Path], photo: Path) -> None:
    mask = photo.with_name("mask.png")
    folder = paint("a daisy", "--init", str(photo), "--mask", str(mask), "-n", "2", "--trajectory")
    with Image.open(photo) as image:
        square = image.crop((8, 0, 32, 24)).resize((8, 8), Image.Resampling.LANCZOS, reducing_gap=4.0)
    one, other = picture(folder / "0001.png"), picture(folder / "0002.png")
    assert np.abs(one - np.asarray(square, int))[:, 4:].max() <= 1
    assert np.abs(one - other)[:, :4].mean() > 20
    assert manifest(folder)[0].items() >= {"mask": str(mask), "strength": 1.0}.items()


# --- trajectories ---


def test_a_trajectory_lies_beside_every_image(paint: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = paint("a", "b", "--trajectory", "--batch", "1", "--guidance", "0,2")
    names = {f"{number:04d}{end}" for number in range(1, 5) for end in (".png", "-trajectory.png", "-trajectory.gif")}
    assert names == {path.name for path in folder.iterdir()} - {"manifest.jsonl", "grid-0001.png"}
    with Image.open(folder / "0004-trajectory.gif") as gif:
        assert gif.n_frames == 3
    told = capsys.readouterr()
    assert told.out.split() == [f"images/{number:04d}.png" for number in (1, 2, 3, 4)]
    assert "Trajectories" in told.err


def test_a_trajectory_that_was_left_behind_is_not_overwritten(paint: Callable[..., Path]) -> None:
    folder = paint("a", "--trajectory", steps=1)
    (folder / "0001.png").unlink()
    before = (folder / "0001-trajectory.png").read_bytes()
    paint("b", "--trajectory", steps=1)
    assert (folder / "0002-trajectory.png").exists()
    assert (folder / "0001-trajectory.png").read_bytes() == before


# --- models of classes ---


def test_a_model_of_classes_paints_its_classes(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = tiny.denoiser(condition_width=2)
    save_config(tmp_path / "classes", ModelConfig(8, network.config, None, classes=("daisy", "rose")))
    save_tensors(tmp_path / "classes" / WEIGHTS, network.state_dict())
    common = ["--model", "classes", "--steps", "2"]
    assert run("generate", "--class", "rose", "--class", "daisy", "-n", "2", *common, "--towards", "rose") == 0
    assert [line["prompt"] for line in manifest(tmp_path / "images")] == ["rose", "rose", "daisy", "daisy"]
    for words, names in (
        (["a rose"], "class"),
        ([], "daisy, rose"),
        (["--class", "tulip"], "tulip"),
        (["--class", "rose", "--also", "tulip"], "tulip"),
    ):
        capsys.readouterr()
        assert run("generate", *words, *common) == 2
        assert names in one_line(capsys.readouterr().err)


def test_a_model_of_words_knows_no_classes(run: Run, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("generate", "--class", "rose", "--model", model) == 2
    assert "Omit --class" in one_line(capsys.readouterr().err)


# --- encoders ---


def test_a_model_whose_encoder_is_gone_says_so(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.saved(tiny.model(), tmp_path / "orphan")
    assert run("generate", "a", "--model", "orphan") == 2
    assert "encoder fake" in one_line(capsys.readouterr().err)


def test_a_model_whose_encoder_moved_is_told_where_it_lies(
    run: Run, model: str, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(model, tmp_path / "moved")
    config = json.loads((tmp_path / "moved" / "config.json").read_text())
    config["encoder"]["name"] = "was/here/once"
    (tmp_path / "moved" / "config.json").write_text(json.dumps(config))
    assert run("generate", "a", "--steps", "1", "--model", "moved") == 2
    assert "--encoder" in one_line(capsys.readouterr().err)
    assert run("generate", "a", "--steps", "1", "--model", "moved", "--encoder", str(encoder)) == 0
    assert (tmp_path / "images" / "0001.png").exists()


# --- bad input ---


BAD = [
    ([], "no prompt given"),
    ([""], "the prompt is empty"),
    (["a", "b", " "], "the prompt (number 3 of 3) is empty"),
    (["a", "-n", "0"], "-n must be from 1 to 1,000,000, not 0"),
    (["a", "--steps", "0"], "--steps must be an integer of at least 1"),
    (["a", "--steps", "many"], "--steps"),
    (["a", "--sampler", "magic"], "dpmpp-2m"),
    (["a", "--bridge", "magic"], "nearest"),
    (["a", "--precision", "int3"], "float32"),
    (["a", "--seed", "-1"], "--seed"),
    (["a", "--batch", "0"], "batch"),
    (["a", "--model", "nowhere"], "nowhere does not exist"),
    (["a", "--model", "."], "not a captionless model"),
    (["a", "--out", "photo.png"], "is a file"),
    (["--prompts", "nowhere.txt"], "nowhere.txt"),
    (["--prompts", "photo.png"], "not UTF-8"),
    (["--prompts", "own.jsonl", "--guidance", "0,1"], "sets its own scale"),
    (["--prompts", "bad.jsonl"], "bad.jsonl, line 2"),
    (["a", "--colour"], "--colour"),
    (["a", "--guidance", "nan"], "--guidance"),
    (["a", "--guidance", "much"], "--guidance must be numbers separated by commas"),
    (["a", "--guidance", "1,,2"], "--guidance must be numbers separated by commas"),
    (["a", "--guidance", "1,200"], "--guidance must be a number of at least -100 and at most 100"),
    (["a", "--guidance-interval", "0.5"], "must be 2 numbers separated by commas"),
    (["a", "--guidance-interval", "0.9,0.1"], "--guidance-interval"),
    (["a", "--guidance-interval", "low,high"], "--guidance-interval must be 2 numbers"),
    (["a", "--guidance-rescale", "2"], "--guidance-rescale"),
    (["a", "--threshold", "soft"], "static, dynamic, none"),
    (["a", "--spacing", "odd"], "even, karras"),
    (["a", "--eta", "1"], "does not accept --eta"),
    (["a", "--churn", "1"], "does not accept --churn"),
    (["a", "--variance", "upper"], "does not accept --variance"),
    (["a", "--switch", "0.5"], "--switch has no effect without --then"),
    (["a", "--then", "b", "--switch", "1"], "--switch must"),
    (["a", "--then", "b", "--towards", "c"], "--then and --towards"),
    (["a", "--towards-share", "0.5"], "--towards-share has no effect without --towards"),
    (["a", "--like-share", "0.5"], "--like-share has no effect without --like"),
    (["--like", "nowhere.png"], "nowhere.png"),
    (["--like", "text.png"], "not an image"),
    (["--like", "."], "is a folder"),
    (["a", "--also", ""], "empty"),
    (["a", "--also", "b:0"], "--also"),
    (["a", "--negative", " "], "--negative is empty"),
    (["a", "--strength", "0.5"], "--strength has no effect without --init"),
    (["a", "--mask", "mask.png"], "--mask has no effect without --init"),
    (["a", "--init", "photo.png", "--strength", "0"], "--strength must"),
    (["a", "--init", "nowhere.png"], "nowhere.png"),
    (["a", "--init", "text.png"], "not an image"),
    (["a", "--init", "photo.png", "--mask", "nowhere.png"], "nowhere.png"),
    (["a", "--init", "photo.png", "--mask", "small.png"], "--mask is 8 x 8 pixels"),
    (["a", "--init", "photo.png", "--mask", "black.png"], "black everywhere"),
]


@pytest.mark.parametrize(("words", "names"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_is_answered_by_one_line_and_exit_code_2(
    run: Run, photo: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], names: str
) -> None:
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "own.jsonl").write_text('{"prompt": "a", "guidance": 2}')
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a"}\n{"prompt": "a", "n": "many"}')
    Image.new("L", (8, 8), 255).save(tmp_path / "small.png")
    Image.new("L", (40, 24)).save(tmp_path / "black.png")
    before = sorted(tmp_path.rglob("*"))
    named = [] if "--model" in words else ["--model", model]
    assert run("generate", *words, *named) == 2
    line = one_line(capsys.readouterr().err)
    assert line.startswith("captionless: ")
    assert names in line
    assert sorted(tmp_path.rglob("*")) == before


def test_an_unfamiliar_prompt_is_generated_with_one_line_about_it(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--steps", "1", "--upsample-steps", "1", "--out", str(tmp_path / "flowers")]
    assert run("generate", "a rose", "a cat", *quick) == 0
    remarks = [line for line in capsys.readouterr().err.splitlines() if " is unfamiliar: " in line]
    assert len(remarks) == 1
    assert "a cat" in remarks[0]
    assert "daisies" in remarks[0]
