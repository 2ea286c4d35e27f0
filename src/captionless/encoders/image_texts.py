"""Find the words that a folder already has for its images: names of sub-folders and files, and texts beside them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from captionless.data.folder import composed, find_images, relative_name
from captionless.data.images import is_image
from captionless.data.stored import File, StoredFile
from captionless.errors import CaptionlessError
from captionless.text_files import parse_json, read_lines, read_text

METADATA = "metadata.jsonl"
"""Texts for the images of its folder, one JSON object a line, as in the image folders of Hugging Face datasets."""
_TEXT_KEYS = ("text", "caption", "description", "prompt", "label")
_VOWELS = frozenset("aeiouy")
_NOT_WORDS = frozenset(
    ["img", "image", "images", "photo", "picture", "screenshot", "untitled", "unnamed", "copy", "file", "scan"]
)


def name_words(name: str) -> list[str]:
    """Return the words of a relative path in lower case, in order and without repetition.

    ``weapon/longSword_03.png`` gives ``weapon long sword``. Numbers, single letters, identifiers that mix letters and
    digits, tokens without a vowel (``DSC``), and words that cameras and programs write (``IMG``) are left out.
    """
    split = re.sub(r"(?<=[^\W\d_A-Z])(?=[A-Z])", " ", re.sub(r"\.[^./]*$", "", name))
    tokens = (re.fullmatch(r"([^\W\d_]{2,})\d*", token.lower()) for token in re.split(r"[\W_]+", split))
    words = [found.group(1) for found in tokens if found]
    return list(
        dict.fromkeys(word for word in words if word not in _NOT_WORDS and (not word.isascii() or _VOWELS & set(word)))
    )


def image_texts(folder: str | Path, files: Iterable[File] | None = None) -> dict[str, str]:
    """Return the text of each image: the words of its path, then those of ``metadata.jsonl`` or its ``.txt`` file.

    Args:
        folder: the folder of images.
        files: the files to look at; by default all in the folder.

    Returns:
        The texts by the path of the image relative to ``folder``. Every file that begins like an image counts.

    Raises:
        CaptionlessError: the folder does not exist or cannot be listed, a text file or ``metadata.jsonl`` cannot be
            read, or a line of it is invalid.
    """
    tables, texts = dict[Path, dict[str, str]](), dict[str, str]()
    for path in find_images(folder) if files is None else files:
        if isinstance(path, StoredFile):
            texts[path.name] = " ".join(name_words(path.name))
            continue
        if not is_image(path):
            continue
        if path.parent not in tables:
            tables[path.parent] = _metadata(path.parent / METADATA)
        written = tables[path.parent].get(composed(path.name), "")
        beside = (path.with_suffix(".txt"), path.with_name(path.name + ".txt"))
        if not written and (text := next((one for one in beside if one != path and os.path.isfile(one)), None)):
            with _reading(text):
                written = read_text(text)
        name = relative_name(path, folder)
        texts[name] = " ".join([*name_words(name), *written.split()])
    return texts


def _metadata(path: Path) -> dict[str, str]:
    """Return the text of each file in ``metadata.jsonl``; empty if there is no such file."""
    found: dict[str, str] = {}
    if not path.is_file():
        return found
    with _reading(path):
        lines = list(read_lines(path))
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
            text = next(row[key] for key in _TEXT_KEYS if key in row)
            found[composed(str(row["file_name"]))] = text if isinstance(text, str) else " ".join(map(str, text))
        except (ValueError, KeyError, TypeError, StopIteration) as error:
            raise CaptionlessError(
                f"{path}, line {number}: not a JSON object with `file_name` and a text ({', '.join(_TEXT_KEYS)}). "
                "Correct the line or delete the file."
            ) from error
    return found


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Convert the exceptions of reading a file of texts into a `CaptionlessError`."""
    try:
        yield
    except (OSError, UnicodeDecodeError) as error:
        raise CaptionlessError(f"cannot read {path} ({error}). Save it as UTF-8 text, or delete it.") from error
