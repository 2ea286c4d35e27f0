"""The contract of captionless.device: which number format to compute in, on which device."""

from collections.abc import Callable

import pytest
import torch

from captionless import device as precision
from captionless.device import autocast, default_device, resolve_precision
from captionless.errors import CaptionlessError

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")


def answers(value: object) -> Callable[..., object]:
    return lambda *_, **__: value


@pytest.mark.parametrize("device", [CPU, CUDA, MPS])
@pytest.mark.parametrize("name", ["float32", "bf16"])
def test_a_format_asked_for_is_used(name: str, device: torch.device) -> None:
    assert resolve_precision(name, device) == name


@pytest.mark.parametrize(("able", "expected"), [(True, "bf16"), (False, "float32")])
def test_on_cuda_the_default_is_bf16_where_the_device_multiplies_it(
    able: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", answers(able))
    assert resolve_precision("auto", CUDA) == expected


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx2": True}, "float32"), ({"avx512_bf16": True}, "bf16"), ({"amx_tile": True}, "bf16"), ({}, "float32")],
)
def test_on_a_cpu_the_default_is_bf16_where_the_processor_multiplies_it(
    capabilities: dict[str, bool], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", answers(capabilities), raising=False)
    assert resolve_precision("auto", CPU) == expected


def test_where_a_cpu_cannot_be_asked_the_default_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert resolve_precision("auto", CPU) == "float32"


def test_on_apples_chips_the_default_is_float32() -> None:
    assert resolve_precision("auto", MPS) == "float32"


def test_an_unknown_format_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(CaptionlessError, match=r"one of auto, float32, bf16, not 'fp8'"):
        resolve_precision("fp8", CPU)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_the_default_device_is_the_accelerator_that_is_there(
    cuda: bool, mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", answers(cuda))
    monkeypatch.setattr(torch.backends.mps, "is_available", answers(mps))
    assert default_device().type == expected


@pytest.mark.parametrize(("name", "dtype"), [("float32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_layer_computes_in_the_format_of_its_context(name: str, dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(4, 4)
    with autocast(name, CPU):
        assert layer(torch.ones(1, 4)).dtype == dtype
    assert precision.PRECISIONS == ("auto", "float32", "bf16")
