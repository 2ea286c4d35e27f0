"""Measure what embedding by shards takes: memory by the number of images, and processor time by image.

    python -m benchmarks.scale                   # about five minutes on two idle cores
    python -m benchmarks.scale 2000 8000         # smaller sources
    python -m benchmarks.scale --photographs     # processor time of decoding and encoding the flowers, on one core

The images are JPEGs of 48 x 36 pixels in a store that makes each when it is read. The encoder is a stand-in that
returns mean colours in 512 elements. Both take little time, so that what is measured is everything else.
"""

from __future__ import annotations

import argparse
import functools
import io
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from PIL import Image

from benchmarks.memory import MeanColours
from benchmarks.record import RESULTS, ROOT, measured

COUNTS = (10_000, 100_000)


class Synthetic(fsspec.AbstractFileSystem):
    """A store with as many images as its path says: ``synthetic://10000``."""

    protocol = "synthetic"

    def find(self, path: str, detail: bool = False, **_: Any) -> dict[str, dict[str, Any]]:
        """Return the images."""
        names = (f"{path}/{i:09}.jpg" for i in range(int(path)))
        return {name: {"name": name, "size": 1000, "type": "file"} for name in names}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Return an image of soft coloured blobs."""
        colours = np.random.default_rng(int(Path(path).stem)).integers(0, 256, (3, 4, 3), dtype=np.uint8)
        content = io.BytesIO()
        Image.fromarray(colours).resize((48, 36), Image.Resampling.BICUBIC).save(content, "JPEG", quality=70)
        return content.getvalue()


def embed(count: int) -> None:
    """Embed a source in this process and write one line of results."""
    from captionless.config.shards import ShardConfig
    from captionless.encoders import embed_shards

    fsspec.register_implementation("synthetic", Synthetic)
    encoder = MeanColours()
    with tempfile.TemporaryDirectory() as out, measured(RESULTS / "scale.jsonl", "scale", images=count) as figures:
        began = time.perf_counter()
        embed_shards(f"synthetic://{count}", out, encoder, ShardConfig(workers=2), progress=False)  # type: ignore[arg-type]
        figures["seconds"] = round(time.perf_counter() - began, 1)
        for who, key in ((resource.RUSAGE_SELF, "peak_mb"), (resource.RUSAGE_CHILDREN, "peak_mb_decoder")):
            figures[key] = round(resource.getrusage(who).ru_maxrss / 1024)
        shards = list(Path(out).glob("*.parquet"))
        figures["shards"], figures["rows"] = len(shards), sum(map(_rows, shards))


def _rows(path: Path) -> int:
    from pyarrow import parquet

    return int(parquet.read_metadata(path).num_rows)


def photographs(repeats: int = 3) -> None:
    """Write the processor time of decoding and of encoding a photograph, on one core."""
    import torch

    import captionless
    from captionless.data.images import Decoding, _read_file

    torch.set_num_threads(1)
    encoder = captionless.load_encoder("bundled")
    root = ROOT / "examples" / "flowers"
    paths = sorted(root.rglob("*.jpg"))
    decode = functools.partial(_read_file, root, Decoding(full=2 * encoder.image_size))
    encoder.encode_images([Image.fromarray(entry.full) for entry in map(decode, paths[:8])])
    with measured(RESULTS / "scale.jsonl", "photographs", images=len(paths)) as figures:
        times: dict[str, list[float]] = {"decode": [], "encode": []}
        for _ in range(repeats):
            began = time.process_time()
            squares = [Image.fromarray(entry.full) for entry in map(decode, paths)]
            read = time.process_time()
            encoder.encode_images(squares)
            times["decode"].append(read - began)
            times["encode"].append(time.process_time() - read)
        figures |= {f"{name}_ms": round(1000 * min(each) / len(paths), 1) for name, each in times.items()}
        figures["bytes_an_image"] = round(sum(path.stat().st_size for path in paths) / len(paths))


def main() -> None:
    """Measure sources of the given sizes, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", nargs="*", type=int, default=COUNTS, help="numbers of images")
    parser.add_argument("--photographs", action="store_true", help="measure photographs instead")
    parser.add_argument("--embed", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.embed:
        embed(options.embed)
    elif options.photographs:
        photographs()
    else:
        for count in options.counts:
            subprocess.run([sys.executable, "-m", "benchmarks.scale", "--embed", str(count)], check=True)
    print((RESULTS / "scale.jsonl").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
