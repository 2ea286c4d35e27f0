"""Download model folders from the Hugging Face Hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from captionless.encoders.hub import ModelKind, hub_errors
from captionless.errors import CaptionlessError

FETCHED: dict[str, Path] = {}
"""Folders of the models that this process has downloaded, by name."""
HUB_ID = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
_REVISION = r"[\w.][\w./-]*"
FILES = ["*.json", "*.safetensors", "*.csv", "README.md", "autoencoder/*"]
_NOT_NEEDED = ["training/*", "samples/*", "best/*", "log/*"]
_TIMEOUT = 5.0
"""Seconds to wait for a response from the Hub."""
_MODEL = ModelKind("model", "model", (), "Check the folder name and the network connection.")


def is_hub_id(name: str) -> bool:
    """Return whether a model name has the form ``user/repo`` or ``user/repo@revision`` and is not a local path."""
    return bool(re.fullmatch(f"{HUB_ID}(@{_REVISION})?", name)) and not os.path.exists(name)


def is_downloaded(name: str) -> bool:
    """Return whether a name is that of a Hub model, because such a model was downloaded to this computer."""
    from huggingface_hub import try_to_load_from_cache

    repo, _, revision = name.partition("@")
    return is_hub_id(name) and isinstance(try_to_load_from_cache(repo, "config.json", revision=revision or None), str)


def fetch_model(name: str) -> Path:
    """Return the folder of a Hub model; download the model unless the local Hub cache has the newest version.

    Only safetensors weights are downloaded, and no code. The Hub is checked for a newer version once per process.

    Args:
        name: ``user/repo``, or ``user/repo@revision`` with a branch, a tag or a commit.

    Raises:
        CaptionlessError: the model does not exist, or it is not in the cache and the Hub cannot be reached.
    """
    if name not in FETCHED:
        FETCHED[name] = Path(_download(name))
    return FETCHED[name]


def _download(name: str) -> str:
    import huggingface_hub
    from huggingface_hub.errors import RevisionNotFoundError

    repo, _, revision = name.partition("@")
    with hub_errors(name, _MODEL):
        try:
            return huggingface_hub.snapshot_download(
                repo,
                revision=revision or None,
                allow_patterns=FILES,
                ignore_patterns=_NOT_NEEDED,
                etag_timeout=_TIMEOUT,
            )
        except RevisionNotFoundError as error:
            raise CaptionlessError(
                f"the model {repo} has no branch, tag or commit {revision} on the Hugging Face Hub. Check the "
                f"spelling, or pass {repo} for its newest version.",
                parameter="model",
                value=name,
                code="model_not_found",
            ) from error
