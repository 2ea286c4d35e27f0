"""Turn a finished model folder into the one that ships inside the package.

    python recipes/flowers/ship.py runs/flowers src/captionless/bundled/flowers

Keeps what painting needs (weights and bank in float16, config, card, credits, content hashes) and leaves the
training state and the contact sheets behind.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

from captionless.checkpoint import BANK, WEIGHTS, half, load_config, load_model, read_tensors, save_config, save_tensors
from captionless.encoders import BUNDLED, load_encoder

LIMIT = 24_000_000


def main() -> None:
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    load_model(source)  # a damaged model is never shipped
    config = load_config(source)
    if config.encoder.digest != load_encoder(BUNDLED).digest:
        sys.exit(f"{source} was not trained with the bundled encoder; train it with --encoder bundled.")
    target.mkdir(parents=True, exist_ok=True)
    about = config.training | {"folder": Path(config.training["folder"]).name}
    save_config(target, replace(config, encoder=replace(config.encoder, name=BUNDLED), training=about))
    for name in (WEIGHTS, BANK):
        save_tensors(target / name, half(read_tensors(source / name)))
    for name in ("pictures.csv", "README.md", "CREDITS.csv"):
        shutil.copyfile(source / name, target / name)
    size = sum(path.stat().st_size for path in target.iterdir())
    print(f"{target}: {size:,} bytes")
    if size > LIMIT:
        sys.exit(f"more than the {LIMIT:,} bytes that may ship: train a narrower model.")


if __name__ == "__main__":
    main()
