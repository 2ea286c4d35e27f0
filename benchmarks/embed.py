"""Embedding: from JPEG files to image vectors, for growing folders; a second run reads what the first one kept."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from PIL import Image

import captionless
from benchmarks.peers.peer import image_paths
from benchmarks.record import RESULTS, ROOT, measured


def main() -> None:
    """Embed folders of several sizes with the bundled encoder."""
    options = _options()
    encoder = captionless.load_encoder("bundled")
    for seed in range(options.repeats):
        for n in options.images:
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place) / "images"
                os.environ["CAPTIONLESS_CACHE"] = str(Path(place) / "cache")
                grow(options.data, folder, n)
                for run in ("first", "again"):
                    with measured(RESULTS / "embed.jsonl", "embed", seed, images=n, run=run) as figures:
                        started = time.perf_counter()
                        found = captionless.embed(folder, encoder, progress=False)
                        figures["images_per_second"] = n / (time.perf_counter() - started)
                        figures["computed"] = found.computed
                    print(n, run, figures, flush=True)


def grow(source: Path, folder: Path, n: int) -> None:
    """Write ``n`` different JPEG files: the images of ``source``, again and again with other borders cut off."""
    folder.mkdir()
    paths = image_paths(source)
    for i in range(n):
        cut = i // len(paths)
        with Image.open(paths[i % len(paths)]) as image:
            image.convert("RGB").crop((cut, 0, image.width, image.height)).save(folder / f"{i:06}.jpg", quality=90)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.embed", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT / "examples" / "flowers", help="photographs")
    parser.add_argument("--images", type=int, nargs="+", default=[150, 600], help="sizes of the folders")
    parser.add_argument("--repeats", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
