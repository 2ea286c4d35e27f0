"""`captionless embed`: the vectors of a folder's images, into the cache or a table."""

from __future__ import annotations

from pathlib import Path

from captionless.cli.console import print_remark, print_result, show_progress
from captionless.config.base import Config, setting


class EmbedOptions(Config):
    """The inputs and outputs of `captionless embed`."""

    folder: Path = setting(..., "A folder of images, in any sub-folders.", flag="", metavar="FOLDER")
    encoder: str = setting("auto", "bundled, a hub id or a folder; auto chooses by the images.")
    csv: Path | None = setting(None, "Also write a table: path, then the numbers of its vector.", metavar="FILE")


def embed(options: EmbedOptions) -> None:
    """Compute the image vector of every image in FOLDER, once.

    The vectors go to the cache that `train` reads; images already there are not computed again.
    """
    folder = options.folder
    with show_progress() as progress:
        from captionless.encoders.cache import cache_folder
        from captionless.encoders.embeddings import embed as embed_folder
        from captionless.encoders.vector_csv import write_vectors
        from captionless.training.dataset import report_dataset_images

        embedded = embed_folder(folder, options.encoder, progress=progress)
        report_dataset_images(embedded, cache_folder() / "reports" / f"{folder.resolve().name}.csv", print_remark)
        if options.csv is not None:
            write_vectors(options.csv, embedded.names, embedded.vectors)
            print_result(options.csv)
