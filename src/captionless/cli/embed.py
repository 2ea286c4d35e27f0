"""`captionless embed`: compute the vectors of the images in a folder."""

from __future__ import annotations

from pathlib import Path

from captionless.cli.console import print_remark, print_result, show_progress
from captionless.cli.threads import ThreadOptions
from captionless.config.base import Config, setting
from captionless.config.reading import BACKGROUND, VERIFY, Colour, Source
from captionless.config.shards import ShardConfig
from captionless.device import use_threads
from captionless.errors import CaptionlessError
from captionless.progress import Progress


class EmbedOptions(Config):
    """The inputs and outputs of `captionless embed`."""

    folder: Source = setting(
        ...,
        "A folder of images, searched recursively, tars or Parquet files of images ('images/*.tar'), or a URL (s3://…).",
        flag="",
        metavar="FOLDER",
    )
    encoder: str = setting(
        "auto",
        "The encoder: bundled, a Hugging Face id or a local folder; auto takes the bundled one for flowers, else CLIP "
        "if it is in the local cache, and otherwise says how to get one.",
    )
    background: Colour = BACKGROUND
    verify: bool = VERIFY
    csv: Path | None = setting(
        None, "Also write the vectors to a table (path, then the vector's elements).", metavar="FILE"
    )
    shards: Path | None = setting(
        None,
        "Embed the images shard by shard into Parquet files in this folder, instead of the cache; the same command "
        "continues where it was interrupted. `train` reads them with `vectors`.",
        metavar="FOLDER",
    )


def embed(options: EmbedOptions, config: ShardConfig, threads: ThreadOptions) -> None:
    """Compute the vector of every image in FOLDER.

    The vectors are stored in the cache that `train` reads; cached images are not computed again.
    """
    sharded = options.shards is not None
    unfit = {"csv", "verify"} & options.model_fields_set if sharded else config.model_fields_set
    for name in sorted(unfit):
        raise CaptionlessError(f"`{name}` cannot be used {'with' if sharded else 'without'} `shards`. Leave it out.")
    use_threads(threads.threads)
    with show_progress("Stopped. Run the same command again to go on: the vectors computed are kept.") as progress:
        if options.shards is None:
            _embed_folder(options, progress)
        else:
            from captionless.encoders.shards import embed_shards

            done = embed_shards(
                options.folder,
                options.shards,
                options.encoder,
                config,
                background=options.background,
                progress=progress,
            )
            print_remark(f"Embedded {done:,} shards. They are in {options.shards}.")


def _embed_folder(options: EmbedOptions, progress: Progress) -> None:
    from captionless.data.cache import cache_folder
    from captionless.encoders.embeddings import embed as embed_folder
    from captionless.encoders.vector_csv import check_replaceable, write_vectors
    from captionless.training.dataset import report_dataset_images

    if options.csv is not None:
        check_replaceable(options.csv)  # before the work
    embedded = embed_folder(
        options.folder, options.encoder, background=options.background, verify=options.verify, progress=progress
    )
    name = Path(options.folder).resolve().name.replace("*", "all")
    report_dataset_images(embedded, cache_folder() / "reports" / f"{name}.csv", print_remark)
    if options.csv is not None:
        write_vectors(options.csv, embedded.names, embedded.vectors)
        print_result(options.csv)
