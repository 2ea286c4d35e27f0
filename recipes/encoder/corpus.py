"""The sentences that the small text tower learns from.

Captions, sentences made from the records' fields, and both again with words of the lexicon in the place of plain
ones. A sentence with such words keeps its plain wording: the teacher gets the plain one, the student the other.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from lexicon import names, shades
from photographs import Photograph
from sentences import GROUP, KINDS, article, plural

COLOURS = ("white", "cream", "yellow", "orange", "peach", "red", "dark red", "pink", "magenta", "purple", "blue")
PAIRS = (
    "a {colour} {kind}",
    "{colour} {kinds}",
    "a {kind} with {colour} petals",
    "a {colour} {kind} flower",
)
SINGLES = ("a {colour} flower", "{colour} petals", "{colour} flowers", "a flower with {colour} petals")


@dataclass(frozen=True)
class Sentence:
    """``text`` has the meaning of ``plain``; ``image`` is the row of the photograph it captions, else -1."""

    text: str
    plain: str
    image: int = -1


def pair_sentences() -> Iterator[Sentence]:
    """Yield sentences for every colour of every kind, also for those that no photograph shows."""
    for colour in COLOURS:
        for text in (*(pattern.format(colour=colour) for pattern in SINGLES), *_pairs(colour)):
            yield Sentence(text, text)


def _pairs(colour: str) -> list[str]:
    found = []
    for kind in KINDS:
        for pattern in PAIRS:
            text = pattern.format(colour=colour, kind=kind, kinds=plural(kind))
            found.append(re.sub(r"^an? (\w)", lambda m: article(m[1]), text))
    return found


def _chance(word: str) -> np.random.Generator:
    """Return random numbers that depend on the word alone, so that new words do not change other sentences."""
    return np.random.default_rng(zlib.crc32(word.encode()))


def with_shade(text: str, colour: str, word: str) -> str:
    """Return ``text`` with the first mention of ``colour`` reworded, or unchanged if there is none."""
    before = rf"(\ban? )?\b{colour}\b"

    def change(match: re.Match[str]) -> str:
        return article(word) if match[1] else word

    return re.sub(before, change, text, count=1)


def with_name(text: str, kind: str, name: str) -> str:
    """Return ``text`` with the first mention of the flower renamed, or unchanged if there is none."""

    def change(match: re.Match[str]) -> str:
        many = match[2] != kind
        new = plural(name) if many and not name.endswith(("s", "clock")) else name
        return article(new) if match[1] and not many else (match[1] or "") + new

    return re.sub(rf"(\ban? )?\b({kind}|{plural(kind)})\b", change, text, count=1)


def other_words(
    plain: Mapping[str, Sequence[Sentence]], by_colour: Mapping[str, Sequence[Sentence]], each: int
) -> Iterator[Sentence]:
    """Return sentences with words of the lexicon: ``each`` per shade, three times as many per flower name.

    ``plain`` and ``by_colour`` list the sentences that mention a kind and a colour.
    """
    for word, colour in shades().items():
        rng = _chance(word)
        # A shade such as fuchsia is magenta, or pink if there are few colours to choose from: it is taught as both.
        for said in dict.fromkeys((colour, GROUP[colour] if colour != "blue" else colour)):
            choice = by_colour[said]
            for k in rng.choice(len(choice), min(each, len(choice)), replace=False):
                base = choice[k]
                yield Sentence(with_shade(base.text, said, word), base.plain)
            yield Sentence(f"{article(word)} flower", f"{article(said)} flower")
    for name, kind in names().items():
        rng, choice = _chance(name), plain[kind]
        for k in rng.choice(len(choice), min(3 * each, len(choice)), replace=False):
            base = choice[k]
            yield Sentence(with_name(base.text, kind, name), base.plain)
        yield Sentence(article(name), article(kind))


def build_corpus(
    records: Sequence[Photograph], wordings: Iterable[str], each: int = 8, most: int = 4000, seed: int = 0
) -> list[Sentence]:
    """Return all sentences without repeats, with at most ``most`` random ``wordings`` (made from the fields)."""
    rng = np.random.default_rng(seed)
    listed = sorted(set(wordings))
    captions = [Sentence(record.caption, record.caption, k) for k, record in enumerate(records)]
    fields = [Sentence(listed[k], listed[k]) for k in rng.permutation(len(listed))[:most]]
    pairs = list(pair_sentences())
    # Pairs weigh more than any caption: a word's plain meaning comes first.
    base = [*captions, *fields, *pairs * 3]
    by_kind = {k: [s for s in base if re.search(rf"\b({k}|{plural(k)})\b", s.text)] for k in KINDS}
    by_colour = {c: _mentions(records, base, c) for c in COLOURS}
    return list(dict.fromkeys([*captions, *fields, *pairs, *other_words(by_kind, by_colour, each)]))


def _mentions(records: Sequence[Photograph], base: Sequence[Sentence], colour: str) -> list[Sentence]:
    """Return the sentences that give the petals this ``colour``; not captions in which it may be the background's."""
    said = [s for s in base if re.search(rf"\b{colour}\b", s.text)]
    if colour == "red":
        said = [s for s in said if "dark red" not in s.text]
    ours = [s for s in said if s.image < 0 or records[s.image].petals == colour]
    return [s for s in ours if s.image < 0 or re.search(rf"\b{colour} (\w+ )?({_KIND})", s.text)]


_KIND = "|".join((*KINDS, "daisies", "flower"))
