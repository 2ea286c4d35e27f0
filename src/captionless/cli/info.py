"""`captionless info`: describe a model or a folder of images."""

from __future__ import annotations

from captionless.cli.console import format_table, print_result, show_progress
from captionless.config.base import Config, setting
from captionless.errors import CaptionlessError
from captionless.paths import kind_of


class InfoOptions(Config):
    """The input of `captionless info`."""

    name: str = setting(
        ...,
        "A model folder, 'bundled', user/repo[@revision] on the Hub, or a folder of images.",
        flag="",
        metavar="MODEL|FOLDER",
    )


def info(options: InfoOptions) -> None:
    """Describe a model or a folder of images."""
    from captionless.checkpoints.config import CONFIG, model_folder
    from captionless.checkpoints.summary import model_summary
    from captionless.data.summary import folder_summary

    folder = model_folder(options.name, fetch=True)
    if not folder.is_dir():
        kind = kind_of(folder)
        problem = "does not exist" if kind == "nothing" else f"is {kind}, not a folder"
        raise CaptionlessError(
            f"{folder} {problem}. Pass a model folder, 'bundled' or a folder of images.",
            parameter="name",
            value=options.name,
            code="model_not_found",
        )
    if (folder / CONFIG).exists():
        facts = model_summary(options.name)
    else:
        with show_progress() as progress:
            facts = folder_summary(folder, progress)
    print_result(format_table(("", ""), facts, left=(0, 1)))
