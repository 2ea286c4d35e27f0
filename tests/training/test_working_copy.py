"""The contract of captionless.training.working_copy: bf16 computations, float32 weights and gradients."""

from dataclasses import replace

import torch

from captionless.models.unet import Denoiser, DenoiserConfig
from captionless.training.working_copy import WorkingCopy
from tiny import awake, random, unit_vectors

SHAPE = DenoiserConfig(patch=4, width=16, multipliers=(1,), attention=(), condition_width=8)


def backward(copy: WorkingCopy, seed: int) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=copy.network.head.weight.dtype == torch.bfloat16):
        out = copy.network(random(2, 3, 8, 8, seed=seed), torch.tensor([0.3, 0.6]), unit_vectors(2))
    out.float().square().mean().backward()
    copy.add_gradients()


def test_in_float32_the_network_computes_itself() -> None:
    network = awake(Denoiser(SHAPE))
    assert WorkingCopy(network, "float32").network is network


def test_gradients_of_micro_batches_add_up_in_float32_and_resemble_the_exact_ones() -> None:
    network = awake(Denoiser(SHAPE))
    found = []
    for precision in ("float32", "bf16"):
        copy = WorkingCopy(network, precision)
        for step in range(2):  # the second step begins anew
            copy.load()
            backward(copy, 2 * step)
            backward(copy, 2 * step + 1)
        gradients = [weight.grad for weight in network.parameters()]
        assert all(gradient is not None and gradient.dtype == torch.float32 for gradient in gradients)
        found.append(torch.cat([gradient.flatten() for gradient in gradients if gradient is not None]))
    exact, rounded = found
    assert 0 < float((rounded - exact).norm() / exact.norm()) < 0.05


def test_the_copy_follows_the_weights() -> None:
    network = awake(Denoiser(SHAPE))
    copy = WorkingCopy(network, "bf16")
    with torch.no_grad():
        network.head.bias.fill_(0.5)
    assert not torch.equal(copy.network.head.bias, network.head.bias.bfloat16())
    copy.load()
    assert torch.equal(copy.network.head.bias, network.head.bias.bfloat16())


def test_a_layer_that_is_not_used_gets_no_gradient() -> None:
    network = awake(Denoiser(replace(SHAPE, crops=True)))
    copy = WorkingCopy(network, "bf16")
    copy.load()
    backward(copy, 0)
    assert network.embedding.crop is not None
    assert network.embedding.crop.weight.grad is None
    assert network.head.weight.grad is not None
