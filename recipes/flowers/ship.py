"""Join two finished model folders, a base model and its super-resolution stage, into the one that ships in the package.

    python recipes/flowers/ship.py PHOTOS/train runs/base runs/large src/captionless/bundled/flowers

Embeds the photographs once more, and stops unless the bundled encoder gives exactly the vectors that the models were
trained on. Keeps what generation needs: the weights in 8 bits, the bank in float16, config, card, credits and content
hashes. Leaves out the training states and the sample grids.
"""

from __future__ import annotations

import hashlib
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from captionless.checkpoints.card import write_model_card
from captionless.checkpoints.config import EncoderReference, base_folder, load_config, save_config
from captionless.checkpoints.image_list import COPY, TRAIN, read_image_list, write_image_list
from captionless.checkpoints.model import BANK, WEIGHTS, load_model
from captionless.checkpoints.quantisation import quantised
from captionless.checkpoints.tensors import read_tensors, save_tensors
from captionless.encoders.dual_encoder import Encoder, load_encoder
from captionless.encoders.embeddings import embed
from captionless.encoders.hub import BUNDLED

LIMIT = 43_000_000
"""Bytes, compressed as in a wheel, of all that ships beside the code."""
EXAMPLES = Path(__file__).parents[2] / "examples" / "flowers"


def main() -> None:
    photos, small, large, target = map(Path, sys.argv[1:5])
    if load_config(large).base_size != load_config(small).size:
        sys.exit(f"{large} does not upsample images of the size that {small} generates.")
    encoder = load_encoder(BUNDLED)
    check_vectors(photos, small, encoder)
    ship(small, base_folder(target), encoder, photos)
    # The bank is that of the base model, with its own images.
    save_tensors(base_folder(target) / BANK, half(read_tensors(small / BANK)))
    ship(large, target, encoder, photos)
    size = sum(len(zlib.compress(path.read_bytes())) for path in target.parent.rglob("*") if path.is_file())
    print(f"{target.parent}: {size:,} bytes, compressed")
    if size > LIMIT:
        sys.exit(f"more than the {LIMIT:,} bytes that may ship: train narrower models.")


def check_vectors(photos: Path, small: Path, encoder: Encoder) -> None:
    """Stop unless the encoder gives the photographs the vectors that the model was trained on."""
    embedded = embed(photos, encoder)
    rows = {digest: row for row, digest in enumerate(embedded.digests)}
    trained = [rows[digest] for _, digest, role in read_image_list(small) if role == TRAIN]
    if not torch.allclose(load_model(small).bank, torch.from_numpy(embedded.vectors[trained]), atol=1e-3):
        sys.exit(f"{small} was trained on other image vectors than the bundled encoder's; train it anew.")


def half(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors in float16: half the file, no visible difference."""
    return {name: tensor.to(torch.float16) for name, tensor in tensors.items()}


def ship(source: Path, target: Path, encoder: Encoder, photos: Path) -> None:
    """Write one of the two models without its bank, its weights in 8 bits."""
    config = load_config(source)
    reference = EncoderReference(BUNDLED, encoder.digest, encoder.width, encoder.logit_scale)
    # The model it was initialised from does not ship; the image list of the larger model includes that one's.
    about = replace(config.training, folder=Path(config.training.folder).name, initialised_from=None)
    shipped = replace(config, encoder=reference, training=about)
    target.mkdir(parents=True, exist_ok=True)
    save_config(target, shipped)
    denoiser = load_model(source).denoiser
    save_tensors(target / WEIGHTS, quantised(denoiser.state_dict()))
    names = [name for name, _, role in read_image_list(source) if role == TRAIN]
    write_image_list(target, [*read_image_list(source), *reduced_copies(names)])
    write_model_card(target, shipped, denoiser, photos)


def reduced_copies(names: list[str]) -> list[tuple[str, str, str]]:
    """Return rows for the reduced copies of photographs in ``examples/flowers``: other bytes, but no new images."""
    copies = [name for name in names if (EXAMPLES / name).is_file()]
    return [(name, hashlib.sha256((EXAMPLES / name).read_bytes()).hexdigest(), COPY) for name in copies]


if __name__ == "__main__":
    main()
