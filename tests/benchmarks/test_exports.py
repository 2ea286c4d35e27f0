"""The benchmark of exports says which folder it lacks before it loads a model."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install -c constraints.txt '.[onnx]')")
exports = pytest.importorskip("benchmarks.exports")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "onnx needs --page, the folder of an export to web"),
        (("--page", "."), "onnx needs --onnx, the folder of an export to onnx"),
        (("--page", "missing", "webgpu"), "webgpu needs --page, the folder of an export to web"),
        (("speed",), "there is no part speed. Choose from: onnx, diffusers, "),
    ],
)
def test_a_folder_that_is_missing_is_named(
    words: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["exports", *words])
    with pytest.raises(SystemExit) as end:
        exports.main()
    assert end.value.code == 2
    assert message in capsys.readouterr().err
