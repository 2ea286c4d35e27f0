"""Turn a finished model folder into the one that ships inside the package.

    python recipes/flowers/ship.py PHOTOS runs/flowers src/captionless/bundled/flowers

Embeds the photographs once more and ships only if the bundled encoder gives the very vectors the model was trained
on. Keeps what painting needs (weights and bank in float16, config, card, credits, content hashes); the training state
and the contact sheets stay behind.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import torch

from captionless.checkpoint import (
    BANK,
    MEANS,
    WEIGHTS,
    EncoderReference,
    half,
    load_config,
    load_model,
    read_tensors,
    save_config,
    save_tensors,
)
from captionless.encoders import BUNDLED, load_encoder
from captionless.model_card import COPY, TRAIN, read_pictures, write_model_card, write_pictures
from captionless.subject import subject_mean
from captionless.vectors import embed

LIMIT = 24_000_000
EXAMPLES = Path(__file__).parents[2] / "examples" / "flowers"


def main() -> None:
    photos, source, target = map(Path, sys.argv[1:4])
    model, config = load_model(source), load_config(source)
    encoder = load_encoder(BUNDLED)
    embedded = embed(photos, encoder)
    rows = {digest: row for row, digest in enumerate(embedded.digests)}
    trained = [rows[digest] for _, digest, role in read_pictures(source) if role == TRAIN]
    if not torch.allclose(model.bank, torch.from_numpy(embedded.vectors[trained]), atol=1e-3):
        sys.exit(f"{source} was trained on other image vectors than the bundled encoder's; train it anew.")
    # Its words may have been taught later; only then does the hash of the whole encoder differ from the recorded one.
    reference = EncoderReference(BUNDLED, encoder.digest, encoder.width, encoder.logit_scale)
    about = config.training | {"folder": Path(config.training["folder"]).name}
    shipped = replace(config, encoder=reference, training=about)

    target.mkdir(parents=True, exist_ok=True)
    save_config(target, shipped)
    for name in (WEIGHTS, BANK):
        save_tensors(target / name, half(read_tensors(source / name)))
    # The words' mean is taken anew, with the encoder that ships.
    names = [name for name, _, role in read_pictures(source) if role == TRAIN]
    save_tensors(target / MEANS, half({"text": subject_mean(names, model.bank, encoder)}))
    write_pictures(target, [*read_pictures(source), *reduced_copies(names)])
    write_model_card(target, shipped, model.denoiser, photos)
    size = sum(path.stat().st_size for path in target.iterdir())
    print(f"{target}: {size:,} bytes")
    if size > LIMIT:
        sys.exit(f"more than the {LIMIT:,} bytes that may ship: train a narrower model.")


def reduced_copies(names: list[str]) -> list[tuple[str, str, str]]:
    """Rows for the reduced copies of photographs in ``examples/flowers``: other bytes, but no new pictures."""
    copies = [name for name in names if (EXAMPLES / name).is_file()]
    return [(name, hashlib.sha256((EXAMPLES / name).read_bytes()).hexdigest(), COPY) for name in copies]


if __name__ == "__main__":
    main()
