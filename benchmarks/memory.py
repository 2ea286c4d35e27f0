"""Measure the memory that a training set takes, from 2,000 to 100,000 images, at its first and its second start.

    python -m benchmarks.memory                  # about ten minutes on two idle cores; needs 6 GB of disk
    python -m benchmarks.memory 2000 8000        # smaller folders
    python -m benchmarks.memory --table          # the table of the results

Each folder holds synthetic photographs, JPEGs of 128 x 96 pixels. A fresh process loads it as a training run does:
files are found, read and embedded, the report is written, identical images are removed, and squares of 64 pixels are
mapped. The encoder is a stand-in that returns an image's mean colours in 512 elements, because an encoder's own memory
does not depend on the folder.
Anonymous memory is what the process cannot share or drop (RssAnon, Linux), without what it had before it began.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.record import RESULTS, measured, read

OUT = RESULTS / "memory.jsonl"
COUNTS = (2_000, 100_000)
SIZE, WIDTH = 64, 512


class MeanColours:
    """A stand-in for an encoder: mean colours of the image's quarters, repeated to 512 elements."""

    name, digest, width, image_size = "mean colours", "0" * 64, WIDTH, 32

    def encode_images(self, images: list[Image.Image]) -> np.ndarray:
        """Return a unit vector per image, float32 (n, 512)."""
        small = np.stack([np.asarray(image.resize((2, 2), Image.Resampling.BOX), np.float32) for image in images])
        rows = np.resize(small.reshape(len(images), -1) + 1, (len(images), 12))
        rows = np.tile(rows, (1, WIDTH // 12 + 1))[:, :WIDTH]
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def write_images(folder: Path, count: int) -> None:
    """Write different JPEGs of soft coloured blobs into sub-folders of a thousand."""
    rng = np.random.default_rng(0)
    for start in range(0, count, 1000):
        place = folder / f"{start // 1000:03d}"
        place.mkdir(parents=True)
        for i in range(start, min(count, start + 1000)):
            blobs = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
            blobs.resize((128, 96), Image.Resampling.BICUBIC).save(place / f"photograph_{i:06d}.jpg", quality=70)


def anonymous() -> int:
    """Return the anonymous memory of this process in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def load(folder: Path, start: str) -> None:
    """Load a folder in this process and write one line of results."""
    from captionless.config.train_request import TrainRequest
    from captionless.config.training import TrainConfig
    from captionless.encoders import embeddings
    from captionless.training.dataset import report_dataset_images, split_dataset
    from captionless.training.resolve import TrainPlan
    from captionless.training.start import Start

    plan = TrainPlan(TrainRequest(folder=folder, out=folder.parent / "out"), Start(), TrainConfig(size=SIZE))
    encoder = MeanColours()
    encoder.encode_images([Image.new("RGB", (32, 32))])
    before, peak, stop = anonymous(), [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.01):
            peak[0] = max(peak[0], anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    count = sum(len(names) for _, _, names in os.walk(folder))
    with measured(OUT, "memory", images=count, size=SIZE, start=start) as figures:
        began = time.perf_counter()
        found = embeddings.embed(folder, encoder, sizes=plan.sizes, progress=False)  # type: ignore[arg-type]
        report_dataset_images(found, plan.request.out / "report.csv", lambda _: None, plan.config)
        train, _ = split_dataset(found, found.vectors, plan)
        figures["seconds"] = round(time.perf_counter() - began, 2)
        figures["computed"] = found.computed
        del found
        gc.collect()
        stop.set()
        watcher.join()
        figures["bytes_an_image_at_most"] = round((peak[0] - before) / count)
        figures["bytes_an_image_afterwards"] = round((anonymous() - before) / count)
        assert train.pixels.shape == (count, 3, SIZE, SIZE), train.pixels.shape


def table() -> str:
    """Return the results as a Markdown table, the newest of each case."""
    newest = {(line["case"]["images"], line["case"]["start"]): line for line in read(OUT)}
    rows = ["| images | start | processor time | bytes an image, at most |", "|---|---|---|---|"]
    for (images, start), one in sorted(newest.items()):
        cpu = f"{one['cpu']:,.0f}" if one["cpu"] >= 10 else f"{one['cpu']:.1f}"
        rows.append(f"| {images:,} | {start} | {cpu} s | {one['figures']['bytes_an_image_at_most']:,} |")
    return "\n".join(rows)


def main() -> None:
    """Measure folders of the given sizes, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", nargs="*", type=int, default=COUNTS, help="numbers of images")
    parser.add_argument("--table", action="store_true", help="print the table of the results")
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--start", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.table:
        print(table())
        return
    if options.load:
        load(options.load, options.start)
        return
    for count in options.counts:
        with tempfile.TemporaryDirectory() as place:
            write_images(Path(place) / "images", count)
            for start in ("first", "second"):
                command = [sys.executable, "-m", "benchmarks.memory", "--load", f"{place}/images", "--start", start]
                subprocess.run(command, env=os.environ | {"CAPTIONLESS_CACHE": f"{place}/cache"}, check=True)
    print(table())


if __name__ == "__main__":
    main()
