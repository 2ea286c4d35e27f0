"""`captionless embed`: the vectors of a folder's pictures, into the cache or a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from captionless.cli.console import Watcher, bar, remarks, say, show


def embed(
    folder: Annotated[Path, typer.Argument(help="A folder of pictures, in any sub-folders.")],
    encoder: Annotated[str, typer.Option(help="bundled, a hub id or a folder; auto chooses by the pictures.")] = "auto",
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a table: path, then the numbers of its vector.")
    ] = None,
) -> None:
    """Compute the image vector of every picture in FOLDER, once.

    The vectors go to the cache that `train` reads; pictures already there are not computed again.
    """
    with bar() as progress, remarks():
        from captionless.encoders.cache import cache_folder
        from captionless.encoders.embeddings import embed as embed_folder
        from captionless.encoders.table import write_vectors
        from captionless.training.dataset import pick_encoder, report_images

        watcher = Watcher(progress)
        chosen, reason = pick_encoder(folder, encoder, watcher)
        say(f"Encoder: {reason}.")
        embedded = embed_folder(folder, chosen, progress=watcher)
        report = cache_folder() / "reports" / f"{folder.resolve().name}.csv"
        report_images(embedded, report, say)
        if csv is not None:
            write_vectors(csv, embedded.names, embedded.vectors)
            show(csv)
