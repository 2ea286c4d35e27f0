"""Download model folders from the Hugging Face Hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from captionless.encoders.hub import ModelKind, hub_errors

FETCHED: dict[str, Path] = {}
"""Folders of the models that this process has downloaded, by name."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILES = ["*.json", "*.safetensors", "*.csv", "README.md"]
_NOT_NEEDED = ["training/*", "samples/*", "best/*", "log/*"]
_TIMEOUT = 5.0
"""Seconds to wait for a response from the Hub."""
_MODEL = ModelKind("model", "model", (), "Check the folder name and the network connection.")


def is_hub_id(name: str) -> bool:
    """Return whether a model name has the form ``user/repo`` and is not an existing local path."""
    return bool(_HUB_ID.fullmatch(name)) and not os.path.exists(name)


def fetch_model(name: str) -> Path:
    """Return the folder of a Hub model; download the model unless the local Hub cache has the newest version.

    Only safetensors weights are downloaded, and no code. The Hub is checked for a newer version once per process.

    Args:
        name: ``user/repo``.

    Raises:
        CaptionlessError: the model does not exist, or it is not in the cache and the Hub cannot be reached.
    """
    if name not in FETCHED:
        import huggingface_hub

        with hub_errors(name, _MODEL):
            folder = huggingface_hub.snapshot_download(
                name, allow_patterns=_FILES, ignore_patterns=_NOT_NEEDED, etag_timeout=_TIMEOUT
            )
        FETCHED[name] = Path(folder)
    return FETCHED[name]
