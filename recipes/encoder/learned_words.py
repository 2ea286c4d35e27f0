"""The words that the encoder learned, from which `generate` tells prompts about other things: ``vocabulary.json``.

python recipes/encoder/learned_words.py --photos PHOTOS --encoder runs/encoder
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import lexicon
import stages
from photographs import read_records

from captionless.encoders.vocabulary import split_words, write_vocabulary

KINDS = ("daisies", "dandelions", "roses", "sunflowers", "tulips")
SUBJECTS = (
    *(
        "daisy",
        "dandelion",
        "rose",
        "sunflower",
        "tulip",
        "flower",
        "wildflower",
        "bloom",
        "blossom",
        "petal",
        "floret",
    ),
    *("bud", "rosebud", "bouquet", "puffball", "flowerhead"),
)
"""Words that name a flower or a part of one; names of the lexicon that are one word belong to them too."""


def write_learned_words(folder: Path, captions: Iterable[str]) -> None:
    """Write the words of captions and lexicon into the encoder's folder."""
    names = [name for listed in (*lexicon.NAMES.values(), *stages.NAMES.values()) for name in listed]
    wordings = [wording for listed in stages.WORDINGS.values() for wording in listed]
    texts = [*captions, *names, *wordings, *lexicon.shades(), *SUBJECTS]
    subjects = {*SUBJECTS, *(name for name in names if name.isalpha())}
    write_vocabulary(folder, "flowers", KINDS, subjects, {word for text in texts for word in split_words(text)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder with captions.jsonl and train/")
    parser.add_argument("--encoder", type=Path, required=True, help="model folder to write into")
    arguments = parser.parse_args()
    write_learned_words(arguments.encoder, (record.caption for record in read_records(arguments.photos, "train")))


if __name__ == "__main__":
    main()
