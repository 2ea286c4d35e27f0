"""Measure a dual encoder on the captioned flower photographs.

python recipes/encoder/evaluate.py --photos DIR [--encoder bundled] [--split val] [--json FILE]

Works for any encoder that captionless loads; the in-domain figures only for one with ``domain.safetensors``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from domain import domain_scores
from figures import attribute_figures, figures, stage_figures
from lexicon import HELD_OUT
from paraphrases import kind_and_colour, read_paraphrases
from photographs import read_records
from PIL import Image
from sentences import PETALS, article

from captionless.encoders.choice import DOMAIN
from captionless.encoders.dual_encoder import Encoder, load_encoder

PARAPHRASES = Path(__file__).parents[2] / "tests" / "paraphrases.jsonl"


def other_images() -> dict[str, Image.Image]:
    """Return the images that scikit-image ships without a download; none shows one of the five flowers."""
    import skimage.data

    found = {}
    for name in sorted(skimage.data.__all__):
        try:
            pixels = getattr(skimage.data, name)()
        except Exception:  # an image that would have to be downloaded
            continue
        if isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.ndim in (2, 3):
            if pixels.ndim == 3 and pixels.shape[2] not in (3, 4):
                continue
            found[name] = Image.fromarray(pixels).convert("RGB")
    return found


def domain_figures(encoder: Encoder, vectors: torch.Tensor) -> dict[str, float | str]:
    """Compare the in-domain scores of flower photographs with those of other images."""
    from safetensors import safe_open

    with safe_open(encoder.folder / DOMAIN, framework="pt") as file:
        reference, metadata = file.get_tensor("reference"), file.metadata()
    neighbours, threshold = int(metadata["neighbours"]), float(metadata["threshold"])
    others = other_images()
    scores = domain_scores(encoder.encode_images(list(others.values())), reference, neighbours)
    flowers = domain_scores(vectors, reference, neighbours)
    best = int(scores.argmax())
    return {
        "threshold": threshold,
        "flowers in domain": (flowers >= threshold).float().mean().item(),
        "flowers median": flowers.median().item(),
        "flowers 1st percentile": torch.quantile(flowers, 0.01).item(),
        "others": len(others),
        "others in domain": (scores >= threshold).float().mean().item(),
        "others median": scores.median().item(),
        "others highest": scores.max().item(),
        "others highest is": list(others)[best],
    }


def paraphrase_figures(encoder: Encoder) -> dict[str, float | str]:
    """Return the share of the paraphrases in the tests that find the right flower, and those that do not."""
    listed = read_paraphrases(PARAPHRASES)
    found = kind_and_colour([p.text for p in listed], encoder.encode_texts)
    wrong = [f"{p.text} -> {f[0]} {f[1]}" for p, f in zip(listed, found, strict=True) if f != (p.kind, p.petals)]
    return {"paraphrases": len(listed), "understood": 1 - len(wrong) / len(listed), "wrong": "; ".join(wrong)}


def held_out_figures(encoder: Encoder) -> dict[str, float | str]:
    """Return the words in neither captions nor lexicon that find the right flower."""
    right, wrong = [], []
    for word, meaning in HELD_OUT.items():
        texts = [f"{article(word)} rose", f"{word} tulips"] if meaning in PETALS else [article(word)]
        found = kind_and_colour(texts, encoder.encode_texts)
        (right if all(meaning in answer for answer in found) else wrong).append(word)
    return {"held-out understood": len(right) / len(HELD_OUT), "right": ", ".join(right), "not": ", ".join(wrong)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder with captions.jsonl, train/ and val/")
    parser.add_argument("--encoder", default="bundled", help="bundled, a hub id or a local folder")
    parser.add_argument("--split", default="val", choices=("train", "val"))
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    encoder = load_encoder(arguments.encoder)
    records = read_records(arguments.photos, arguments.split)
    images = [Image.open(arguments.photos / record.file).convert("RGB") for record in records]
    vectors = encoder.encode_images(images)
    found: dict[str, float | str] = dict(figures(records, vectors, encoder.encode_texts))
    found.update(attribute_figures(records, vectors, encoder.encode_texts))
    found.update(stage_figures(records, vectors, encoder.encode_texts))
    found["inverse temperature"] = encoder.logit_scale
    found.update(paraphrase_figures(encoder))
    found.update(held_out_figures(encoder))
    if (encoder.folder / DOMAIN).exists():
        found.update(domain_figures(encoder, vectors))
    for name, value in found.items():
        print(f"{name:24} {value:.3f}" if isinstance(value, float) else f"{name:24} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
