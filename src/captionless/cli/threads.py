"""The option ``--threads`` of every command that computes, but for ``train``, whose request has it."""

from __future__ import annotations

from captionless.config.base import Config
from captionless.config.threads import threads_setting


class ThreadOptions(Config):
    """The threads of a command."""

    threads: int | None = threads_setting("OMP_NUM_THREADS, else the number of CPUs that the process may use")
