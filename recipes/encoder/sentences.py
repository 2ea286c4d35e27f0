"""Write sentences from the fields of a record: the names of each attribute in several wordings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from photographs import Photograph

KINDS = ("daisy", "dandelion", "rose", "sunflower", "tulip")
PETALS = ("white", "yellow", "orange", "red", "pink", "purple")
GROUP = {
    "white": "white",
    "cream": "white",
    "yellow": "yellow",
    "orange": "orange",
    "peach": "orange",
    "red": "red",
    "dark red": "red",
    "pink": "pink",
    "magenta": "pink",
    "purple": "purple",
    "blue": "purple",
}
"""Petal colours of the records, mapped to the six groups used in the figures."""

PLURAL = {"other": "other flowers", "none": "things"}
FRAMES = (
    "{}",
    "a photo of {}",
    "a picture of {}",
    "{} in a photograph",
    "{}, flower photograph",
    "an image showing {}",
)
COUNTS = {
    "one": ("one flower", "a single flower", "one bloom alone", "a lone blossom", "just one flower"),
    "few": ("a few flowers", "two or three flowers", "several blooms", "a handful of flowers", "some flowers"),
    "many": ("many flowers", "lots of flowers", "a mass of blooms", "countless flowers", "dozens of blossoms"),
}
VIEWS = {
    "close-up": ("a close-up", "a macro photograph of a flower", "a flower very near, filling the frame"),
    "group": ("a group of flowers", "flowers growing together", "a clump of plants in bloom"),
    "field": ("a field of flowers", "a meadow full of flowers", "a flower bed in a park", "rows of flowers"),
    "bouquet": ("a bouquet", "cut flowers in a vase", "a bunch of flowers", "a flower arrangement"),
    "single plant": ("a single plant", "one whole plant with its stem", "a plant standing by itself"),
    "other": ("an unusual view", "something else than flowers growing", "an object or a person with a flower"),
}
PHOTOS = {
    "color": ("a colour photograph", "a color photo", "in full colour"),
    "black-and-white": ("a black-and-white photograph", "a monochrome photo", "in black and white", "in greys"),
}


@dataclass(frozen=True)
class Attribute:
    """An attribute that sorts the photographs into classes, with the sentences that name each class.

    ``value`` gives a record's class, or None where the record has none.
    """

    name: str
    weight: float
    value: Callable[[Photograph], str | None]
    wordings: Callable[[str], Sequence[str]]


def article(words: str) -> str:
    """Return ``words`` with "a" or "an" before it."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def plural(kind: str) -> str:
    """Return the plural of a flower's name."""
    return f"{kind[:-1]}ies" if kind.endswith("daisy") else PLURAL.get(kind, f"{kind}s")


def in_frames(*subjects: str) -> list[str]:
    """Return every subject in every frame."""
    return [frame.format(subject) for subject in subjects for frame in FRAMES]


def kind_wordings(kind: str) -> list[str]:
    """Return sentences about the kind of flower only."""
    if kind == "none":
        return in_frames("no flower at all", "something that is not a flower", "people or things without flowers")
    if kind == "other":
        return in_frames("some other kind of flower", "another wildflower", "a different garden flower")
    return in_frames(article(kind), plural(kind), f"{article(kind)} flower", f"a blooming {kind}", kind)


def petal_wordings(colour: str) -> list[str]:
    """Return sentences about the colour of the petals only."""
    if colour == "multicolor":
        return in_frames("flowers of several colours", "multicoloured flowers", "flowers with mixed colors")
    return in_frames(
        f"{article(colour)} flower",
        f"{colour} flowers",
        f"a flower with {colour} petals",
        f"{article(colour)} bloom",
        f"{colour} petals",
    )


def flower_wordings(key: str) -> list[str]:
    """Return sentences about both of ``kind|petals``."""
    kind, colour = key.split("|")
    colour = {"multicolor": "many-coloured"}.get(colour, colour)
    kind = {"other": "wildflower"}.get(kind, kind)
    return in_frames(
        f"{article(colour)} {kind}",
        f"{colour} {plural(kind)}",
        f"{article(kind)} with {colour} petals",
        f"{article(colour)} {kind} flower",
    )


def triple_wordings(key: str) -> list[str]:
    """Return sentences about all three of ``kind|petals|center``."""
    kind, colour, center = key.split("|")
    colour = {"multicolor": "many-coloured"}.get(colour, colour)
    kind = {"other": "wildflower"}.get(kind, kind)
    if center == "none":
        return in_frames(f"{article(colour)} {kind} whose center is hidden", f"{article(colour)} {kind}, no center")
    return in_frames(
        f"{article(colour)} {kind} with {article(center)} center",
        f"{colour} {plural(kind)} with {center} centres",
        f"{article(kind)} with {colour} petals around {article(center)} centre",
    )


def center_wordings(center: str) -> list[str]:
    """Return sentences about the colour of the centre only."""
    if center == "none":
        return in_frames("a flower whose center cannot be seen", "petals closed over the centre")
    return in_frames(
        f"a flower with {article(center)} center", f"{article(center)} centre", f"a {center}-centred flower"
    )


def scene_wordings(key: str) -> list[str]:
    """Return sentences about all four of ``kind|petals|count|view``."""
    kind, colour, count, view = key.split("|")
    kind = {"other": "wildflower"}.get(kind, kind)
    colour = {"multicolor": "many-coloured"}.get(colour, colour)
    subject = {
        "one": f"one {colour} {kind}",
        "few": f"a few {colour} {plural(kind)}",
        "many": f"many {colour} {plural(kind)}",
    }.get(count, f"{colour} {kind}")
    return {
        "close-up": [f"a close-up of {subject}", f"{subject} seen very close", f"macro of {subject}"],
        "group": [f"a group with {subject}", f"{subject} growing together"],
        "field": [f"{subject} in a field", f"a flower bed of {subject}", f"{subject} in a meadow"],
        "bouquet": [f"a bouquet of {subject}", f"{subject} in a vase", f"a bunch of {subject}"],
        "single plant": [f"a single plant with {subject}", f"{subject} on its stem"],
    }.get(view, [f"an unusual picture of {subject}", f"an object with {subject}"])


def _flower(record: Photograph) -> str | None:
    return None if "none" in (record.flower, record.petals) else f"{record.flower}|{record.petals}"


def _with(record: Photograph, *more: str) -> str | None:
    flower = _flower(record)
    return flower and "|".join((flower, *more))


ATTRIBUTES = (
    Attribute("kind", 0.6, lambda r: r.flower, kind_wordings),
    Attribute("petals", 0.8, lambda r: None if r.petals == "none" else r.petals, petal_wordings),
    Attribute("flower", 0.8, _flower, flower_wordings),
    Attribute("triple", 0.5, lambda r: _with(r, r.center), triple_wordings),
    Attribute("center", 0.3, lambda r: None if r.flower == "none" else r.center, center_wordings),
    Attribute("count", 0.3, lambda r: COUNTS.get(r.count) and r.count, lambda c: in_frames(*COUNTS[c])),
    Attribute("view", 0.3, lambda r: r.view, lambda v: in_frames(*VIEWS[v])),
    Attribute("photo", 0.1, lambda r: r.photo, lambda p: in_frames(*PHOTOS[p])),
    Attribute("scene", 0.4, lambda r: _with(r, r.count, r.view), scene_wordings),
)


def field_sentences(records: Sequence[Photograph]) -> list[str]:
    """Return every wording of every class that occurs in the records."""
    found = []
    for attribute in ATTRIBUTES:
        classes = sorted({value for record in records if (value := attribute.value(record)) is not None})
        found += [text for value in classes for text in attribute.wordings(value)]
    return found
