"""Choose a small WordPiece vocabulary: the part of MiniLM's 30,522 pieces that flower prompts need."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer
from torch.nn import functional as F
from transformers import BertModel, PreTrainedTokenizerFast

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
FIRST_WORD = 1996
"""The id at which BERT's vocabulary starts to list whole words, most frequent first."""

MAX_TOKENS = 64
ANCHORS = (
    *("red", "pink", "purple", "yellow", "white", "orange", "blue", "crimson", "scarlet", "rose", "tulip"),
    *("daisy", "flower", "petals", "garden", "gem", "jewel", "wine", "bloom", "leaf", "violet", "golden"),
    *("bright", "dark", "pale", "vase", "bouquet", "meadow", "photograph", "fruit", "cherry"),
)
"""Topics of prompts; the vocabulary keeps the words near these."""


def choose_pieces(source: PreTrainedTokenizerFast, texts: Iterable[str], size: int) -> list[int]:
    """Return the ids of the ``size`` pieces to keep, in the order of the source.

    Kept in this order while there is room: the special pieces, every letter and digit (alone and inside a
    word, so that any word still splits into something), the pieces of ``texts``, then the commonest words.
    """
    vocabulary = source.get_vocab()
    by_id = sorted(vocabulary, key=vocabulary.__getitem__)
    kept = {vocabulary[piece] for piece in SPECIAL}
    kept |= {vocabulary[piece] for piece in by_id if re.fullmatch(r"(##)?[!-~]", piece)}
    kept |= {token for ids in source(list(texts), add_special_tokens=False)["input_ids"] for token in ids}
    if len(kept) > size:
        raise SystemExit(f"{len(kept)} pieces are needed but only {size} allowed. Allow more in the recipe.")
    for piece in by_id[FIRST_WORD:]:
        if len(kept) >= size:
            break
        if re.fullmatch(r"[a-z]{2,}", piece) or re.fullmatch(r"##(s|ed|ing|er|ly|y|en|ish|es)", piece):
            kept.add(vocabulary[piece])
    return sorted(kept)


def near_words(teacher: BertModel, tokenizer: PreTrainedTokenizerFast, count: int = 450) -> list[str]:
    """Return the ``count`` words of the vocabulary nearest to ``ANCHORS`` by MiniLM's word vectors."""
    table = F.normalize(teacher.embeddings.word_embeddings.weight.detach(), dim=1)
    table = F.normalize(table - table.mean(0), dim=1)
    vocabulary = tokenizer.get_vocab()
    words = {n: w for w, n in vocabulary.items() if n > FIRST_WORD and re.fullmatch(r"[a-z]{3,}", w)}
    numbers = sorted(words)
    anchors = [vocabulary[word] for word in ANCHORS if word in vocabulary]
    nearness = (table[numbers] @ table[anchors].T).topk(3, dim=1).values.mean(1)
    return [words[numbers[k]] for k in nearness.argsort(descending=True)[:count].tolist()]


def prune_tokenizer(source: PreTrainedTokenizerFast, kept: Sequence[int]) -> PreTrainedTokenizerFast:
    """Return the tokenizer with the kept pieces only, renumbered in the same order."""
    definition = json.loads(source.backend_tokenizer.to_str())
    names = {number: piece for piece, number in definition["model"]["vocab"].items()}
    new = {old: number for number, old in enumerate(kept)}
    definition["model"]["vocab"] = {names[old]: number for old, number in new.items()}
    definition["truncation"], definition["padding"] = None, None
    for token in definition["added_tokens"]:
        token["id"] = new[token["id"]]
    for special in definition["post_processor"].get("special_tokens", {}).values():
        special["ids"] = [new[number] for number in special["ids"]]
    for key in ("sep", "cls"):
        if key in definition["post_processor"]:
            piece, number = definition["post_processor"][key]
            definition["post_processor"][key] = [piece, new[number]]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(definition)),
        model_max_length=MAX_TOKENS,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def caption_words(captions: Iterable[str]) -> list[str]:
    """Return every word of the captions, in lower case, sorted."""
    return sorted({word for caption in captions for word in re.findall(r"[a-z]+", caption.lower())})


def write_words(path: Path, words: Sequence[str]) -> None:
    """Write one word per line."""
    path.write_text("\n".join(words) + "\n", encoding="utf-8")
