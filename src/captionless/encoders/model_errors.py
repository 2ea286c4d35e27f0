"""Tell damage from bugs: what a library raises on the files of a model says why the model cannot be loaded.

Only calls into libraries, and the reading of single values from a model's files, stand inside `foreign`. What our own
code raises elsewhere passes `encoder_errors`: it is a bug.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from captionless.encoders.hub import ModelKind, quiet_hub
from captionless.errors import CaptionlessError
from captionless.text_files import read_json


class ModelFilesError(Exception):
    """The files of a model are damaged, or fit no model."""


@contextmanager
def foreign() -> Iterator[None]:
    """Mark what a library raises on the files of a model, for `encoder_errors`; no code of our own belongs inside."""
    try:
        yield
    except Exception as error:  # its type depends on the library, and on how the files are damaged
        raise ModelFilesError(f"{error}".strip() or type(error).__name__) from error


@contextmanager
def encoder_errors(name: str, kind: ModelKind, folder: Path) -> Iterator[None]:
    """Convert what is raised on damaged files of a model into a `CaptionlessError`."""
    try:
        yield
    # Files that vanish, lone surrogates in JSON, JSON that is nested a thousand deep.
    except (ModelFilesError, OSError, UnicodeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CaptionlessError(
            f"the {kind.noun} {name} in {folder} cannot be loaded ({reason}). Download it again or use another "
            f"{kind.noun}."
        ) from error


@contextmanager
def loading_errors(name: str, kind: ModelKind, folder: Path) -> Iterator[None]:
    """Silence transformers, and convert exceptions as in ``encoder_errors``."""
    with quiet_hub(), encoder_errors(name, kind, folder):
        yield


def read_settings(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file of a model.

    Raises:
        OSError: the file cannot be read.
        ModelFilesError: it does not hold a JSON object.
    """
    try:
        found = read_json(path)
    except ValueError as error:
        raise ModelFilesError(f"{path.name}: {error}") from error
    if not isinstance(found, dict):
        raise ModelFilesError(f"{path.name} is not a JSON object")
    return found
