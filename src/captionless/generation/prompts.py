"""Files of prompts: one a line, or JSON lines that also say what each should show. Imports no torch."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from captionless.errors import CaptionlessError


@dataclass(frozen=True)
class Prompt:
    """A prompt, and the label of what it asks for, where that is known."""

    text: str
    label: str | None = None


def photo_of(label: str) -> Prompt:
    """Return the prompt that asks for what a label names."""
    return Prompt(f"a photo of a {label}", label)


def read_text(file: Path) -> str:
    """Return the text of a file of prompts; ``-`` is the standard input.

    Raises:
        CaptionlessError: it cannot be read, or is not UTF-8.
    """
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise CaptionlessError(
            f"cannot read --prompts {file}: {error.strerror}. Name a text file, one prompt a line."
        ) from error
    except UnicodeDecodeError as error:
        raise CaptionlessError(f"--prompts {file} is not UTF-8 text. Save it as UTF-8, one prompt a line.") from error


def read_prompts(file: Path) -> list[Prompt]:
    """Return the prompts of a file, blank lines left out.

    Args:
        file: text with one prompt a line; or, where a line begins with ``{``, JSON lines: objects with a
            ``prompt`` and, if it is known, a ``label`` (other keys are passed over).

    Raises:
        CaptionlessError: the file cannot be read or holds no prompt, or a line is wrong; the message names it.
    """
    # Not splitlines: JSON may hold line separators of Unicode as they are.
    lines = [(number, line.strip()) for number, line in enumerate(read_text(file).split("\n"), 1) if line.strip()]
    if not lines:
        raise CaptionlessError(f"--prompts {file} holds no prompt. Write one a line.")
    if any(line.startswith(("{", "[{", '["')) or line == "[" for _, line in lines):
        return [_parse(line, f"--prompts {file}, line {number}") for number, line in lines]
    return [Prompt(line) for _, line in lines]


def _parse(line: str, where: str) -> Prompt:
    example = 'Write {"prompt": "a red rose", "label": "rose"}, or plain text on all lines.'
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise CaptionlessError(f"{where}: not JSON ({error}). {example}") from error
    text, label = (entry.get("prompt"), entry.get("label")) if isinstance(entry, dict) else (None, None)
    if not isinstance(text, str) or not text.strip():
        raise CaptionlessError(f"{where}: no prompt. {example}")
    if label is not None and (not isinstance(label, str) or not label.strip()):
        raise CaptionlessError(f"{where}: the label must be text, not {json.dumps(label)[:40]}. {example}")
    return Prompt(text.strip(), label and label.strip())
