"""Prompts and prompt files, which contain one prompt per line or JSON lines with settings per prompt."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, StringConstraints, ValidationError
from pydantic.dataclasses import dataclass

from captionless.conditioning.composition import Composition
from captionless.config.limits import MAX_PROMPT, MAX_SAMPLES
from captionless.errors import CaptionlessError
from captionless.generation.sample import MAX_SEED
from captionless.text_files import parse_json, read_text

Text = Annotated[str, StringConstraints(min_length=1)]
_EXAMPLE = 'Write {"prompt": "a red rose", "n": 4, "label": "rose"}, or plain text on all lines.'


@dataclass(frozen=True, config=ConfigDict(strict=True, str_strip_whitespace=True, allow_inf_nan=False))
class Prompt:
    """A prompt with the settings from its line in a prompt file; None means not given.

    Attributes:
        text: the prompt.
        label: the class that the prompt describes, for evaluation.
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
    """Read a prompt file; blank lines are ignored.

    Args:
        file: a text file with one prompt per line. If a line starts with ``{``, the file is read as JSON lines, i.e.
            objects with a ``prompt`` and optionally ``label``, ``negative``, ``n``, ``seed`` and ``guidance`` (other
            keys are ignored). ``-`` reads from standard input.

    Raises:
        CaptionlessError: the file cannot be read, contains no prompt, or has an invalid line.
    """
    # Not splitlines, because JSON strings may contain Unicode line separators.
    text = _read(file)
    if text.count("\n") > MAX_SAMPLES:
        raise CaptionlessError(
            f"{file} has more than {MAX_SAMPLES:,} lines. Divide it.", parameter="prompts", value=file
        )
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise CaptionlessError(
            f"{file} contains no prompt. Write one prompt per line.", parameter="prompts", value=file
        )
    if any(line.startswith("{") for _, line in lines):
        return [_parse(line, f"{file}, line {number}") for number, line in lines]
    return [Prompt(line) for _, line in lines]


def _read(file: Path) -> str:
    try:
        return read_text(sys.stdin.buffer if str(file) == "-" else os.path.expanduser(file))
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = "the file is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error
        reason = getattr(error, "strerror", None) or reason
        message = f"cannot read the prompts in {file}: {reason}. Pass a UTF-8 text file with one prompt per line."
        raise CaptionlessError(message, parameter="prompts", value=file) from error


def _parse(line: str, where: str) -> Prompt:
    try:
        entry = parse_json(line)
    except ValueError as error:
        raise CaptionlessError(f"{where}: invalid JSON ({error}). {_EXAMPLE}", parameter="prompts") from error
    text = entry.pop("prompt", None) if isinstance(entry, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise CaptionlessError(f"{where}: `prompt` is missing or empty. {_EXAMPLE}", parameter="prompts")
    try:
        return Prompt(**(entry | {"text": text}))
    except ValidationError as error:
        wrong = error.errors()[0]
        name, value = str(wrong["loc"][0]), wrong["input"]
        message = f"{where}: `{name}` is {json.dumps(value)[:40]}: {wrong['msg'].lower()}. {_EXAMPLE}"
        raise CaptionlessError(message, parameter=name, value=value) from error


def parse_weighted_prompt(text: str) -> tuple[str, float]:
    """Parse a prompt of the form ``text:weight``; without a number after the last colon, the weight is 1."""
    words, colon, end = text.rpartition(":")
    if colon and re.fullmatch(r"\s*[-+]?(\d+\.?\d*|\.\d+)\s*", end):
        return words.strip(), float(end)
    return text.strip(), 1.0


def check_prompts(prompts: Sequence[str], n: int, seed: int, composition: Composition | None = None) -> None:
    """Raise unless every prompt has a text or a reference image, and all ``n`` seeds are in range."""
    wordless = composition is not None and bool(composition.references)
    empty = next((i for i, prompt in enumerate(prompts, 1) if not prompt.strip()), None)
    if not prompts or (empty and not wordless):
        where = f" (number {empty} of {len(prompts)})" if len(prompts) > 1 else ""
        raise CaptionlessError(
            f'the prompt{where} is empty. Describe the image, for example "a red rose".',
            parameter="prompts",
            value=prompts,
        )
    longest = max(map(len, prompts))
    if longest > MAX_PROMPT:
        raise CaptionlessError(
            f"a prompt has {longest:,} characters; at most {MAX_PROMPT:,} are read. Describe the image in a sentence.",
            parameter="prompts",
        )
    if not 1 <= n <= MAX_SAMPLES:
        raise CaptionlessError(f"`n` must be from 1 to {MAX_SAMPLES:,}, not {n:,}. Try `n=1`.", parameter="n", value=n)
    if not 0 <= seed <= MAX_SEED - n + 1:
        raise CaptionlessError(
            f"`seed` must be from 0 to {MAX_SEED - n + 1}, not {seed}. Try `seed=0`.", parameter="seed", value=seed
        )
