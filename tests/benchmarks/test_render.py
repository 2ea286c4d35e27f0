"""The page of results: no ratio without the weights and FLOPs of both networks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks.cases import DDP, OURS, SMOKE, TRAINING, Case
from benchmarks.record import Usage, append, line

from benchmarks import render


def write(folder: Path, benchmark: str, case: dict[str, Any], seed: int = 0, **figures: Any) -> None:
    found = line(benchmark, case, figures, Usage(2.0, 3.0, 400_000_000), seed=seed, command=["python"])
    append(folder / "train.jsonl", found)


def trained(folder: Path, case: Case, seed: int, rate: float) -> None:
    counts = {"weights": 8_000_000, "flops": 500_000_000, "train_flops": 1_500_000_000}
    write(folder, "train", case.record("float32"), seed, images_per_second=rate, share_of_peak=0.4, **counts)


def page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "argv", ["render", "--results", str(folder)])
    render.main()
    return (folder / "README.md").read_text(encoding="utf-8")


def test_each_ratio_stands_beside_weights_and_flops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = (next(one for one in TRAINING if one.name == name and one.size == 32) for name in (OURS, DDP))
    for seed in (0, 1):
        trained(tmp_path, ours, seed, 80.0 + 20 * seed)
        trained(tmp_path, theirs, seed, 30.0)
    text = page(tmp_path, monkeypatch)
    row = next(row for row in text.splitlines() if row.startswith(f"| {DDP} (dim 30)"))
    assert "| 8.0 | 0.50 / 1.50 | 30.0 (30.0, 30.0) | 40% | 400 | x 3.00 |" in row
    assert "equal weights" in text
    assert "equal FLOPs" in text  # captionless's network is in both tables at 32 pixels


def test_tiny_trainings_are_in_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(tmp_path, SMOKE[0], 0, 1.0)
    assert "images a second" not in page(tmp_path, monkeypatch)


def test_the_first_time_a_quality_is_reached_is_stated_for_each_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = TRAINING[0].record("float32")
    write(tmp_path, "quality training", case, weights=8_000_000, flops=500_000_000)
    for seed, values in enumerate([(210.0, 150.0, 90.0), (300.0, 220.0, 180.0)]):
        for i, value in enumerate(values):
            write(tmp_path, "quality", case | {"snapshot": i}, seed, kid=value, seconds=60.0 * (i + 1))
    text = page(tmp_path, monkeypatch)
    assert "200: 120, 180; 150: 120, –; 100: 180, –; 75: –, –; 50: –, –" in text
    assert "8.0 M weights, 0.50 GFLOPs" in text
    assert (tmp_path / "time-to-kid.png").is_file()


def test_a_benchmark_without_a_table_of_its_own_is_shown_with_all_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "start", {"command": "generate"}, seconds=1.25, imports=7)
    assert "| command generate | seconds 1.25, imports 7 | 2.00 | 3.00 | 400 |" in page(tmp_path, monkeypatch)
