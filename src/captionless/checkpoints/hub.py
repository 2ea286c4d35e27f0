"""Fetch a model folder from the Hugging Face Hub."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from captionless.errors import CaptionlessError

FETCHED: dict[str, Path] = {}
"""The folders of the models that this process has fetched, by name."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILES = ["*.json", "*.safetensors", "*.csv", "README.md"]
_NOT_NEEDED = ["training/*", "samples/*", "best/*", "log/*"]
_TIMEOUT = 5.0
"""Seconds to wait for an answer of the Hub."""


def is_hub_id(name: str) -> bool:
    """Tell whether a model's name has the form ``user/repo``; a local folder of that name takes precedence."""
    return bool(_HUB_ID.fullmatch(name)) and not Path(name).exists()


def fetch_model(name: str) -> Path:
    """Download a model (or find it in the local cache of the Hub) and return its folder.

    Weights are read from safetensors files alone; no code of the repository is fetched. The Hub is asked for a newer
    version once per process.

    Args:
        name: ``user/repo``.

    Raises:
        CaptionlessError: there is no such model, or it is not in the cache and the Hub cannot be reached.
    """
    if name in FETCHED:
        return FETCHED[name]
    import huggingface_hub as hub
    from huggingface_hub.errors import RepositoryNotFoundError

    from captionless.encoders.hub import quiet

    try:
        with quiet(bars=sys.stderr.isatty()):
            folder = hub.snapshot_download(
                name, allow_patterns=_FILES, ignore_patterns=_NOT_NEEDED, etag_timeout=_TIMEOUT
            )
    except RepositoryNotFoundError as error:
        raise CaptionlessError(
            f"there is no model {name}: neither a folder here nor a model on the Hugging Face Hub. Check the spelling; "
            "for a private or gated model, run `hf auth login` first.",
            parameter="model",
            value=name,
            code="model_not_found",
        ) from error
    except Exception as error:  # refused, timed out, offline mode, disk full: each library below has its own
        raise CaptionlessError(
            f"there is no folder {name}, and no model of that name on the Hugging Face Hub could be read "
            f"({_reason(error)}). Check the name of the folder, or the connection.",
            parameter="model",
            value=name,
            code="hub_unreachable",
        ) from error
    return FETCHED.setdefault(name, Path(folder))


def _reason(error: Exception) -> str:
    """Return in a few words why the Hub could not be read."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    if isinstance(error, LocalEntryNotFoundError | ConnectionError):
        return "no connection"
    lines = (getattr(error, "strerror", None) or str(error)).strip().splitlines()
    return lines[0].rstrip(".") if lines else "no answer"
