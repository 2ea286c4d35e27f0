"""The encoder that ships inside the package: what it knows, in figures, and what it says in other words."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from captionless.checkpoints.config import BUNDLED, base_folder, model_folder
from captionless.checkpoints.image_list import read_image_list
from captionless.conditioning.familiarity import vocabulary_remark
from captionless.encoders.choice import in_domain_score
from captionless.encoders.dual_encoder import Encoder, load_encoder

HERE = Path(__file__).parents[1]
ROOT = HERE.parent
EXAMPLES = ROOT / "examples" / "flowers"
CAPTION_WORDS = ROOT / "recipes" / "encoder" / "caption_words.txt"
KINDS = ("daisy", "dandelion", "rose", "sunflower", "tulip")
PETALS = ("white", "yellow", "orange", "red", "pink", "purple")
GROUP = {
    **{colour: colour for colour in PETALS},
    **{"cream": "white", "peach": "orange", "dark red": "red", "magenta": "pink", "blue": "purple"},
}
PARAPHRASES = [json.loads(line) for line in (HERE / "paraphrases.jsonl").read_text("utf-8").splitlines()]
SEEDS = r"seed|clock|puff|fluff|tuft|parachute|half[- ](bare|blown)"
BUD = r"\b(rose)?buds?\b"
ASKED_FOR = ("vermilion", "ruby", "fuchsia", "burgundy", "puffball", "marguerite")


def a(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def plural(kind: str) -> str:
    return "daisies" if kind == "daisy" else f"{kind}s"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("bundled")


@pytest.fixture(scope="module")
def folder() -> Path:
    return Path(str(files("captionless") / "bundled" / "encoder"))


def mean_prompts(encoder: Encoder, wordings: Sequence[Sequence[str]]) -> Tensor:
    """One unit vector a class: the mean over its wordings."""
    return F.normalize(torch.stack([encoder.encode_texts(texts).mean(0) for texts in wordings]), dim=1)


# What is in the folder


def test_it_takes_at_most_20_megabytes(folder: Path) -> None:
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 20_000_000


def test_its_weights_are_safetensors_and_nothing_is_pickled(folder: Path) -> None:
    kinds = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert kinds == {".json", ".safetensors", ".md"}


def test_every_training_photograph_is_credited() -> None:
    with (files("captionless") / "bundled" / "CREDITS.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2193
    assert all(row["photographer"] and row["page"].startswith("https://") for row in rows)
    assert all(row["file"].startswith("train/") for row in rows)


def test_its_card_says_what_it_does_not_know(folder: Path) -> None:
    card = (folder / "README.md").read_text("utf-8")
    assert "flowers and\nlittle else" in card
    assert "Apache-2.0" in card
    assert "CC-BY 2.0" in card


# The shared space


def test_words_and_images_share_512_dimensions(encoder: Encoder) -> None:
    words = encoder.encode_texts(["a red rose"])
    picture = encoder.encode_images([Image.new("RGB", (50, 70), "red")])
    assert words.shape == picture.shape == (1, 512)
    assert torch.allclose(torch.cat([words, picture]).norm(dim=1), torch.ones(2), atol=1e-5)


def test_its_temperature_is_one_that_ranks_images(encoder: Encoder) -> None:
    assert 10 < encoder.logit_scale < 60


def test_any_word_is_read_as_something(encoder: Encoder) -> None:
    """No word is unknown: letters are pieces of the vocabulary."""
    tokens = encoder.tokenizer("zyxomma quokka's café, 7 xylophones & @home")["input_ids"]
    assert encoder.tokenizer.unk_token_id not in tokens


# Words that no training caption holds


def test_thirty_paraphrases_are_kept_and_half_hold_a_new_word() -> None:
    known = set(CAPTION_WORDS.read_text("utf-8").split())
    assert len(known) > 1000
    new = [[w for w in re.findall(r"[a-z]+", p["text"].lower()) if w not in known] for p in PARAPHRASES]
    assert len(PARAPHRASES) >= 30
    assert sum(map(bool, new)) >= 15
    assert [sorted(set(words)) for words in new] == [sorted(p["new"]) for p in PARAPHRASES]


@pytest.mark.parametrize("word", ASKED_FOR)
def test_each_word_asked_for_is_among_them(word: str) -> None:
    assert any(word in p["new"] for p in PARAPHRASES)


@pytest.fixture(scope="module")
def plain(encoder: Encoder) -> Tensor:
    """The 30 plain prompts: every kind in every colour."""
    return encoder.encode_texts([f"{a(colour)} {kind}" for kind in KINDS for colour in PETALS])


@pytest.mark.parametrize("paraphrase", PARAPHRASES, ids=lambda p: p["text"])
def test_a_paraphrase_means_its_flower_and_colour(encoder: Encoder, plain: Tensor, paraphrase: dict[str, str]) -> None:
    """Nearest of all 30 plain prompts."""
    best = int((encoder.encode_texts([paraphrase["text"]]) @ plain.T).argmax())
    assert (KINDS[best // len(PETALS)], PETALS[best % len(PETALS)]) == (paraphrase["kind"], paraphrase["petals"])


# Photographs


@pytest.fixture(scope="module")
def examples(encoder: Encoder) -> tuple[Tensor, list[str], list[str | None]]:
    """Vectors, kinds and petal colours of the photographs in examples/flowers."""
    labels = [json.loads(line) for line in (HERE / "example_labels.jsonl").read_text("utf-8").splitlines()]
    images = [Image.open(EXAMPLES / label["file"]) for label in labels]
    kinds = [label["flower"] for label in labels]
    return encoder.encode_images(images), kinds, [GROUP.get(label["petals"]) for label in labels]


def test_the_labels_cover_the_example_photographs() -> None:
    labels = [json.loads(line) for line in (HERE / "example_labels.jsonl").read_text("utf-8").splitlines()]
    shipped = {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.jpg")}
    assert {label["file"] for label in labels} == shipped
    assert len(shipped) >= 140


def test_paraphrases_find_photographs_of_their_flower_and_colour(
    encoder: Encoder, examples: tuple[Tensor, list[str], list[str | None]]
) -> None:
    """Of the five photographs nearest to each paraphrase, where the folder has five of that kind and colour."""
    vectors, kinds, petals = examples
    shown = list(zip(kinds, petals, strict=True))
    asked = [p for p in PARAPHRASES if shown.count((p["kind"], p["petals"])) >= 5]
    assert len(asked) >= 15
    nearest = (encoder.encode_texts([p["text"] for p in asked]) @ vectors.T).topk(5, dim=1).indices.tolist()
    found = [(shown[k], (p["kind"], p["petals"])) for p, row in zip(asked, nearest, strict=True) for k in row]
    assert sum(got[0] == want[0] for got, want in found) / len(found) >= 0.90
    assert sum(got[1] == want[1] for got, want in found) / len(found) >= 0.85


def test_a_folder_of_flowers_is_in_its_domain_and_other_images_are_not(encoder: Encoder) -> None:
    data = pytest.importorskip("skimage.data")
    flowers = [Image.open(path) for path in sorted(EXAMPLES.rglob("*.jpg"))[::5]]
    others = ("astronaut", "camera", "coins", "page", "text", "moon", "coffee", "cat", "rocket", "brick")
    pictures = [Image.fromarray(getattr(data, name)()).convert("RGB") for name in others]
    score, threshold = in_domain_score(encoder, flowers)
    assert score > threshold + 0.05
    assert in_domain_score(encoder, pictures)[0] < threshold - 0.05
    assert all(in_domain_score(encoder, [picture])[0] < threshold for picture in pictures)


@pytest.fixture(scope="module")
def learned() -> tuple[Tensor, list[str]]:
    """The embedding bank of the flower model, and the captions of its photographs, in order of kind and name."""
    lines = (ROOT / "recipes" / "flowers" / "captions.jsonl").read_text("utf-8").splitlines()
    base = base_folder(model_folder(BUNDLED))
    trained = {Path(name).name for name, _, role in read_image_list(base) if role == "train"}
    captions = {
        (line["flower"], Path(line["file"]).name): line["caption"]
        for line in map(json.loads, lines)
        if line["clear"] and line["flower"] in KINDS and Path(line["file"]).name in trained
    }
    return load_file(base / "bank.safetensors")["vectors"].float(), [captions[key] for key in sorted(captions)]


@pytest.mark.parametrize(
    ("text", "shown", "count", "least"),
    [
        ("a dandelion seed head", SEEDS, 12, 10),
        ("a dandelion clock", SEEDS, 12, 10),
        ("a dandelion gone to seed", SEEDS, 12, 10),
        ("a puffball", SEEDS, 12, 10),
        ("a yellow dandelion flower", "yellow|gold", 12, 10),
        ("a red rose bud", BUD, 8, 5),
        ("a closed rosebud", BUD, 8, 5),
    ],
)
def test_it_hears_the_stage_of_a_flower(
    encoder: Encoder, learned: tuple[Tensor, list[str]], text: str, shown: str, count: int, least: int
) -> None:
    """By the captions of the nearest training photographs."""
    bank, captions = learned
    nearest = (encoder.encode_texts([text]) @ bank.T)[0].topk(count).indices.tolist()
    assert sum(bool(re.search(shown, captions[k])) for k in nearest) >= least


# Figures on photographs that it never saw


def validation_folder() -> Path | None:
    named = os.environ.get("CAPTIONLESS_FLOWERS")
    beside = ROOT.parent / "shared" / "data" / "flowers"
    return Path(named) if named else beside if (beside / "captions.jsonl").exists() else None


@pytest.fixture(scope="module")
def validation(encoder: Encoder) -> tuple[list[dict[str, str]], Tensor]:
    """Records and vectors of the 400 validation photographs."""
    photographs = validation_folder()
    if photographs is None:
        pytest.skip("set CAPTIONLESS_FLOWERS to the folder with captions.jsonl and val/ to measure on them")
    records = [json.loads(line) for line in (photographs / "captions.jsonl").read_text("utf-8").splitlines()]
    records = [record for record in records if record["split"] == "val"]
    return records, encoder.encode_images([Image.open(photographs / record["file"]) for record in records])


@pytest.mark.slow
def test_a_caption_finds_its_photograph(encoder: Encoder, validation: tuple[list[dict[str, str]], Tensor]) -> None:
    """Recall at 1, 5 and 10 among 400."""
    records, vectors = validation
    scores = encoder.encode_texts([record["caption"] for record in records]) @ vectors.T
    place = (scores > scores.diagonal()[:, None]).sum(1)
    assert len(records) == 400
    for rank, least in ((1, 0.32), (5, 0.67), (10, 0.82)):
        assert (place < rank).float().mean() >= least


@pytest.mark.slow
def test_it_names_the_kind_of_unseen_photographs(
    encoder: Encoder, validation: tuple[list[dict[str, str]], Tensor]
) -> None:
    records, vectors = validation
    rows = [k for k, record in enumerate(records) if record["flower"] in KINDS]
    prompts = mean_prompts(encoder, [(f"a photo of {a(k)}", f"{a(k)} flower", plural(k)) for k in KINDS])
    guesses = (vectors[rows] @ prompts.T).argmax(1).tolist()
    right = sum(KINDS[g] == records[k]["flower"] for g, k in zip(guesses, rows, strict=True))
    assert len(rows) == 390
    assert right / len(rows) >= 0.92


@pytest.mark.slow
def test_it_names_the_petal_colour_of_unseen_photographs(
    encoder: Encoder, validation: tuple[list[dict[str, str]], Tensor]
) -> None:
    records, vectors = validation
    rows = [k for k, record in enumerate(records) if record["petals"] in GROUP]
    prompts = mean_prompts(encoder, [(f"{a(c)} flower", f"a flower with {c} petals", f"{c} flowers") for c in PETALS])
    guesses = (vectors[rows] @ prompts.T).argmax(1).tolist()
    right = sum(PETALS[g] == GROUP[records[k]["petals"]] for g, k in zip(guesses, rows, strict=True))
    assert len(rows) == 376
    assert right / len(rows) >= 0.84


def test_it_lists_the_words_that_it_learned() -> None:
    vocabulary = load_encoder("bundled").vocabulary
    assert vocabulary is not None
    captions = set(CAPTION_WORDS.read_text(encoding="utf-8").split())
    assert {word for word in captions if len(word) > 1} <= vocabulary.words
    assert {"rosebud", "puffball", "vermilion"} <= vocabulary.words


@pytest.mark.parametrize("prompt", ["a cat", "eine rote Rose", "红玫瑰", "a green potion", "a white horse", "asdf"])
def test_a_prompt_about_other_things_is_noticed(prompt: str) -> None:
    vocabulary = load_encoder("bundled").vocabulary
    assert vocabulary is not None
    assert vocabulary_remark(prompt, vocabulary)


@pytest.mark.parametrize("listed", ["reference_prompts", "varied_prompts"])
def test_prompts_about_flowers_are_familiar(listed: str) -> None:
    vocabulary = load_encoder("bundled").vocabulary
    assert vocabulary is not None
    prompts = (ROOT / "recipes" / "flowers" / f"{listed}.txt").read_text(encoding="utf-8").splitlines()
    assert not [prompt for prompt in prompts if vocabulary_remark(prompt, vocabulary)]
