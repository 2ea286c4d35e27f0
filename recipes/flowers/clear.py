"""Copy the photographs of split `train` that show a flower at a glance, as flagged in `captions.jsonl`.

    python recipes/flowers/clear.py PHOTOS CLEAR

There is one sub-folder per kind, by what each photograph really shows. The files are copied byte for byte.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path


def main() -> None:
    if len(sys.argv) != 3 or not (Path(sys.argv[1]) / "captions.jsonl").is_file():
        sys.exit("usage: python recipes/flowers/clear.py PHOTOS CLEAR (PHOTOS holds captions.jsonl and train/)")
    photos, target = map(Path, sys.argv[1:])
    records = [json.loads(line) for line in (photos / "captions.jsonl").read_text(encoding="utf-8").splitlines()]
    kinds = {Path(record["file"]).parent.name for record in records}
    clear = [one for one in records if one["split"] == "train" and one["clear"] and one["flower"] in kinds]
    for record in clear:
        copy = target / record["flower"] / Path(record["file"]).name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photos / record["file"], copy)
    print(f"{target}: {len(clear):,} photographs")


if __name__ == "__main__":
    main()
