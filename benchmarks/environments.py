"""Make an environment of its own for each measured library, from the package index and with pinned versions.

Where PyTorch's default build is not wanted, let pip find another one as usual (``PIP_EXTRA_INDEX_URL`` or
``PIP_FIND_LINKS``).
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.record import ROOT

COMMON = ("torch==2.13.0", "numpy", "pillow", "accelerate", "safetensors")
RUNTIMES = ("onnx==1.23.2", "onnxscript==0.7.2", "onnxruntime==1.32.0")
DENOISING_DIFFUSION = (*COMMON, "einops==0.8.2", "ema-pytorch==0.8.3", "scipy", "tqdm")


@dataclass(frozen=True)
class Environment:
    """The packages of one environment; versions without a pin are those of ``constraints.txt``.

    Args:
        packages: packages to install with what they require.
        alone: packages to install without what they require.
    """

    packages: tuple[str, ...]
    alone: tuple[str, ...] = ()


ENVIRONMENTS = {
    "captionless": Environment(("torch==2.13.0", ".", *RUNTIMES)),
    # Without torchvision and pytorch-fid: the former does not load beside a CPU build of PyTorch, the latter needs it.
    "denoising_diffusion": Environment(DENOISING_DIFFUSION, ("denoising-diffusion-pytorch==2.3.4",)),
    "diffusers_unconditional": Environment((*COMMON, "diffusers==0.42.1")),
}
"""The environment of each module in ``benchmarks/peers``."""


def python(peer: str, work: Path) -> str:
    """Return the interpreter of a library's environment below ``work``, which is made if it is not there yet."""
    wanted, folder = ENVIRONMENTS[peer], work / "environments" / peer
    interpreter, complete = folder / "bin" / "python", folder / "complete.txt"
    listed = "\n".join(wanted.packages + wanted.alone)
    if not complete.is_file() or complete.read_text(encoding="utf-8") != listed:
        print(f"making the environment of {peer} in {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(interpreter), "-m", "pip", "install", "--quiet"]
        constraints = ["--constraint", str(ROOT / "constraints.txt")]
        subprocess.run([*install, *constraints, *wanted.packages], cwd=ROOT, check=True)
        if wanted.alone:
            subprocess.run([*install, "--no-deps", *wanted.alone], check=True)
        complete.write_text(listed, encoding="utf-8")
    return str(interpreter)
