"""Prompts and files of prompts: one prompt per line, or JSON lines with settings for each."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, StringConstraints, ValidationError
from pydantic.dataclasses import dataclass

from captionless.conditioning.composition import Composition
from captionless.errors import CaptionlessError
from captionless.generation.sample import MAX_SEED

Text = Annotated[str, StringConstraints(min_length=1)]
_EXAMPLE = 'Write {"prompt": "a red rose", "n": 4, "label": "rose"}, or plain text on all lines.'


@dataclass(frozen=True, config=ConfigDict(strict=True, str_strip_whitespace=True, allow_inf_nan=False))
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
    label: Text | None = None
    negative: Text | None = None
    n: int | None = None
    seed: int | None = None
    guidance: float | None = None


def label_prompt(label: str) -> Prompt:
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
    if any(line.startswith("{") for _, line in lines):
        return [_parse(line, f"{file}, line {number}") for number, line in lines]
    return [Prompt(line) for _, line in lines]


def _read(file: Path) -> str:
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        message = f"cannot read the prompts in {file}: {reason}. Name a UTF-8 text file with one prompt per line."
        raise CaptionlessError(message, parameter="prompts", value=file) from error


def _parse(line: str, where: str) -> Prompt:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise CaptionlessError(f"{where}: not JSON ({error}). {_EXAMPLE}", parameter="prompts") from error
    text = entry.pop("prompt", None) if isinstance(entry, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise CaptionlessError(f"{where}: no prompt. {_EXAMPLE}", parameter="prompts")
    try:
        return Prompt(**(entry | {"text": text}))
    except ValidationError as error:
        wrong = error.errors()[0]
        name, value = str(wrong["loc"][0]), wrong["input"]
        message = f"{where}: `{name}` is {json.dumps(value)[:40]}: {wrong['msg'].lower()}. {_EXAMPLE}"
        raise CaptionlessError(message, parameter=name, value=value) from error


def parse_weighted_prompt(text: str) -> tuple[str, float]:
    """Parse a prompt of --also; a number after its last colon is its weight."""
    words, colon, end = text.rpartition(":")
    if colon and re.fullmatch(r"\s*[-+]?(\d+\.?\d*|\.\d+)\s*", end):
        return words.strip(), float(end)
    return text.strip(), 1.0


def check_prompts(prompts: Sequence[str], n: int, seed: int, composition: Composition | None = None) -> None:
    """Raise unless every prompt has a text (or a reference image) and all ``n`` seeds from ``seed`` on are in range."""
    wordless = composition is not None and composition.like is not None
    empty = next((i for i, prompt in enumerate(prompts, 1) if not prompt.strip()), None)
    if not prompts or (empty and not wordless):
        where = f" (number {empty} of {len(prompts)})" if len(prompts) > 1 else ""
        raise CaptionlessError(
            f'an empty prompt{where}. Describe the image, such as "a red rose".', parameter="prompts", value=prompts
        )
    if n < 1:
        raise CaptionlessError(f"`n` must be at least 1, not {n}.", parameter="n", value=n)
    if not 0 <= seed <= MAX_SEED - n + 1:
        raise CaptionlessError(
            f"`seed` must be a whole number from 0 to {MAX_SEED - n + 1}, not {seed}.", parameter="seed", value=seed
        )
