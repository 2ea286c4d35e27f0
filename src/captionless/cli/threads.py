"""The option ``--threads`` of every command that computes."""

from __future__ import annotations

from captionless.config.base import Config, setting
from captionless.config.limits import MAX_WORKERS


class ThreadOptions(Config):
    """The threads of a command."""

    threads: int | None = setting(
        None,
        "Number of CPU threads.",
        shown="OMP_NUM_THREADS, else the number of CPUs that the process may use",
        example=1,
        ge=1,
        le=MAX_WORKERS,
    )
