"""The contract of captionless.device: how many threads compute."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from captionless.device import usable_cpus


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def system(root: Path, group: str, files: dict[str, str]) -> Path:
    """Write the files of a Linux system with this content of /proc/self/cgroup."""
    texts = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in (texts | {"proc/self/cgroup": group + "\n"}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("group", "files", "expected"),
    [
        ("0::/", {"cpu.max": "max 100000\n"}, 8),
        ("0::/", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/", {"cpu.max": "390000 100000\n"}, 3),
        ("0::/", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/", {"cpu.max": "6400000 100000\n"}, 8),
        ("0::/a/b", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/a/b", {"a/b/cpu.max": "200000 100000\n", "a/cpu.max": "300000 100000\n"}, 2),
        ("0::/a", {"b/cpu.max": "200000 100000\n"}, 8),
        ("0::/../outside", {"cpu.max": "400000 100000\n"}, 4),
        ("3:memory:/\n2:cpu,cpuacct:/", {"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ("2:cpu,cpuacct:/", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ("2:cpu:/docker/1", {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "50000\n"}, 2),
        ("2:cpu:/", {"cpu/cpu.cfs_quota_us": "0\n", "cpu/cpu.cfs_period_us": "0\n"}, 8),
        ("2:cpuset:/", {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "50000\n"}, 8),
    ],
)
def test_a_quota_limits_the_cpus(group: str, files: dict[str, str], expected: int, tmp_path: Path) -> None:
    assert usable_cpus(system(tmp_path, group, files)) == expected


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path) == 8


@pytest.mark.parametrize(
    ("given", "variables"),
    [("1", {}), ("1", {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}), ("", {"OMP_NUM_THREADS": "1"})],
)
def test_before_pytorch_is_imported_its_threads_are_set(given: str, variables: dict[str, str]) -> None:
    script = f"import captionless.device as device; device.use_threads({given}); import torch; "
    script += "print(torch.get_num_threads())"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_"))}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment | variables)
    assert done.stdout.strip() == "1", done.stderr


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_threads_soon_sleep_when_they_wait_unless_the_user_says_otherwise(
    variables: dict[str, str], expected: str
) -> None:
    script = "import os, captionless.device as device; device.use_threads(); print(os.environ.get('GOMP_SPINCOUNT'))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment | variables)
    assert done.stdout.strip() == expected, done.stderr
