"""The benchmark of one's own folder: its choices are the same for everyone, and its figures are what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from benchmarks.own_folder import picked
from benchmarks.own_folder_figures import covered, prompt_files, remarks
from benchmarks.own_folder_tables import tables

from captionless.evaluation.metrics.manifold import precision_recall


def test_the_same_images_are_picked_every_time(tmp_path: Path) -> None:
    for i in range(30):
        (tmp_path / f"{i}.jpg").touch()
    first = picked(tmp_path, 10)
    assert first == picked(tmp_path, 10)
    assert len(set(first)) == 10


def test_coverage_is_that_of_the_library_but_for_the_image_of_the_own_vector() -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(40, 3, generator=generator)
    fake = 1.5 * torch.randn(40, 3, generator=generator)
    share = float(covered(real, fake).double().mean())
    assert share <= precision_recall(real, fake).coverage
    fake[0] = real[0]
    without = covered(real[:7], torch.cat([real[:1], 100 + torch.randn(6, 3, generator=generator)]))
    assert not bool(without[0])  # its own copy does not count
    assert covered(real, real.roll(1, 0)).all()


def test_prompts_are_captions_of_photographs_that_were_held_out(tmp_path: Path) -> None:
    (tmp_path / "val" / "rose").mkdir(parents=True)
    row = {"split": "val", "flower": "rose", "clear": True, "caption": "a red rose", "petals": "red"}
    rows = [row | {"file": f"val/rose/{i}.jpg", "caption": f"rose {i}"} for i in range(4)]
    rows += [row | {"file": "train/rose/5.jpg", "split": "train"}, row | {"file": "val/rose/6.jpg", "petals": "none"}]
    (tmp_path / "captions.jsonl").write_text("\n".join(json.dumps(one) for one in rows), encoding="utf-8")
    kinds, petals, table = prompt_files(tmp_path, {"val/rose/0.jpg"}, tmp_path)
    found = [[json.loads(line) for line in path.read_text().splitlines()] for path in (kinds, petals)]
    assert {one["prompt"] for one in found[0]} == {"rose 1", "rose 2", "rose 3"}
    assert [one["prompt"] for one in found[0]] == [one["prompt"] for one in found[1]]
    assert {one["label"] for one in found[0]} == {"rose"}
    assert {one["label"] for one in found[1]} == {"red"}
    assert len(table.read_text().splitlines()) == 6  # the header, and the five with a colour


def test_what_a_command_said_is_kept_without_its_progress() -> None:
    said = "Plan: 10 minutes\nReading images: 4%\rReading images: 100%\nskipped a.txt: no image\nDone.\n"
    assert remarks(said) == ["Plan: 10 minutes", "Done."]
    assert remarks("Plan: 10% held out.") == ["Plan: 10% held out."]


@pytest.mark.parametrize("name", ["scratch-0", "digits-25"])
def test_promises_are_held_against_what_was_seen(name: str) -> None:
    stage = {"size": 32, "expected": 1_000, "seen": 900, "minutes": 10.0, "stopped_early": False}
    estimate = {"value": 0.62, "low": 0.6, "high": 0.64, "n": 500, "real": 0.8}
    figures = {"stages": [stage], "kind": [{"recognised": estimate}]}
    text = tables([{"case": {"row": name}, "figures": figures}])
    assert f"| {name} | 32 px | 1,000 | 900 | -10% |" in text
    assert ("| mean | 62.0% |" in text) is (name == "scratch-0")
