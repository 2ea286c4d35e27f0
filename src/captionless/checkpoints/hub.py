"""Fetch a model folder from the Hugging Face Hub."""

from __future__ import annotations

import re
from pathlib import Path

from captionless.encoders.hub import ModelKind, hub_errors

FETCHED: dict[str, Path] = {}
"""The folders of the models that this process has fetched, by name."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILES = ["*.json", "*.safetensors", "*.csv", "README.md"]
_NOT_NEEDED = ["training/*", "samples/*", "best/*", "log/*"]
_TIMEOUT = 5.0
"""Seconds to wait for an answer of the Hub."""
_MODEL = ModelKind("model", "model", (), "Check the name of the folder, or the connection.")


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
    if name not in FETCHED:
        import huggingface_hub

        with hub_errors(name, _MODEL):
            folder = huggingface_hub.snapshot_download(
                name, allow_patterns=_FILES, ignore_patterns=_NOT_NEEDED, etag_timeout=_TIMEOUT
            )
        FETCHED[name] = Path(folder)
    return FETCHED[name]
