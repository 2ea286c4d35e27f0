"""What was asked of `captionless generate`: its words and files, read and checked before any work."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionless.errors import CaptionlessError
from captionless.generation.prompts import read_text

if TYPE_CHECKING:
    from PIL.Image import Image

    from captionless.conditioning.composition import Composition
    from captionless.generation.editing import Edit

WALK = 8
"""Pictures on the way from a prompt to another, where their number is not said: a row of the contact sheet."""


def numbers(option: str, text: str, example: str) -> tuple[float, ...]:
    """Read numbers with commas between them.

    Raises:
        CaptionlessError: one of them is none.
    """
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError as error:
        raise CaptionlessError(
            f"{option} takes numbers with commas between them, not {text!r}. Try {example}."
        ) from error


def interval(text: str) -> tuple[float, float]:
    """Read the two times of --guidance-interval."""
    times = numbers("--guidance-interval", text, "0.1,0.9")
    if len(times) != 2:
        raise CaptionlessError(f"--guidance-interval takes two times, LOW,HIGH, not {text!r}. Try 0.1,0.9.")
    return times[0], times[1]


def weighted(text: str) -> tuple[str, float]:
    """Read a prompt of --also; a number after its last colon is its weight."""
    words, colon, end = text.rpartition(":")
    if colon and re.fullmatch(r"\s*[-+]?(\d+\.?\d*|\.\d+)\s*", end):
        return words.strip(), float(end)
    return text.strip(), 1.0


def check_partners(given: Mapping[str, Any], prompts: Sequence[str], scales: Sequence[float]) -> None:
    """Refuse options that would do nothing: each needs another one.

    Args:
        given: what was given, by name; None where it was not.
        prompts: the prompts.
        scales: of guidance.
    """
    for option, partner, example in (
        ("switch", "then", '--then "a meadow"'),
        ("like_share", "like", "--like photo.jpg"),
        ("strength", "init", "--init photo.jpg"),
        ("mask", "init", "--init photo.jpg"),
    ):
        if given[option] is not None and given[partner] is None:
            raise CaptionlessError(f"{_flag(option)} does nothing without --{partner}. Add {example}, or leave it out.")
    if given["like_share"] is not None and not any(text.strip() for text in prompts):
        raise CaptionlessError(
            "--like-share mixes the picture with a prompt, and there is none. Add one, or leave it out."
        )
    if any(scale != 0 for scale in scales):
        return
    for option in ("negative", "guidance_interval", "guidance_rescale"):
        # What --also leads away from, it leads towards the negative prompt.
        leads = option == "negative" and any(weighted(text)[1] < 0 for text in given["also"] or ())
        if given[option] is not None and not leads:
            raise CaptionlessError(
                f"{_flag(option)} acts through guidance, which is 0. Try --guidance 5, or leave it out."
            )


def read_composition(given: Mapping[str, Any]) -> Composition:
    """Return what goes with every prompt, its reference picture read."""
    from captionless.conditioning.composition import Composition

    chosen = {name: given[name] for name in ("switch", "like_share") if given[name] is not None}
    return Composition(
        negative=given["negative"],
        also=tuple(weighted(text) for text in given["also"] or ()),
        then=given["then"],
        towards=given["towards"],
        like=_photo("--like", given["like"]),
        **chosen,
    )


def read_edit(given: Mapping[str, Any]) -> Edit | None:
    """Return the photograph to begin from, if there is one."""
    photo = _photo("--init", given["init"])
    if photo is None:
        return None
    from captionless.generation.editing import Edit

    return Edit(photo, given["strength"], _photo("--mask", given["mask"]))


def facts(given: Mapping[str, Any], composition: Composition, edit: Edit | None) -> dict[str, Any]:
    """Return, for the records, what goes with every prompt; what was not asked for is left out."""
    told: dict[str, Any] = {
        "negative": composition.negative,
        "also": [list(one) for one in composition.also] or None,
        "then": composition.then,
        "switch": composition.switch if composition.then else None,
        "towards": composition.towards,
        "like": given["like"],
        "like_share": composition.like_share if given["like"] else None,
        "init": given["init"],
        "strength": edit.start if edit else None,
        "mask": given["mask"],
    }
    return {name: str(value) if isinstance(value, Path) else value for name, value in told.items() if value is not None}


def what_to_sample(given: Mapping[str, Any]) -> list[str]:
    """Return the prompts, or the classes that a model of classes takes in their place.

    Raises:
        CaptionlessError: there are none, or they are of the other kind; there is no such model.
    """
    from captionless.checkpoints.config import load_config
    from captionless.conditioning.classes import check_classes

    words, file, classes = given["words"] or [], given["prompts"], given["classes"] or []
    known = load_config(given["model"]).classes
    check_classes(given["model"], known, classes, words=bool(words or file))
    if not known:
        return all_prompts(words, file, wordless=given["like"] is not None)
    if given["bridge"] is not None:
        raise CaptionlessError(
            "--bridge leads from words to pictures, and a model of classes has no words. Leave it out."
        )
    return list(classes)


def all_prompts(words: Sequence[str], file: Path | None, wordless: bool = False) -> list[str]:
    """Return the prompts given as words and those in a file, blank lines left out.

    Args:
        words: prompts.
        file: one prompt a line; ``-`` is the standard input.
        wordless: whether there may be none; then an empty one stands for it.

    Raises:
        CaptionlessError: there is none, or the file cannot be read.
    """
    texts = list(words)
    if file is not None:
        texts += [line.strip() for line in read_text(file).splitlines() if line.strip()]
    elif wordless and not texts:
        return [""]
    if not texts:
        where = f"{file} holds no prompt" if file else "no prompt given"
        raise CaptionlessError(f'{where}. Say what to paint, such as: captionless generate "a red rose".')
    return texts


def _photo(option: str, path: Path | None) -> Image | None:
    if path is None:
        return None
    if path.is_dir():
        raise CaptionlessError(f"{option} {path} is a folder. Name one picture.")
    from captionless.data.decode import decode_image

    return decode_image(path)


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")
