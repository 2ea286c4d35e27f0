"""`captionless serve`: serve models over HTTP."""

from __future__ import annotations

from captionless.cli.console import print_remark, show_progress
from captionless.cli.threads import ThreadOptions
from captionless.config.sampling import SamplingConfig
from captionless.config.serve import ServeConfig
from captionless.device import use_threads
from captionless.errors import CaptionlessError


def serve(config: ServeConfig, sampling: SamplingConfig, threads: ThreadOptions) -> None:
    """Serve models over HTTP, in the form of OpenAI's images API.

    The sampling settings are the defaults of requests that do not give their own.
    """
    use_threads(threads.threads)
    with show_progress():
        try:
            from captionless.server import serve as run
        except ModuleNotFoundError as error:
            raise CaptionlessError(
                f"the server needs packages that are not installed ({error.name}). "
                "Install them: pip install 'captionless[serve]' (in a clone: pip install -c constraints.txt '.[serve]')"
            ) from error
        run(config, sampling, print_remark)
