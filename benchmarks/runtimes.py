"""Our weights under other runtimes: one network call of the bundled model in PyTorch and in ONNX Runtime."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

import captionless
from benchmarks.peers.peer import count
from benchmarks.record import RESULTS, measured

OUT = RESULTS / "runtimes.jsonl"


def main() -> None:
    """Measure one call of every stage in every runtime in turn, ``--repeats`` times."""
    options = _options()
    for stage in captionless.load("bundled").stages:
        config, size, network = stage.denoiser.config, stage.config.size, stage.denoiser.float().eval()
        for batch in options.batches:
            generator = torch.Generator().manual_seed(0)
            channels = config.channels + config.low_res_channels
            xt = torch.randn(batch, channels, size, size, generator=generator)
            condition = torch.randn(batch, config.condition_width, generator=generator)
            inputs = xt, torch.rand(batch, generator=generator), condition
            with torch.no_grad():
                runtimes = {"PyTorch": lambda call=network, given=inputs: call(*given)}
                runtimes["ONNX Runtime"] = _onnx_runtime(network, inputs)
                difference = float((runtimes["PyTorch"]() - runtimes["ONNX Runtime"]()).abs().max())
            counts = count(network, *(one[:1] for one in inputs))
            network.requires_grad_(False).eval()
            for seed in range(options.repeats):
                for name, call in runtimes.items():
                    with measured(OUT, "runtimes", seed, runtime=name, size=size, batch=batch) as figures:
                        figures["images_per_second"] = batch / _fastest(call, options.seconds)
                        figures |= {"largest_difference": difference, **counts}
                    print(size, batch, name, figures, flush=True)


def _onnx_runtime(network: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Callable[[], torch.Tensor]:
    """Return a call of the network in ONNX Runtime, with as many threads as PyTorch uses."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        torch.onnx.export(network, inputs, path, dynamo=True, verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = {known.name: one.numpy() for known, one in zip(session.get_inputs(), inputs, strict=True)}
    return lambda: torch.from_numpy(session.run(None, given)[0])


@torch.no_grad()
def _fastest(call: Callable[[], torch.Tensor], seconds: float) -> float:
    """Return the seconds of the fastest call within a time limit; the first call is not counted."""
    call()
    best, ends = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < ends or best == float("inf"):
        started = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - started)
    return best


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runtimes", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each measurement")
    parser.add_argument("--repeats", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
