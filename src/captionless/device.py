"""Choose the device, the number format and the threads of computations."""

from __future__ import annotations

import errno
import math
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from captionless.errors import one_of

if TYPE_CHECKING:
    import torch

Network = TypeVar("Network", bound="torch.nn.Module")

Precision = Literal["auto", "float32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
SPINS = 10_000
"""Rounds for which a CPU thread waits for the others in a loop before it sleeps (libgomp, PyTorch's OpenMP on Linux).

By default it is 300,000. If other programs use the CPUs, threads then mostly wait: an image took 94 seconds on two busy
cores, and 11 to 20 seconds with 5,000 to 20,000 rounds. On two idle cores there was no difference, but the server may
lose by it there (``benchmarks/results/serve.md``).
"""


def default_device() -> torch.device:
    """Return the available accelerator, or the CPU if there is none."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def resolve_precision(name: str, device: torch.device) -> str:
    """Return ``float32`` or ``bf16``; ``auto`` selects the faster of the two on ``device``.

    On a CPU, bf16 is faster only with native instructions (AMX or AVX512-BF16). Without them it is emulated, which
    was measured to be 15 times slower than float32.
    """
    import torch

    one_of("precision", name, PRECISIONS)
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    able: dict[str, bool] = {}
    if device.type == "cpu":  # PyTorch before 2.12 cannot report the CPU's features
        able = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16" if any(able.get(name) for name in ("amx_bf16", "amx_tile", "avx512_bf16")) else "float32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return a context manager that runs a network in ``precision`` (``float32`` or ``bf16``)."""
    import torch

    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def exact_convolutions(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Return a context manager that disables TF32 (10-bit mantissa), CUDA's default for float32 convolutions."""
    import torch

    if precision == "float32" and device.type == "cuda":
        return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    return nullcontext()


def memory_format(device: torch.device) -> torch.memory_format:
    """Return the memory format of images and weights that is fastest on a device.

    Channels-last is faster on CPUs and on CUDA (see ``captionless.models.fused``). On MPS, views in that format have
    given wrong results.
    """
    import torch

    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def to_device(network: Network, device: torch.device) -> Network:
    """Move a network to a device, in the memory format that is fastest there."""
    return network.to(device).to(memory_format=memory_format(device))  # type: ignore[call-overload, no-any-return]


def memory_bytes() -> float:
    """Return the size of this machine's memory; infinity if the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return math.inf


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means that there is not enough memory; only its message tells for some devices."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    signs = ["can't allocate memory", "out of memory", "Storage size calculation overflowed"]
    if isinstance(error, ImportError):  # the memory is too small for a library itself
        signs = ["failed to map segment", "annot allocate memory"]
    return isinstance(error, RuntimeError | ImportError) and any(sign in str(error) for sign in signs)


def usable_cpus(root: Path = Path("/")) -> int:
    """Return the number of CPUs that this process may use, at least 1.

    It is limited by the affinity of the process and by the quotas of its control groups (containers, services), which
    are rounded down. PyTorch heeds only the affinity.

    Args:
        root: the folder that contains ``proc`` and ``sys``.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cpus, *_quotas(root)]))


def use_threads(threads: int | None = None) -> None:
    """Set the number of CPU threads of this process.

    Threads beyond the usable CPUs wait for each other: two on one CPU were measured to take three times the CPU time of
    one. Call it before PyTorch is imported: later, it only sets PyTorch's number of threads.

    Args:
        threads: number of threads; by default ``OMP_NUM_THREADS``, or if that is not set ``usable_cpus()``.
    """
    if torch := sys.modules.get("torch"):
        if threads or "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(threads or usable_cpus())
        return
    if threads:
        os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    os.environ.setdefault("OMP_NUM_THREADS", str(usable_cpus()))
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))


@contextmanager
def threads_restored(threads: int | None = None) -> Iterator[bool]:
    """Let a block compute with ``threads`` CPU threads, or another number that it sets; the number before is restored.

    Yields:
        Whether the block may choose the number: none is given, and that of PyTorch is the default.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield threads is None and before == usable_cpus()
    finally:
        torch.set_num_threads(before)


def use_threads_here(threads: int) -> None:
    """Set the number of CPU threads with which the calling thread computes, and no other."""
    import torch

    torch.get_num_threads()  # the first time, a thread is given the number that any thread set last
    torch.set_num_threads(threads)


def _quotas(root: Path) -> Iterator[int]:
    """Yield the CPU quotas of this process's control groups and of those that contain them, rounded down.

    The files are those of cgroups(7): ``cpu.max`` in version 2, ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us`` in
    version 1. In a container, the paths may be those outside; its own group is then the mounted folder.
    """
    groups = []
    with suppress(OSError):
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    for group in groups:
        _, controllers, path = group.split(":", 2)
        mounted, files = root / "sys/fs/cgroup", ["cpu.max"]
        if controllers:
            mounted, files = mounted / "cpu", ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        if controllers and "cpu" not in controllers.split(","):
            continue
        folder = mounted / path.lstrip("/")
        for inside in (folder, *folder.parents):
            if inside.is_relative_to(mounted):
                with suppress(OSError, ValueError, ZeroDivisionError):  # no such file, or no limit
                    quota, period = " ".join((inside / file).read_text(encoding="utf-8") for file in files).split()
                    if quota != "-1":
                        yield int(quota) // int(period)
