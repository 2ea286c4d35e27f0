"""Fixtures that several test files share."""

import os
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

import tiny
from captionless.checkpoints.model import Model
from captionless.encoders import dual_encoder, features, loading
from captionless.models.unet import Denoiser
from recorder import FakeGraph

# The same examples in every run, however slow the machine, and nothing written beside the sources.
settings.register_profile("captionless", deadline=None, derandomize=True, database=None)
settings.load_profile("captionless")

# For networks this small a second thread does little but wait, and on a busy machine it waits long. The command line
# respects the variable, in this process and in others.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

# On a Mac too, the tests compare what a CPU computes; accelerate tells processes that the tests start.
if torch.backends.mps.is_available():
    torch.backends.mps.is_available = lambda: False
    os.environ["ACCELERATE_USE_CPU"] = "true"

# Triton decides when it is first imported, by PyTorch perhaps, whether its kernels are compiled or interpreted.
if find_spec("triton"):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        import_module("captionless.models.fused_kernels")


def load_once(name: str, kind: Any, folder: Path, device: str) -> Any:
    """Load the network of an encoder, but files that have not changed only once; the tests do so a hundred times."""
    files = sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir() if path.is_file())
    key = (str(folder), kind.noun, device, *files)
    if key not in LOADED:
        LOADED[key] = loading.load_encoder_network(name, kind, folder, device)
    return LOADED[key]


LOADED: dict[Any, Any] = {}
features.load_encoder_network = dual_encoder.load_encoder_network = load_once


@pytest.fixture
def denoiser() -> Denoiser:
    """A small denoiser with random weights everywhere; 3 channels, any size divisible by 2."""
    return tiny.denoiser()


@pytest.fixture
def model() -> Model:
    """A small model that paints 8 x 8 pixels."""
    return tiny.model()


@pytest.fixture(autouse=True)
def same_randomness() -> None:
    """Let tests that draw from the global generator see the same numbers in any order."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def all_remarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test hear the remarks that a process makes once."""
    monkeypatch.setattr("captionless.files._REMARKED", set())


@pytest.fixture(scope="module")
def module_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give the tests of a module a cache of their own, for models that they share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPTIONLESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Call the command line's entry point in this process, in an empty folder; return its exit code."""
    from captionless.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAPTIONLESS_CACHE", str(tmp_path / "cache"))

    def call(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["captionless", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        return int(stop.value.code or 0)

    return call


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Let the CPU capture and replay functions as if it were a CUDA device."""

    class Stream:
        def wait_stream(self, other: object) -> None:
            pass

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream())
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: torch.no_grad())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, **options: graph.recorder)
    return torch.device("cuda")
