"""Join two finished model folders, a base model and its super-resolution stage, into the one that ships in the package.

    python recipes/flowers/ship.py PHOTOS/train runs/base runs/large src/captionless/bundled/flowers

Embeds the photographs once more, and stops unless the bundled encoder gives exactly the vectors that the models were
trained on. Keeps what generation needs: the weights in 8 bits, the vectors of the clear photographs in float16, config,
card, credits and content hashes. Leaves out the training states and the sample grids.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import torch

from captionless.checkpoints.card import write_model_card
from captionless.checkpoints.config import EncoderReference, base_folder, load_config, save_config
from captionless.checkpoints.image_list import COPY, TRAIN, read_image_list, write_image_list
from captionless.checkpoints.model import BANK, BANK_ROWS, WEIGHTS, load_model
from captionless.checkpoints.quantisation import quantised
from captionless.encoders.dual_encoder import Encoder, load_encoder
from captionless.encoders.embeddings import embed
from captionless.encoders.hub import BUNDLED
from captionless.tensor_files import save_tensors

LIMIT = 43_000_000
"""Bytes, compressed as in a wheel, of all that ships beside the code."""
CAPTIONS = Path(__file__).with_name("captions.jsonl")
EXAMPLES = Path(__file__).parents[2] / "examples" / "flowers"


def main() -> None:
    photos, base, large, target = map(Path, sys.argv[1:5])
    if load_config(large).base_size != load_config(base).size:
        sys.exit(f"{large} does not upsample images of the size that {base} generates.")
    encoder = load_encoder(BUNDLED)
    check_vectors(photos, base, encoder)
    ship(base, base_folder(target), encoder, photos)
    rows = torch.tensor(clear_rows(base), dtype=torch.int32)
    bank = {"vectors": load_model(base).bank[rows].to(torch.float16), BANK_ROWS: rows}
    save_tensors(base_folder(target) / BANK, bank, {"model": load_config(base).id})
    ship(large, target, encoder, photos)
    size = sum(len(zlib.compress(path.read_bytes())) for path in target.parent.rglob("*") if path.is_file())
    print(f"{target.parent}: {size:,} bytes, compressed")
    if size > LIMIT:
        sys.exit(f"more than the {LIMIT:,} bytes that may ship: train narrower models.")


def check_vectors(photos: Path, base: Path, encoder: Encoder) -> None:
    """Stop unless the encoder gives the photographs the vectors that the model was trained on."""
    embedded = embed(photos, encoder)
    rows = {digest: row for row, digest in enumerate(embedded.digests)}
    trained = [rows[digest] for _, digest, role in read_image_list(base) if role == TRAIN]
    if not torch.allclose(load_model(base).bank, torch.from_numpy(embedded.vectors[trained]), atol=1e-3):
        sys.exit(f"{base} was trained on other image vectors than the bundled encoder's; train it anew.")


def clear_rows(base: Path) -> list[int]:
    """Return the rows of the bank whose photographs show one of the kinds at a glance, by ``captions.jsonl``."""
    records = [json.loads(line) for line in CAPTIONS.read_text(encoding="utf-8").splitlines()]
    kinds = {Path(one["file"]).parent.name for one in records}
    clear = {Path(one["file"]).name for one in records if one["clear"] and one["flower"] in kinds}
    names = [name for name, _, role in read_image_list(base) if role == TRAIN]
    return [row for row, name in enumerate(names) if Path(name).name in clear]


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
    save_tensors(target / WEIGHTS, quantised(denoiser.state_dict()), {"model": shipped.id})
    names = [name for name, _, role in read_image_list(source) if role == TRAIN]
    write_image_list(target, [*read_image_list(source), *reduced_copies(names)])
    write_model_card(target, shipped, denoiser, photos)


def reduced_copies(names: list[str]) -> list[tuple[str, str, str]]:
    """Return rows for the reduced copies of photographs in ``examples/flowers``: other bytes, but no new images."""
    copies = [name for name in names if (EXAMPLES / name).is_file()]
    return [(name, hashlib.sha256((EXAMPLES / name).read_bytes()).hexdigest(), COPY) for name in copies]


if __name__ == "__main__":
    main()
