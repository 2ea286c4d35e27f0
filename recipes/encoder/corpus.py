"""The sentences that the small text tower learns from: each with the plain sentence that means the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lexicon import HELD_OUT, names, shades
from photographs import Photograph
from sentences import COUNTS, KINDS, VIEWS, article, plural


@dataclass(frozen=True)
class Sentence:
    """``text`` means what ``plain`` says in the records' own words; equal where nothing needs explaining."""

    text: str
    plain: str


COLOURS = ("white", "cream", "yellow", "orange", "peach", "red", "dark red", "pink", "magenta", "purple", "blue")
CENTERS = ("yellow", "brown", "orange", "black", "grey", "green", "white", "red", "pink")
SIZES = ("", "", "small ", "big ", "tall ", "round ", "bright ", "pale ", "deep ", "soft ", "beautiful ", "open ")
PLACES = (
    *("", "", "in a garden", "in a vase", "in a field", "in green grass", "against a blue sky", "on black"),
    *("on a white background", "in a meadow", "in a park", "after the rain", "with green leaves", "in sunlight"),
    *("in the snow", "on a table", "at sunset", "with a bee on it", "seen from above", "seen from the side"),
    *("with a blurred background", "held in a hand", "on a dark background", "by a fence", "with water drops"),
)
STARTS = (
    *("", "", "", "a photo of ", "a picture of ", "an image of ", "a close-up of ", "a macro shot of "),
    *("a painting of ", "please show me ", "I want ", "a bunch of ", "a field of ", "the "),
)
SUBJECTS = (
    "{size}{colour} {kind}",
    "{kind} with {colour} petals",
    "{size}{colour} {kind} with {center} center",
    "{size}{kind} in {colour}",
    "{colour} {kind} flower",
    "{colour}-petalled {kind}",
    "{size}{kind}, {colour}, {center} centre",
)


def _subject(rng: np.random.Generator, colour: str, kind: str) -> str:
    """A phrase with places left for the colour and the flower, so that both can be said in other words."""
    many = rng.random() < 0.3
    text = str(rng.choice(SUBJECTS)).format(
        size=rng.choice(SIZES), colour="<colour>", kind="<kinds>" if many else "<kind>", center="<center>"
    )
    text = text.replace("<center>", article(str(rng.choice(CENTERS))) if rng.random() < 0.7 else "yellow")
    start = str(rng.choice(STARTS))
    if not many and start in ("", "a photo of ", "a picture of ", "an image of ", "a close-up of "):
        start += "<a> " if rng.random() < 0.8 else "one "
    elif many and rng.random() < 0.4:
        start += str(rng.choice(["many ", "a few ", "two ", "three ", "lots of ", "some "]))
    return f"{start}{text} {rng.choice(PLACES)}".strip()


def fill(pattern: str, colour: str, kind: str) -> str:
    """The phrase with its words in place."""
    many = kind if kind.endswith("s") and kind not in ("bellis perennis", "bellis") else plural(kind)
    text = pattern.replace("<colour>", colour).replace("<kinds>", many).replace("<kind>", kind)
    if "<a> " in text:
        before, after = text.split("<a> ")
        text = before + article(after)
    return text


def lexicon_sentences(rng: np.random.Generator, each: int) -> Iterator[Sentence]:
    """Every shade and every other name of the lexicon, ``each`` times."""
    for word, colour in shades().items():
        yield Sentence(f"{article(word)} flower", f"{article(colour)} flower")
        yield Sentence(f"{word} petals", f"{colour} petals")
        for _ in range(each):
            kind = str(rng.choice(KINDS))
            pattern = _subject(rng, colour, kind)
            yield Sentence(fill(pattern, word, kind), fill(pattern, colour, kind))
    for name, kind in names().items():
        yield Sentence(name, kind)
        yield Sentence(f"a photo of {article(name)}", f"a photo of {article(kind)}")
        for _ in range(3 * each):
            colour = str(rng.choice(COLOURS))
            pattern = _subject(rng, colour, kind)
            yield Sentence(fill(pattern, colour, name), fill(pattern, colour, kind))


def plain_sentences(rng: np.random.Generator, count: int) -> Iterator[Sentence]:
    """Prompts as people write them, in the records' own colours and kinds."""
    for _ in range(count):
        colour, kind = str(rng.choice(COLOURS)), str(rng.choice(KINDS))
        text = fill(_subject(rng, colour, kind), colour, kind)
        yield Sentence(text, text)


def free_sentences(rng: np.random.Generator, words: Sequence[str]) -> Iterator[Sentence]:
    """Words that nothing here explains; only MiniLM knows what they mean."""
    for word in words:
        kind = str(rng.choice(KINDS))
        for text in (word, f"{article(word)} {kind}", f"a {kind} with {word} petals"):
            yield Sentence(text, text)


def build_corpus(records: Sequence[Photograph], words: Sequence[str], seed: int = 0) -> list[Sentence]:
    """All sentences, without repeats; ``words`` are the vocabulary's words that get no explanation."""
    rng = np.random.default_rng(seed)
    found = [Sentence(record.caption, record.caption) for record in records]
    found += [Sentence(text, text) for group in (*COUNTS.values(), *VIEWS.values()) for text in group]
    found += lexicon_sentences(rng, each=6)
    found += plain_sentences(rng, 3000)
    found += free_sentences(rng, [*words, *sorted(HELD_OUT)])
    return list(dict.fromkeys(found))
