"""`captionless encoder`: learn an encoder from the names of the images in a folder."""

from __future__ import annotations

from pathlib import Path

from captionless.cli.console import print_remark, print_result, show_progress
from captionless.cli.threads import ThreadOptions
from captionless.config.base import Config, setting
from captionless.config.reading import BACKGROUND, Colour
from captionless.device import use_threads
from captionless.paths import quoted


class EncoderOptions(Config):
    """The inputs and outputs of `captionless encoder`."""

    folder: Path = setting(..., "A folder of images, searched recursively.", flag="", metavar="FOLDER")
    out: Path = setting(..., "The folder to write the encoder to.")
    background: Colour = BACKGROUND


def encoder(options: EncoderOptions, threads: ThreadOptions) -> None:
    """Learn an encoder from the names of the images in FOLDER and its sub-folders.

    Texts in .txt files beside the images, or in metadata.jsonl, are used too. `train` learns such an encoder by itself
    if no other encoder at hand knows the images.
    """
    use_threads(threads.threads)
    with show_progress() as progress:
        from captionless.encoders.learning import learn_encoder

        _, quality = learn_encoder(options.folder, options.out, background=options.background, progress=progress)
    print_remark(f"Learned from names: {quality}.")
    print_remark(f"Try: captionless train {quoted(options.folder)} --encoder {quoted(options.out)} --out runs/mine")
    print_result(options.out)
