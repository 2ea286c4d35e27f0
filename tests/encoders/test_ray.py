"""Embedding with a real Ray on this machine: two actors, one of them killed, a poisoned image, a store that fails."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from pyarrow import parquet

import encoder_factory
import image_zoo as zoo

ROOT = Path(__file__).parents[2]
SHARDS, SIZE = 6, 4

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="Ray is not installed: pip install '.[ray]'"),
]


def fill(folder: Path) -> list[str]:
    """Write the images, and return their names."""
    zoo.fill(folder, SHARDS * SIZE - 2)
    (folder / "003-flaky.png").write_bytes(zoo.encoded(zoo.noise(20, seed=98), "PNG"))
    (folder / "012-poison.jpg").write_bytes(zoo.encoded(zoo.plain(size=(13, 37)), "JPEG"))
    return sorted(path.name for path in folder.iterdir())


def actors(run: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the processes of Ray's actors that the run has started."""
    found = []
    for process in psutil.Process(run.pid).children(recursive=True):
        try:
            if process.cmdline() and process.cmdline()[0].startswith("ray::ShardEmbedder"):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_every_image_is_embedded_exactly_once(tmp_path: Path) -> None:
    names = fill(tmp_path / "photos")
    encoder = encoder_factory.small_pair(tmp_path / "encoder")
    (tmp_path / "notes").mkdir()
    out = tmp_path / "out"
    path = os.pathsep.join([str(ROOT / "tests" / "ray_faults"), str(ROOT / "src")])
    environment = os.environ | {"PYTHONPATH": path, "FAULTS": str(tmp_path / "notes"), "OMP_NUM_THREADS": "1"}
    environment["RAY_worker_niceness"] = "0"  # by default its workers wait for everything else on the machine
    command = [sys.executable, "-m", "captionless", "embed", f"flaky://{tmp_path}/photos", "--shards", str(out)]
    command += ["--engine", "ray", "--workers", "1", "--shard-size", str(SIZE), "--encoder", str(encoder)]
    run = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    killed: list[int] = []
    while run.poll() is None:
        if not killed and list(out.glob("*.parquet")) and len(found := actors(run)) >= 2:
            killed.append(found[0].pid)
            os.kill(found[0].pid, signal.SIGKILL)
        time.sleep(0.1)
    assert run.stderr is not None
    assert run.returncode == 0, run.stderr.read()
    assert len(killed) == 1
    assert {path.name for path in (tmp_path / "notes").iterdir()} == {"reads", "failed", "poisoned"}

    shards = sorted(out.glob("*.parquet"))
    rows = [row for path in shards for row in parquet.read_table(path).to_pylist()]
    assert len(shards) == SHARDS
    assert sorted(row["file"] for row in rows) == names
    assert {row["file"]: row["skipped"].partition(":")[0] for row in rows if row["skipped"]} == {
        "012-poison.jpg": "crashed the decoder"
    }
    assert all(row["vector"] for row in rows if not row["skipped"])

    before = {path: path.stat().st_mtime_ns for path in shards}
    (tmp_path / "notes" / "reads").unlink()
    shards[2].unlink()
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert f"Shards: {SHARDS - 1} of {SHARDS} are complete." in again.stderr
    assert {path: path.stat().st_mtime_ns for path in shards if path != shards[2]} == {
        path: time for path, time in before.items() if path != shards[2]
    }
    read = {Path(line).name for line in (tmp_path / "notes" / "reads").read_text().splitlines()}
    assert read == set(names[2 * SIZE : 3 * SIZE])
    print(f"{len(names)} images, {len(shards)} shards, {len(rows)} rows; one actor of two killed; skipped:")
    print(*(f"{row['file']}: {row['skipped']}" for row in rows if row["skipped"]), sep="\n")
    print(f"The second run read {', '.join(sorted(read))}: the files of the shard that was missing.")
