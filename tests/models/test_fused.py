"""The contract of captionless.models.fused: kernels that compute what the plain layers compute.

Triton's interpreter runs the kernels on the CPU, where it is installed (``pip install triton``).
"""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captionless.models import fused
from captionless.models.blocks import GroupNorm, add_convolution, norm_activation
from captionless.models.unet import Denoiser, DenoiserConfig
from tiny import awake, random, unit_vectors

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    pytest.importorskip("triton", reason="Triton is not installed; on the CPU only these tests use it")


def error(found: Tensor, expected: Tensor) -> float:
    """Return the norm of the difference, relative to that of the expected values."""
    return float((found.detach().double() - expected.detach()).norm() / expected.detach().norm())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize(("channels", "side"), [(32, 20), (64, 4)])  # more positions than a block of rows, and fewer
@pytest.mark.usefixtures("interpreted")
def test_the_kernels_and_their_gradients_equal_the_formula_in_float64(
    dtype: torch.dtype, biased: bool, modulated: bool, silu: bool, channels: int, side: int
) -> None:
    norm = GroupNorm(channels // 16, channels)
    for seed, weight in enumerate(norm.parameters()):
        weight.data = 1 + random(channels, seed=seed)
    norm.to(dtype)
    x = (3 + 2 * random(2, channels, side, side)).to(dtype).contiguous(memory_format=torch.channels_last)
    bias = random(channels, seed=3).to(dtype) if biased else None
    modulation = random(2, 2 * channels, seed=4).to(dtype) if modulated else None
    leaves = [one.requires_grad_() for one in (x, bias, modulation) if one is not None] + list(norm.parameters())
    y = fused.norm_silu(x, norm, bias=bias, modulation=modulation, silu=silu)
    y.backward(random(*y.shape, seed=5).to(dtype))

    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    rest = iter(exact)
    h = next(rest)
    h = h + next(rest)[:, None, None] if biased else h
    factors = next(rest) if modulated else None
    z = F.group_norm(h, norm.num_groups, next(rest), next(rest), norm.eps)
    if factors is not None:
        scale, shift = factors.unflatten(1, (-1, 2))[..., None, None].unbind(2)
        z = shift + (1 + scale) * z
    expected = F.silu(z) if silu else z
    expected.backward(random(*y.shape, seed=5).to(dtype).double())
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert error(y, expected) < TOLERANCE[dtype]
    for leaf, true in zip(leaves, exact, strict=True):
        assert leaf.grad is not None
        assert true.grad is not None
        assert error(leaf.grad, true.grad) < TOLERANCE[dtype]


@pytest.mark.usefixtures("interpreted")
def test_large_values_lose_no_precision() -> None:
    """The variance is not computed from squares of the values, which would cancel."""
    x = (1000 + random(1, 32, 8, 8)).contiguous(memory_format=torch.channels_last)
    assert error(fused.norm_silu(x, GroupNorm(2, 32), silu=False), F.group_norm(x.double(), 2)) < 1e-4


@pytest.mark.usefixtures("interpreted")
def test_a_convolution_and_its_bias_are_added_with_their_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x, h = nn.Conv2d(32, 32, 3, padding=1), random(2, 32, 5, 5), random(2, 32, 5, 5, seed=1)
    found = []
    for interpret in "10":
        monkeypatch.setenv("TRITON_INTERPRET", interpret)
        layer.zero_grad()
        out = add_convolution(x, layer, h)
        out.square().mean().backward()
        found.append([out, layer.weight.grad, layer.bias.grad])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("interpreted")
def test_a_whole_network_gives_the_same_with_and_without_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = DenoiserConfig(
        patch=2, width=16, multipliers=(1, 2), attention=(1,), condition_width=8, tokens=2, input_skip=True
    )
    network = awake(Denoiser(shape)).to(memory_format=torch.channels_last)
    found = []
    for interpret in "10":
        monkeypatch.setenv("TRITON_INTERPRET", interpret)
        network.zero_grad()
        out = network(random(2, 3, 16, 16), torch.tensor([0.2, 0.7]), unit_vectors(2))
        out.square().mean().backward()
        found.append([out, *(weight.grad for weight in network.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_other_layers_and_functions_take_the_plain_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "can_fuse", lambda x: True)
    monkeypatch.setattr(fused, "norm_silu", lambda *args, **kwargs: pytest.fail("fused"))
    x = random(2, 16, 4, 4)
    assert norm_activation(x, nn.BatchNorm2d(16), F.silu).shape == x.shape
    assert norm_activation(x, GroupNorm(1, 16), F.gelu).shape == x.shape


def test_without_a_cuda_device_nothing_is_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert not fused.can_fuse(random(2, 16, 4, 4))


@pytest.mark.usefixtures("interpreted")
def test_the_kernels_are_tried_before_they_are_used() -> None:
    assert fused.works_on.__wrapped__(torch.device("cpu"))
    with torch.inference_mode():  # in which sampling calls them first
        assert fused.works_on.__wrapped__(torch.device("cpu"))


@pytest.mark.parametrize("failure", [RuntimeError("no C compiler"), None])
def test_kernels_that_fail_or_compute_something_else_are_not_used(
    failure: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(x: Tensor, norm: nn.Module) -> Tensor:
        if failure:
            raise failure
        return 1.1 * F.silu(norm(x))

    monkeypatch.setattr(fused, "_kernels", lambda: fused)
    monkeypatch.setattr(fused, "norm_silu", wrong)
    pytest.importorskip("triton", reason="what fails is Triton")
    assert not fused.works_on.__wrapped__(torch.device("cpu"))


def test_a_bug_of_our_own_is_no_failure_of_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object) -> Tensor:
        raise KeyError("nobody thought of it")

    pytest.importorskip("triton", reason="its errors are told from bugs")
    monkeypatch.setattr(fused, "_kernels", lambda: fused)
    monkeypatch.setattr(fused, "norm_silu", bug)
    with pytest.raises(KeyError, match="nobody thought of it"):
        fused.works_on.__wrapped__(torch.device("cpu"))
