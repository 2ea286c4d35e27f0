"""The contract of captionless.training.muon: orthogonal updates of matrices, AdamW for the rest, exact resume."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from captionless.config.training import TrainConfig
from captionless.diffusion.schedules import CosineSchedule
from captionless.models.orthogonal import orthogonalise
from captionless.models.unet import Denoiser, DenoiserConfig
from captionless.training.muon import RATE, UPDATE, Muon
from captionless.training.state import TrainState, begin_state, restore_state, save_state
from tiny import random

LR, DECAY = 1e-2, 0.1


def optimizer(*weights: Tensor) -> Muon:
    parameters = [weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight) for weight in weights]
    return Muon(parameters, lr=torch.tensor(LR), betas=(0.9, 0.99), weight_decay=DECAY)


def test_a_matrix_is_updated_by_a_step_of_known_size_and_decays() -> None:
    weight = nn.Parameter(random(32, 48))
    before = weight.detach().clone()
    weight.grad = 1e-3 * random(32, 48, seed=1)  # its size does not matter
    optimizer(weight).step()
    update = before * (1 - RATE * LR * DECAY) - weight.detach()
    torch.testing.assert_close(update, RATE * LR * UPDATE * 48**0.5 * orthogonalise(weight.grad[None])[0])
    assert float(update.square().mean().sqrt()) == pytest.approx(RATE * LR * UPDATE, rel=0.15)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_is_updated_as_the_matrix_that_it_is(layout: torch.memory_format) -> None:
    kernel = nn.Parameter(random(16, 20, 3, 3).contiguous(memory_format=layout))
    matrix = nn.Parameter(kernel.detach().flatten(1).clone())
    gradient = random(16, 20, 3, 3, seed=1)
    kernel.grad, matrix.grad = gradient.contiguous(memory_format=layout), gradient.flatten(1)
    optimizer(kernel, matrix).step()
    torch.testing.assert_close(kernel.detach().flatten(1), matrix.detach(), atol=1e-5, rtol=1e-4)


def test_vectors_and_small_matrices_are_updated_by_adamw() -> None:
    weights = [random(32), random(8, 64)]
    ours, theirs = ([nn.Parameter(weight.clone()) for weight in weights] for _ in range(2))
    settings = {"lr": torch.tensor(LR), "betas": (0.9, 0.99), "weight_decay": DECAY}
    optimizers = Muon(ours, **settings), torch.optim.AdamW(theirs, **settings)  # type: ignore[arg-type]
    for step in range(3):
        for parameters, each in zip((ours, theirs), optimizers, strict=True):
            for weight in parameters:
                weight.grad = random(*weight.shape, seed=step)
            each.step()
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)


def test_the_momentum_averages_gradients() -> None:
    weight = nn.Parameter(random(16, 16))
    muon = optimizer(weight)
    expected = torch.zeros(16, 16)
    for step in range(3):
        weight.grad = random(16, 16, seed=step)
        muon.step()
        expected = 0.95 * expected + 0.05 * weight.grad
    torch.testing.assert_close(muon.state[weight]["momentum"], expected)


def test_a_restored_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    config = TrainConfig(size=8, batch=4, images=100, optimizer="muon")
    shape = DenoiserConfig(patch=2, width=16, multipliers=(1, 2), attention=(1,), condition_width=8, tokens=2)

    def begun() -> TrainState:
        torch.manual_seed(0)
        return begin_state(Denoiser(shape).to(memory_format=torch.channels_last), config, CosineSchedule())  # type: ignore[call-overload]

    def step(state: TrainState, seed: int) -> None:
        for weight in state.network.parameters():
            weight.grad = torch.empty_like(weight).copy_(random(*weight.shape, seed=seed))
        state.optimizer.step()

    whole, half = begun(), begun()
    for seed in range(4):
        step(whole, seed)
        if seed < 2:
            step(half, seed)
    save_state(tmp_path, half)
    restored = begun()
    restore_state(tmp_path, restored)
    for seed in (2, 3):
        step(restored, seed)
    for one, other in zip(whole.network.parameters(), restored.network.parameters(), strict=True):
        assert torch.equal(one, other)
