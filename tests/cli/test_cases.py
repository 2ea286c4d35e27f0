"""Commands on small inputs that once went wrong, from a folder beside the repository whose README says what should
happen; its images are tried in ``tests/data/test_cases.py``."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
import stat
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

import forked
from captionless.checkpoints.config import load_config
from captionless.cli import main
from captionless.data.csv_rows import unguarded
from captionless.tensor_files import read_about, read_tensors, save_tensors
from shared_cases import CASES, make_cases, needs_cases

pytestmark = [
    pytest.mark.slow,
    needs_cases,
]
SMALL = ["--images", "16", "--size", "16", "--width", "16", "--batch", "4"]
BUNDLED = ["--encoder", "bundled", *SMALL]
MEMORY = 8_000_000_000


class Ended:
    """How a command ended, which ran in a folder."""

    def __init__(self, folder: Path, *words: str | Path, home: Path | None = None) -> None:
        more = {"CAPTIONLESS_CACHE": str(folder / "cache")} | ({"HOME": str(home)} if home else {})
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(folder),
            patch.dict(os.environ, more),
            patch("captionless.files._REMARKED", set()),
            patch.object(sys, "argv", ["captionless", *map(str, words)]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as end,
        ):
            main()
        self.code, self.out, self.err = int(end.value.code or 0), out.getvalue(), err.getvalue()

    def refused(self, *told: str) -> None:
        assert self.code == 2, self.err
        last = self.err.splitlines()[-1]
        assert last.startswith("captionless: ")
        assert "Traceback" not in self.err
        assert all(one in last for one in told), self.err

    def worked(self, *told: str) -> None:
        assert self.code == 0, self.err
        assert all(one in self.out + self.err for one in told), self.out + self.err


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cases(tmp_path_factory.mktemp("cases"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was trained on the good images."""
    folder = tmp_path_factory.mktemp("trained")
    Ended(folder, "train", CASES / "good", "--out", folder / "model", *BUNDLED).worked()
    return folder / "model"


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("model_nan", ["model.safetensors", "not finite"]),
        ("model_wrong_header", ["model.safetensors is damaged", "header too large"]),
        ("model_lfs", ["Git LFS", "git lfs pull"]),
        ("model_huge_size", ["config.json", "size", "1000000000"]),
        ("model_huge_width", ["config.json", "160,000,000"]),
        ("model_deep", ["config.json is damaged", "nested too deeply"]),
    ],
)
def test_a_damaged_or_absurd_model_is_refused(name: str, told: list[str], made: Path, tmp_path: Path) -> None:
    model = made / "large" / name if name == "model_deep" else CASES / name
    resource = pytest.importorskip("resource", reason="Windows has no limits of this kind")
    made_here = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (made_here + MEMORY, made_here + MEMORY))

    for words in (["info"], ["generate", "--class", "rose", "--steps", "2", "--out", "o", "--model"]):
        assert forked.call([*words, str(model)], tmp_path, limit) == 2
        (line,) = (tmp_path / "err").read_text().splitlines()
        assert line.startswith("captionless: ")
        assert all(one in line for one in told), line
    assert not list(tmp_path.rglob("*.png"))


def test_an_encoder_that_was_not_fetched_is_refused(tmp_path: Path) -> None:
    Ended(tmp_path, "embed", CASES / "good", "--encoder", CASES / "encoder_lfs").refused("Git LFS", "git lfs pull")


def test_folders_of_the_system_are_left_out_and_listed(tmp_path: Path) -> None:
    told = Ended(tmp_path, "info", CASES / "nas")
    told.worked("4: system folder", "sub-folders   2: roses, tulips")
    Ended(tmp_path, "train", CASES / "nas", "--classes", "--out", "model", *SMALL).worked("roses 2, tulips 2")
    with (tmp_path / "model" / "images-report.csv").open(newline="") as file:
        left = [unguarded(row["file"]) for row in csv.DictReader(file) if row["reason"].startswith("system folder")]
    assert sorted(left) == ["#recycle", "$RECYCLE.BIN", "@eaDir", "roses/@eaDir"]


@pytest.mark.parametrize("name", ["self", "sub", "locked", "through", "long"])
def test_a_bad_link_is_one_skipped_file(name: str, made: Path, tmp_path: Path) -> None:
    count = 4 + (name == "locked" and os.geteuid() == 0)
    Ended(tmp_path, "info", made / "links" / name).worked(f"images        {count}\n", f"skipped       {5 - count}")


def test_credits_are_not_followed_out_of_the_folder(made: Path, tmp_path: Path) -> None:
    place = made / "links" / "credits_link" / "pictures"
    Ended(tmp_path, "train", place, "--out", "model", *BUNDLED).worked("CREDITS.csv", "link")
    assert not [name for name, data in content(tmp_path / "model").items() if b"kept-private" in data]


@pytest.mark.parametrize("name", ["link.csv", "dangling.csv", "fifo"])
def test_links_and_fifos_are_there_afterwards(name: str, made: Path, tmp_path: Path) -> None:
    path = made / "links" / "out" / name
    before = stat.S_IFMT(path.lstat().st_mode)
    ended = Ended(tmp_path, "embed", CASES / "good", "--encoder", "bundled", "--csv", path)
    assert stat.S_IFMT(path.lstat().st_mode) == before
    if name == "dangling.csv":
        ended.worked()
        assert path.read_text().count("\n") == 4
    else:
        ended.refused("FIFO" if name == "fifo" else "is no table of vectors, so it is not replaced")


def test_accents_match_the_labels(made: Path, tmp_path: Path) -> None:
    place = made / "names" / "accents"
    words = ["train", place / "pictures", "--labels", place / "labels.csv", "--out", "model", *SMALL]
    # All five have their label, "red 3, blue 2". What is counted is what is trained on: of the images, made from four,
    # one red one is the copy of another, and is used once, as everywhere.
    Ended(tmp_path, *words).worked("5 usable", "blue 2, red 2")


def test_formulas_reach_no_table(made: Path, tmp_path: Path) -> None:
    place = made / "names" / "formulas"
    Ended(tmp_path, "train", place, "--out", "model", *BUNDLED).worked()
    Ended(tmp_path, "embed", place, "--encoder", "bundled", "--csv", "clip.csv").worked()
    for path in (tmp_path / "clip.csv", tmp_path / "model" / "images-report.csv"):
        with path.open(newline="") as file:
            rows = list(csv.reader(file))
        names = [row[0] for row in rows]
        assert not [name for name in names if name.startswith(tuple("=+-@\t\r"))]
        assert {"=1+2.jpg", "@SUM(1,2).jpg", "=class/7.jpg"} <= {unguarded(name) for name in names}
    Ended(tmp_path, "train", place, "--vectors", "clip.csv", "--out", "again", *BUNDLED).worked()


def test_escape_sequences_reach_no_terminal(made: Path, tmp_path: Path) -> None:
    place = made / "names" / "escapes"
    for words in (
        ["info", place],
        ["embed", place, "--encoder", "bundled"],
        ["train", place, "--classes", "--out", "model", *SMALL],
    ):
        ended = Ended(tmp_path, *words)
        ended.worked()
        assert "\x1b" not in ended.out + ended.err
        assert "\\x1b" in ended.out + ended.err
    ended = Ended(tmp_path, "generate", "--model", "model", "--class", "zzz")
    ended.refused("\\x1b")
    assert "\x1b" not in ended.err


def test_prompts_have_their_settings_and_end_with_the_line(tmp_path: Path) -> None:
    Ended(
        tmp_path, "generate", "--prompts", CASES / "prompts.jsonl", "--steps", "1", "--size", "64", "--out", "o"
    ).worked()
    lines = [json.loads(line) for line in (tmp_path / "o" / "manifest.jsonl").read_text().splitlines()]
    assert [line["prompt"] for line in lines] == ["a red rose", "a white daisy", "a yellow tulip", "a yellow tulip"]
    assert lines[2]["seed"] == 7
    words = ["--prompts", CASES / "prompts_separators.txt", "--steps", "1", "--size", "64", "--out", "three"]
    Ended(tmp_path, "generate", *words).worked()
    assert (tmp_path / "three" / "manifest.jsonl").read_text().count("\n") == 3


def test_a_label_with_a_comma_is_refused_with_its_line_and_read_in_quotes(tmp_path: Path) -> None:
    place = CASES / "labels_comma"
    words = ["--out", "model", *SMALL]
    Ended(tmp_path, "train", place / "pictures", "--labels", place / "labels.csv", *words).refused("line 3")
    lines = (place / "labels.csv").read_text().splitlines(keepends=True)
    (tmp_path / "labels.csv").write_text("".join(lines[:2] + lines[3:]))
    Ended(tmp_path, "train", place / "pictures", "--labels", "labels.csv", *words).worked("blue, dark")


def test_vectors_of_a_windows_table_are_matched(tmp_path: Path) -> None:
    place = CASES / "clip_backslash"
    words = ["train", place / "pictures", "--vectors", place / "clip.csv", "--out", "model", *BUNDLED]
    Ended(tmp_path, *words).worked()
    assert load_config(tmp_path / "model").training.train_images == 4


def test_long_credits_end_no_training(made: Path, tmp_path: Path) -> None:
    Ended(tmp_path, "train", made / "large" / "credits_long", "--out", "model", *BUNDLED).worked()
    assert load_config(tmp_path / "model").training.images_seen == 16


def test_a_very_tall_image_is_skipped(made: Path, tmp_path: Path) -> None:
    ended = Ended(tmp_path, "info", made / "large" / "tall")
    assert "too large" in ended.out + ended.err
    assert ended.code in (0, 2)


def test_another_limit_lengthens_a_training(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "model")
    _age(tmp_path / "model", 59.0)  # of the one minute
    Ended(tmp_path, "train", CASES / "good", "--out", "model", *BUNDLED[:2], "--resume", "--minutes", "1").worked()
    config = load_config(tmp_path / "model")
    assert config.training.images_seen > 16
    assert config.training.settings["images"] is None
    words = ["train", CASES / "good", "--out", "model", "--resume", "--images", str(config.training.images_seen + 40)]
    Ended(tmp_path, *words).worked()
    assert load_config(tmp_path / "model").training.images_seen == config.training.images_seen + 40


def _age(model: Path, seconds: float) -> None:
    """Let a training have taken so much time."""
    path = model / "training" / "state.safetensors"
    about = {name: value for name, value in read_about(path).items() if name != "digest"}
    counter = json.loads(about["counter"]) | {"seconds": seconds}
    save_tensors(path, read_tensors(path), about | {"counter": json.dumps(counter)})


def test_a_refused_resume_changes_no_file(trained: Path, tmp_path: Path) -> None:
    before = content(trained)
    words = ["train", CASES / "clip_backslash" / "pictures", "--out", trained, "--encoder", "bundled", "--resume"]
    Ended(tmp_path, *words, "--images", "32").refused("have changed")
    assert content(trained) == before


def test_printed_commands_can_be_copied(tmp_path: Path) -> None:
    Ended(tmp_path, "train", CASES / "good", "--out", "with space", *BUNDLED).worked("--model 'with space'")
    assert "--model 'with space'" in (tmp_path / "with space" / "README.md").read_text()


def test_the_shortest_schedule_is_trained_with_its_sample_grid(tmp_path: Path) -> None:
    words = ["train", CASES / "good", "--out", "model", *BUNDLED, "--schedule", "linear", "--schedule-steps", "2"]
    Ended(tmp_path, *words).worked()
    assert list((tmp_path / "model" / "samples").glob("*.png"))


@pytest.mark.parametrize("prompts", [("红玫瑰", "向日葵"), ("красная роза", "жёлтый подсолнух"), ("🌹", "🌻")])
def test_words_that_the_encoder_does_not_know_are_named(prompts: tuple[str, str], tmp_path: Path) -> None:
    ended = Ended(tmp_path, "generate", *prompts, "--steps", "1", "--size", "64", "--out", "o")
    assert ended.code in (0, 2)
    assert "know" in ended.err


def test_files_of_a_folder_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("README.md", "CREDITS.csv"):
        (tmp_path / "mine" / name).write_text("mine")
    Ended(tmp_path, "train", CASES / "good", "--out", "mine", *BUNDLED).refused("README.md")
    assert set(content(tmp_path / "mine").values()) == {b"mine"}


def test_the_home_folder_is_expanded_where_the_shell_does_not(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    Ended(
        tmp_path, "generate", "a rose", "--steps", "1", "--size", "64", "--out=~/pics", home=tmp_path / "home"
    ).worked()
    assert list((tmp_path / "home" / "pics").glob("*.png"))
    assert not (tmp_path / "~").exists()
