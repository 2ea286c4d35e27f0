"""Turn two finished model folders, of small pictures and of their enlargement, into the one that ships in the package.

    python recipes/flowers/ship.py PHOTOS runs/small runs/large src/captionless/bundled/flowers

Embeds the photographs once more and ships only if the bundled encoder gives the very vectors the models were trained
on. Keeps what painting needs (weights and bank in float16, the weights that enlarge in 8 bits, config, card, credits,
content hashes); the training states and the contact sheets stay behind.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from captionless.checkpoints.card import COPY, CREDITS, TRAIN, read_images, write_images, write_model_card
from captionless.checkpoints.model import (
    BANK,
    MEANS,
    SMALL,
    WEIGHTS,
    EncoderReference,
    half,
    load_config,
    load_model,
    read_tensors,
    save_config,
    save_tensors,
)
from captionless.checkpoints.quantisation import quantised
from captionless.conditioning.subject import subject_mean
from captionless.encoders.dual_encoder import BUNDLED, Encoder, load_encoder
from captionless.encoders.embeddings import embed

LIMIT = 43_000_000
"""Bytes, compressed as in a wheel, of all that ships beside the code."""
Pack = Callable[[dict[str, Tensor]], dict[str, Tensor]]
EXAMPLES = Path(__file__).parents[2] / "examples" / "flowers"


def main() -> None:
    photos, small, large, target = map(Path, sys.argv[1:5])
    if load_config(large).enlarges != load_config(small).size:
        sys.exit(f"{large} does not enlarge pictures of the size that {small} paints.")
    encoder = load_encoder(BUNDLED)
    check_vectors(photos, small, encoder)
    ship(small, target / SMALL, encoder, photos, half)
    # The bank is the small model's, of its own pictures.
    names = [name for name, _, role in read_images(small) if role == TRAIN]
    vectors = read_tensors(small / BANK)["vectors"].float()
    save_tensors(target / SMALL / BANK, half({"vectors": vectors}))
    # The words' mean is taken anew, with the encoder that ships.
    save_tensors(target / SMALL / MEANS, half({"text": subject_mean(names, vectors, encoder)}))
    ship(large, target, encoder, photos, quantised)
    # Some of the small model's photographs lie in another sub-folder than in the table of credits: it gets them all.
    shutil.copyfile(target / CREDITS, target / SMALL / CREDITS)
    size = sum(len(zlib.compress(path.read_bytes())) for path in target.parent.rglob("*") if path.is_file())
    print(f"{target.parent}: {size:,} bytes, compressed")
    if size > LIMIT:
        sys.exit(f"more than the {LIMIT:,} bytes that may ship: train narrower models.")


def check_vectors(photos: Path, small: Path, encoder: Encoder) -> None:
    """Stop unless the encoder gives the photographs the vectors that the model was trained on."""
    embedded = embed(photos, encoder)
    rows = {digest: row for row, digest in enumerate(embedded.digests)}
    trained = [rows[digest] for _, digest, role in read_images(small) if role == TRAIN]
    if not torch.allclose(load_model(small).bank, torch.from_numpy(embedded.vectors[trained]), atol=1e-3):
        sys.exit(f"{small} was trained on other image vectors than the bundled encoder's; train it anew.")


def ship(source: Path, target: Path, encoder: Encoder, photos: Path, pack: Pack) -> None:
    """Write one of the two models, without its bank, its weights as ``pack`` turns them."""
    config = load_config(source)
    # Words may have been taught later; only then does the hash of the whole encoder differ from the recorded one.
    reference = EncoderReference(BUNDLED, encoder.digest, encoder.width, encoder.logit_scale)
    # What it was begun from does not ship; the larger model's list of pictures holds that one's as well.
    about = config.training | {"folder": Path(config.training["folder"]).name, "from": None}
    shipped = replace(config, encoder=reference, training=about)
    target.mkdir(parents=True, exist_ok=True)
    save_config(target, shipped)
    denoiser = load_model(source).denoiser
    save_tensors(target / WEIGHTS, pack(denoiser.state_dict()))
    names = [name for name, _, role in read_images(source) if role == TRAIN]
    write_images(target, [*read_images(source), *reduced_copies(names)])
    write_model_card(target, shipped, denoiser, photos)


def reduced_copies(names: list[str]) -> list[tuple[str, str, str]]:
    """Rows for the reduced copies of photographs in ``examples/flowers``: other bytes, but no new pictures."""
    copies = [name for name in names if (EXAMPLES / name).is_file()]
    return [(name, hashlib.sha256((EXAMPLES / name).read_bytes()).hexdigest(), COPY) for name in copies]


if __name__ == "__main__":
    main()
