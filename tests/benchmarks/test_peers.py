"""The comparison itself: equal weights and FLOPs where a table says so, and a meter that counts what was trained."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.gpu_step import SHAPE
from benchmarks.peers import captionless, diffusers_unconditional, peer
from benchmarks.peers.denoising_diffusion import CenterCrop, Compose, RandomHorizontalFlip, Resize, ToTensor
from benchmarks.peers.peer import Meter, Request, count, read_square, to_uint8
from PIL import Image

from benchmarks import cases, gpu_peers
from captionless.models.presets import default_patch
from captionless.models.unet import Denoiser, DenoiserConfig, parameter_count, weight_count


def our_counts(size: int, patch: int) -> dict[str, int]:
    config = DenoiserConfig(patch=patch, condition_width=512, input_skip=True)
    inputs = torch.zeros(1, 3, size, size), torch.zeros(1), torch.zeros(1, 512)
    return count(Denoiser(config), *inputs)


def diffusers_counts(size: int) -> dict[str, int]:
    case = next(one for one in cases.TRAINING if (one.name, one.size) == (cases.DIFFUSERS, size))
    network = diffusers_unconditional._network(Request("train", "", "", size, network=case.network))
    return count(network, torch.zeros(1, 3, size, size), torch.zeros(1))


@pytest.mark.parametrize("size", [32, 64])
def test_a_table_compares_what_its_heading_says(size: int) -> None:
    theirs = diffusers_counts(size)
    assert theirs["weights"] == pytest.approx(our_counts(size, default_patch(size))["weights"], rel=0.15)
    assert theirs["flops"] == pytest.approx(our_counts(size, patch=2)["flops"], rel=0.15)


def test_on_a_gpu_too_diffusers_has_about_our_weights() -> None:
    with torch.device("meta"):
        theirs = diffusers_unconditional.network(gpu_peers.SIZE, gpu_peers.CHANNELS, gpu_peers.GROUPS)
    assert weight_count(SHAPE) * 0.9 < parameter_count(theirs) <= weight_count(SHAPE)


def test_flops_count_a_multiply_add_as_two_and_training_about_three_times_as_much() -> None:
    found = count(torch.nn.Conv2d(4, 8, 3, padding=1, bias=False), torch.zeros(1, 4, 16, 16, requires_grad=True))
    assert found == {"weights": 288, "flops": 2 * 288 * 256, "train_flops": 3 * 2 * 288 * 256}


def test_the_meter_leaves_out_the_first_step_and_ends_after_the_given_seconds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = iter([5.0, 6.0, 7.0, 8.0])
    monkeypatch.setattr(peer, "since_start", lambda: next(clock))
    meter = Meter(Request("train", "", str(tmp_path), 32, batch=4, seconds=3, every=6), lambda path: path.touch())
    assert [meter.step() for _ in range(4)] == [False, False, False, True]
    assert meter.figures() == {
        "images": 12,
        "steps": 3,
        "images_per_second": 4.0,
        "first_step": 5.0,
        "snapshots": [(6.0, "snapshot-000"), (8.0, "snapshot-001")],
    }


def test_all_libraries_see_the_same_square(tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    ramp = np.arange(48 * 20 * 3, dtype=np.uint8).reshape(20, 48, 3)
    Image.fromarray(ramp).save(path)
    ours = read_square(path, 10)
    theirs = Compose([Resize(10), CenterCrop(10), ToTensor()])(Image.open(path))
    assert theirs.shape == ours.shape == (3, 10, 10)
    assert torch.equal(theirs, ours)
    assert to_uint8(ours[None]).shape == (1, 10, 10, 3)


def test_half_of_the_images_are_mirrored() -> None:
    image = Image.fromarray(np.array([[0, 255]], dtype=np.uint8))
    first = {RandomHorizontalFlip()(image).getpixel((0, 0)) for _ in range(50)}
    assert first == {0, 255}


def test_captionless_trains_until_the_meter_has_seen_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("daisy", "rose"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(3):
            pixels = np.random.default_rng(i + 3 * len(name)).integers(0, 255, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{i}.png")
    work = tmp_path / "work"
    request = {"action": "train", "folder": str(tmp_path / "images"), "work": str(work), "size": 16, "batch": 4}
    request |= {"seconds": 0.1, "network": {"width": 16, "classes": True, "encoder": None}}
    monkeypatch.setenv("CAPTIONLESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PROCESS_STARTED", str(time.time()))  # a process of its own would import PyTorch again
    monkeypatch.setattr(sys, "argv", ["captionless", json.dumps(request)])
    peer.answer(captionless.train, captionless.sample)
    answer = json.loads((work / "figures.json").read_text(encoding="utf-8"))
    figures = answer["figures"]
    assert figures["images"] == 4 * figures["steps"] > 0
    assert figures["weights"] > 100_000
    assert figures["train_flops"] > 2 * figures["flops"] > 0
    assert answer["where"]["versions"].keys() >= {"torch", "captionless"}
