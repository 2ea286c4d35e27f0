"""`captionless embed`: compute the vectors of the images in a folder."""

from __future__ import annotations

from pathlib import Path

from captionless.cli.console import print_remark, print_result, show_progress
from captionless.cli.threads import ThreadOptions
from captionless.config.base import Config, setting
from captionless.config.reading import BACKGROUND, VERIFY, Colour
from captionless.device import use_threads


class EmbedOptions(Config):
    """The inputs and outputs of `captionless embed`."""

    folder: Path = setting(..., "A folder of images, searched recursively.", flag="", metavar="FOLDER")
    encoder: str = setting(
        "auto",
        "The encoder: bundled, a Hugging Face id or a local folder; auto takes the bundled one for flowers, else CLIP "
        "if it is in the local cache.",
    )
    background: Colour = BACKGROUND
    verify: bool = VERIFY
    csv: Path | None = setting(
        None, "Also write the vectors to a table (path, then the vector's elements).", metavar="FILE"
    )


def embed(options: EmbedOptions, threads: ThreadOptions) -> None:
    """Compute the vector of every image in FOLDER.

    The vectors are stored in the cache that `train` reads; cached images are not computed again.
    """
    use_threads(threads.threads)
    folder = options.folder
    with show_progress() as progress:
        from captionless.data.cache import cache_folder
        from captionless.encoders.embeddings import embed as embed_folder
        from captionless.encoders.vector_csv import check_replaceable, write_vectors
        from captionless.training.dataset import report_dataset_images

        if options.csv is not None:
            check_replaceable(options.csv)  # before the work
        embedded = embed_folder(
            folder, options.encoder, background=options.background, verify=options.verify, progress=progress
        )
        report_dataset_images(embedded, cache_folder() / "reports" / f"{folder.resolve().name}.csv", print_remark)
        if options.csv is not None:
            write_vectors(options.csv, embedded.names, embedded.vectors)
            print_result(options.csv)
