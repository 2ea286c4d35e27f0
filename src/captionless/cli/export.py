"""`captionless export`: write a model in a form that other programs and places expect."""

from __future__ import annotations

from captionless.cli.console import print_result, show_progress
from captionless.cli.threads import ThreadOptions
from captionless.config.export import ExportRequest
from captionless.device import use_threads


def export(request: ExportRequest, threads: ThreadOptions) -> None:
    """Write a model in a form that other programs and places expect, and print where it is.

    The folder has the credits of the training images, and a model card.
    """
    use_threads(threads.threads)
    with show_progress() as progress:
        from captionless.exports import export as export_model

        for place in export_model(**request.given(), progress=progress):
            print_result(place)
