"""What every benchmark writes: one line per measurement, with all that is needed to repeat it."""

from pathlib import Path

import pytest
from benchmarks.record import measured, read, run

from platforms import needs_posix

pytestmark = needs_posix("figures of what a process used")
REQUIRED = {"benchmark", "case", "figures", "seed", "wall", "cpu", "peak_memory", "time", "commit", "command"}
REQUIRED |= {"versions", "processor", "cores", "threads", "device"}


def test_each_measurement_appends_one_complete_line(tmp_path: Path) -> None:
    path = tmp_path / "results" / "lines.jsonl"
    for size in (32, 64):
        with measured(path, "step", seed=3, size=size) as figures:
            figures["images"] = 2 * size
    lines = read(path)
    assert [line["figures"]["images"] for line in lines] == [64, 128]
    assert all(line.keys() >= REQUIRED for line in lines)
    assert lines[0]["case"] == {"size": 32}
    assert lines[0]["seed"] == 3
    assert "torch" in lines[0]["versions"]


def test_a_failed_measurement_leaves_no_line(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), measured(tmp_path / "lines.jsonl", "step"):
        raise ZeroDivisionError
    assert read(tmp_path / "lines.jsonl") == []


def test_a_child_is_charged_with_its_own_memory_and_a_failure_names_its_log(tmp_path: Path) -> None:
    small = run(["python", "-c", "pass"], tmp_path / "small.txt")
    large = run(["python", "-c", "held = b'x' * 100_000_000"], tmp_path / "large.txt")
    assert large.peak_memory - small.peak_memory > 90_000_000
    with pytest.raises(RuntimeError, match=r"status 3; its output is in .*bad\.txt"):
        run(["python", "-c", "raise SystemExit(3)"], tmp_path / "bad.txt")
