"""Make the folder of photographs that the recipes call PHOTOS from TensorFlow's public `flower_photos` collection.

    python recipes/flowers/photographs.py flower_photos PHOTOS

`flower_photos` is the unpacked archive; https://www.tensorflow.org/datasets/catalog/tf_flowers names its address.
Takes the 2,593 photographs that `captions.jsonl` beside this script lists, reduces each to a shorter side of 192
pixels, and lays them out as `train/KIND/` and `val/KIND/`, with captions and credits beside them.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from PIL import Image

CAPTIONS = Path(__file__).with_name("captions.jsonl")
CREDITS = Path(__file__).with_name("CREDITS.csv")
SIDE = 192
QUALITY = 88


def main() -> None:
    if len(sys.argv) != 3 or not Path(sys.argv[1]).is_dir():
        sys.exit("usage: python recipes/flowers/photographs.py UNPACKED_ARCHIVE PHOTOS")
    source, target = map(Path, sys.argv[1:])
    # The archive calls some kinds by their plural; the names of the files are unique in it.
    found = {path.name: path for path in source.rglob("*.jpg")}
    files = [json.loads(line)["file"] for line in CAPTIONS.read_text(encoding="utf-8").splitlines()]
    missing = [file for file in files if Path(file).name not in found]
    if missing:
        sys.exit(f"{len(missing):,} of {len(files):,} photographs are not in {source}, such as {missing[0]}.")
    for file in files:
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        reduce(found[Path(file).name], target / file)
    shutil.copyfile(CAPTIONS, target / CAPTIONS.name)
    shutil.copyfile(CREDITS, target / CREDITS.name)
    print(f"{target}: {len(files):,} photographs")


def reduce(source: Path, target: Path) -> None:
    """Write a photograph with a shorter side of at most ``SIDE`` pixels, its aspect kept."""
    with Image.open(source) as opened:
        image = opened.convert("RGB")
    scale = SIDE / min(image.size)
    if scale < 1:
        width, height = (max(SIDE, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    image.save(target, "JPEG", quality=QUALITY)


if __name__ == "__main__":
    main()
