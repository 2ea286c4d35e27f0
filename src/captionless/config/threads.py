"""The setting ``threads``, which commands that compute share."""

from __future__ import annotations

from typing import Any

from captionless.config.base import setting
from captionless.config.limits import MAX_WORKERS


def threads_setting(shown: str) -> Any:
    """Define the number of CPU threads of a command, with its default in words."""
    return setting(None, "Number of CPU threads.", shown=shown, example=1, ge=1, le=MAX_WORKERS)
