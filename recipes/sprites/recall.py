"""Measure an encoder learned from names: how often a name finds its own image among those held out.

    python recipes/sprites/recall.py FOLDER

Held out is a fifth of the images, chosen by content hash as by ``train --hold-out 0.2``; the others teach the encoder.
The gallery is all held-out images. Chance within a folder: the name says the folder, and no more.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from captionless.data.images import is_held_out
from captionless.encoders import embed, learn_encoder, load_encoder
from captionless.encoders.image_texts import image_texts

HELD_OUT = 0.2


def recall(similarity: torch.Tensor, k: int) -> float:
    """Return the share of rows whose diagonal entry is among the ``k`` largest; ties count with their probability."""
    own = similarity.diagonal()[:, None]
    above, equal = (similarity > own).sum(1), (similarity == own).sum(1)
    return float(((k - above) / equal).clamp(0, 1).mean())


def measure(folder: Path, encoder: str) -> dict[str, float]:
    """Return the number of held-out images, and how often their names find them; "chance" knows the folder only."""
    loaded = load_encoder(encoder)
    found = embed(folder, loaded, progress=False)
    rows = [row for row in found.unique if is_held_out(found.digests[row], HELD_OUT)]
    named = image_texts(folder)
    texts = loaded.encode_texts([named[found.names[row]] for row in rows])
    cosines = texts @ torch.tensor(found.vectors[rows]).T
    folders = [found.names[row].split("/")[0] for row in rows]
    same = torch.tensor([[a == b for b in folders] for a in folders])
    inside, random = cosines.masked_fill(~same, -2), same.float()
    return {
        "images": len(rows),
        "recall@10": recall(cosines, 10),
        "recall@10, the folder alone": recall(random, 10),
        "nearest within its folder": recall(inside, 1),
        "nearest within its folder, chance": recall(random, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--encoder", help="an encoder learned with the same images held out, to measure instead")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if options.encoder is None:
            learn_encoder(options.folder, Path(temporary) / "encoder", hold_out=HELD_OUT, progress=True)
        found = measure(options.folder, options.encoder or str(Path(temporary) / "encoder"))
    print(f"{found.pop('images')} held-out images")
    for name, share in found.items():
        print(f"{name}: {share:.1%}")


if __name__ == "__main__":
    main()
