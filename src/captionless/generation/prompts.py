"""Files of prompts: one prompt per line, or JSON lines with settings for each. Imports no torch."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captionless.errors import CaptionlessError

_EXAMPLE = 'Write {"prompt": "a red rose", "n": 4, "label": "rose"}, or plain text on all lines.'
_FIELDS: dict[str, tuple[tuple[type, ...], str]] = {
    "label": ((str,), "text"),
    "negative": ((str,), "text"),
    "n": ((int,), "a whole number"),
    "seed": ((int,), "a whole number"),
    "guidance": ((int, float), "a number"),
}
"""The keys allowed in a JSON line in addition to the prompt: their types, and the name of the type in messages."""


@dataclass(frozen=True)
class Prompt:
    """A prompt and what its line of a file says about it; None where it says nothing.

    Args:
        text: the prompt.
        label: the class of what it describes, for evaluation.
        negative: a prompt to guide away from.
        n: number of images.
        seed: seed of the first image.
        guidance: the guidance scale.
    """

    text: str
    label: str | None = None
    negative: str | None = None
    n: int | None = None
    seed: int | None = None
    guidance: float | None = None


def photo_of(label: str) -> Prompt:
    """Return the prompt "a photo of a LABEL"."""
    return Prompt(f"a photo of a {label}", label)


def read_prompts(file: Path) -> list[Prompt]:
    """Return the prompts of a file, without blank lines.

    Args:
        file: text with one prompt per line; or, if a line begins with ``{``, JSON lines: objects with a ``prompt`` and
            any of ``label``, ``negative``, ``n``, ``seed``, ``guidance`` (other keys are ignored). ``-`` is the
            standard input.

    Raises:
        CaptionlessError: the file cannot be read or holds no prompt, or a line is wrong; the message names the line.
    """
    # Not splitlines: JSON may hold line separators of Unicode as they are.
    lines = [(number, line.strip()) for number, line in enumerate(_read(file).split("\n"), 1) if line.strip()]
    if not lines:
        raise CaptionlessError(f"{file} holds no prompt. Write one per line.", parameter="prompts", value=file)
    if any(line.startswith(("{", "[{", '["')) or line == "[" for _, line in lines):
        return [_parse(line, f"{file}, line {number}") for number, line in lines]
    return [Prompt(line) for _, line in lines]


def _read(file: Path) -> str:
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise CaptionlessError(
            f"cannot read the prompts in {file}: {error.strerror}. Name a text file with one prompt per line.",
            parameter="prompts",
            value=file,
        ) from error
    except UnicodeDecodeError as error:
        raise CaptionlessError(
            f"{file} is not UTF-8 text. Save it as UTF-8, one prompt per line.", parameter="prompts", value=file
        ) from error


def _parse(line: str, where: str) -> Prompt:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise CaptionlessError(f"{where}: not JSON ({error}). {_EXAMPLE}", parameter="prompts") from error
    text = entry.get("prompt") if isinstance(entry, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise CaptionlessError(f"{where}: no prompt. {_EXAMPLE}", parameter="prompts")
    return Prompt(text.strip(), **{name: _value(entry[name], name, where) for name in _FIELDS if name in entry})


def _value(value: Any, name: str, where: str) -> Any:
    kinds, description = _FIELDS[name]
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, kinds) or (isinstance(value, str) and not value.strip()):
        raise CaptionlessError(
            f"{where}: `{name}` must be {description}, not {json.dumps(value)[:40]}. {_EXAMPLE}",
            parameter=name,
            value=value,
        )
    return value.strip() if isinstance(value, str) else value


def parse_weighted(text: str) -> tuple[str, float]:
    """Parse a prompt of --also; a number after its last colon is its weight."""
    words, colon, end = text.rpartition(":")
    if colon and re.fullmatch(r"\s*[-+]?(\d+\.?\d*|\.\d+)\s*", end):
        return words.strip(), float(end)
    return text.strip(), 1.0
