"""Measure a training step and an image in the latents of an autoencoder, beside the same network on pixels.

    python -m benchmarks.latents            # some minutes; the largest needs 4 GB of memory
    python -m benchmarks.latents --table    # the table of the results

The autoencoder has the configuration of TAESD and random weights, because time and memory do not depend on them. Each
case is measured in a fresh process with one thread: seconds of processor time, which other programs hardly change, and
the largest resident memory. Pixels are denoised by the network that is the default at their size.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS, measured, peak_memory, read

OUT = RESULTS / "latents.jsonl"
CASES = tuple(
    (space, size, what) for size in (256, 512) for space in ("pixels", "latents") for what in ("train", "sample")
)
BATCH, STEPS = 4, 20


def measure(space: str, size: int, what: str, place: str) -> None:
    """Measure one case in this process, and write one line of results."""
    import torch

    torch.set_num_threads(1)
    from captionless.checkpoints.config import ModelConfig
    from captionless.config.sampling import SamplingConfig
    from captionless.config.training import TrainConfig
    from captionless.generation.sample import Stage, sample
    from captionless.latents import PIXELS, LatentSpace
    from captionless.latents.autoencoder import load_autoencoder
    from captionless.training.start import Start

    pixels = torch.randint(0, 256, (2 * BATCH, 3, size, size), dtype=torch.uint8)
    used: Any = PIXELS
    encoding = 0.0
    if space == "latents":
        used = LatentSpace(load_autoencoder(place)).fitted(pixels[:1], torch.device("cpu"))
        began = time.process_time()
        used.encode(pixels[:2] / 127.5 - 1)
        encoding = (time.process_time() - began) / 2
    config, start = TrainConfig(size=size, width=64, batch=BATCH, images=BATCH, precision="float32"), Start(space=used)
    with measured(OUT, "latents", space=space, size=size, what=what) as figures:
        if what == "train":
            figures["seconds_an_image"] = _train(start, config, pixels)
        else:
            model = ModelConfig(
                size, _shape(start, config), None, classes=tuple(map(str, range(512))), autoencoder=used.reference
            )
            stage = Stage(_network(start, config), model, used)
            sampling = SamplingConfig(steps=STEPS, batch=1, precision="float32")
            began = time.process_time()
            sample([stage], torch.nn.functional.normalize(torch.randn(1, 512), dim=1), [0], sampling)
            figures["seconds_an_image"] = time.process_time() - began
        figures["seconds_to_encode"], figures["bytes"] = encoding, peak_memory()


def _shape(start: Any, config: Any) -> Any:
    from captionless.training.network import network_config

    return network_config(start, config, 512)


def _network(start: Any, config: Any) -> Any:
    import torch

    from captionless.device import to_device
    from captionless.models.unet import Denoiser

    return to_device(Denoiser(_shape(start, config)), torch.device("cpu"))


def _train(start: Any, config: Any, pixels: Any) -> float:
    """Return the seconds an image of a step, after one that is not timed."""
    import torch

    from captionless.training.dataset import Examples
    from captionless.training.network import noise_schedule
    from captionless.training.state import begin_state
    from captionless.training.step import TrainStep

    device, side = torch.device("cpu"), config.size // start.space.factor
    stored = pixels if start.space.factor == 1 else torch.randint(0, 256, (len(pixels), 8, side, side)).half()
    conditions = torch.nn.functional.normalize(torch.randn(len(pixels), 512), dim=1)
    state = begin_state(_network(start, config).train(), config, noise_schedule(config))
    step = TrainStep(state, Examples(pixels, conditions, source=stored.to(device)))
    step()
    began = time.process_time()
    step()
    return (time.process_time() - began) / config.batch


def table() -> str:
    """Return the results as a Markdown table, the newest of each case."""
    newest = {tuple(line["case"].values()): line for line in read(OUT)}
    rows = [
        "| images of | denoised | training, s an image | memory | 20 steps, s an image | memory |",
        "|---|---|---|---|---|---|",
    ]
    for space, size in dict.fromkeys(case[:2] for case in CASES):
        found = [newest.get((space, size, what), {}).get("figures") for what in ("train", "sample")]
        cells = [f"{one['seconds_an_image']:.2f} | {one['bytes'] / 1e9:.1f} GB" if one else "– | –" for one in found]
        rows.append(f"| {size} px | {space} | {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> None:
    """Measure every case, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="print the table of the results")
    parser.add_argument("--case", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        measure(options.case[0], int(options.case[1]), *options.case[2:])
    elif not options.table:
        from diffusers import AutoencoderTiny

        with tempfile.TemporaryDirectory() as place:
            AutoencoderTiny().save_pretrained(Path(place))
            for case in CASES:
                subprocess.run(
                    [sys.executable, "-m", "benchmarks.latents", "--case", *map(str, case), place], check=True
                )
    if not options.case:
        print(table())


if __name__ == "__main__":
    main()
