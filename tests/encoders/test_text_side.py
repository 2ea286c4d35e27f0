"""The text side of the bundled encoder gives the vectors that transformers gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from captionless.encoders import digest
from captionless.encoders.dual_encoder import Encoder, load_encoder
from captionless.encoders.hub import BUNDLED_FOLDER
from captionless.encoders.text_side import BertText, TransformersText

PARAPHRASES = (Path(__file__).parents[1] / "paraphrases.jsonl").read_text("utf-8").splitlines()
TEXTS = [
    *(json.loads(line)["text"] for line in PARAPHRASES),
    "A RED Rose",
    "zyxomma quokka's café, 7 xylophones & @home",
    "日本の花 \t rose\n",
    "a [MASK] tulip [SEP] daisy",
    "b" * 200,
    "a round white daisy with a yellow center, " * 12,
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("bundled")


@pytest.fixture(scope="module")
def reference(encoder: Encoder) -> TransformersText:
    return TransformersText(encoder.model, encoder.tokenizer)


def test_the_bundled_encoder_reads_texts_without_transformers(encoder: Encoder) -> None:
    assert isinstance(encoder.text, BertText)


@torch.no_grad()
def test_vectors_equal_those_of_transformers(encoder: Encoder, reference: TransformersText) -> None:
    expected = reference.encode(TEXTS)  # one batch, padded to the longest text
    torch.testing.assert_close(encoder.text.encode(TEXTS), expected, atol=1e-5, rtol=0)
    for text, vector in zip(TEXTS, expected, strict=True):
        torch.testing.assert_close(encoder.text.encode([text])[0], vector, atol=1e-5, rtol=0)


def test_tokens_are_counted_as_by_transformers(encoder: Encoder, reference: TransformersText) -> None:
    counts = [encoder.text.count(text) for text in TEXTS]
    assert counts == [reference.count(text) for text in TEXTS]
    assert max(counts) > encoder.text.limit == reference.limit
    assert encoder.text.special == reference.special


def test_the_digests_of_the_bundled_encoder_are_those_of_its_files(encoder: Encoder) -> None:
    found = digest.content_digests(BUNDLED_FOLDER, encoder.image_processor, encoder.text_limit)
    assert found == digest.BUNDLED_DIGESTS
    assert encoder.digest == found.image
