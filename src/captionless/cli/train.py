"""`captionless train`: a folder of images in, a model folder out."""

from __future__ import annotations

from pathlib import Path

from captionless.cli.console import say, working
from captionless.config.base import Config, setting
from captionless.config.training import PRESETS, TRACKERS, TrainConfig
from captionless.errors import one_of

START = "Start from another model"
CONDITIONS = "Encoder and classes"
WATCH = "While it trains"


class TrainCommand(Config):
    """The inputs and outputs of `captionless train`."""

    folder: Path = setting(
        ..., "A folder of images, in any sub-folders.", command_line={"argument": True, "metavar": "FOLDER"}
    )
    out: Path = setting(..., "The model folder to write.")
    resume: bool = setting(False, "Continue the training run in `out`.")
    preset: str | None = setting(
        None, f"A named set of settings, each of which can be overridden: {', '.join(PRESETS)} (the model of courses)."
    )
    encoder: str | None = setting(
        None, "bundled, a hub id or a folder; auto chooses by the images.", panel=CONDITIONS, shown="auto"
    )
    vectors: Path | None = setting(
        None,
        "Precomputed image vectors (needs `encoder`).",
        panel=CONDITIONS,
        command_line={"metavar": "FILE.csv"},
    )
    classes: bool = setting(False, "Train a class-conditional model on the sub-folders of FOLDER.", panel=CONDITIONS)
    labels: Path | None = setting(
        None,
        "Train a class-conditional model on a table with the header file,label.",
        panel=CONDITIONS,
        command_line={"metavar": "FILE.csv"},
    )
    start_from: str | None = setting(
        None,
        "Initialise with this model's weights and encoder ('bundled').",
        panel=START,
        command_line={"flag": "--from", "metavar": "MODEL"},
    )
    enlarge: str | None = setting(
        None,
        "Train a super-resolution stage for this model; the two become one model that generates at `size`.",
        panel=START,
        command_line={"metavar": "MODEL"},
    )
    sample_prompts: tuple[str, ...] = setting(
        (),
        "A prompt of the sample grids. Repeatable.",
        panel=WATCH,
        command_line={"flag": "--sample-prompt", "metavar": "TEXT"},
    )
    evaluate_every: int | None = setting(
        None,
        "Validate after every so many images seen, and keep the best model in OUT/best; needs `hold_out`.",
        panel=WATCH,
        command_line={"metavar": "IMAGES"},
    )
    track: str | None = setting(
        None,
        f"Also log to a tracker whose package is installed: {', '.join(TRACKERS)}.",
        panel=WATCH,
        command_line={"metavar": "TRACKER"},
    )


def train(options: TrainCommand, config: TrainConfig) -> None:
    """Train a model on the images in FOLDER.

    With --resume, the same command continues exactly where Ctrl-C stopped it; after a crash, at the last checkpoint.
    """
    settings = config.given()
    if options.preset is not None:
        one_of("preset", options.preset, tuple(PRESETS))
        settings = {**PRESETS[options.preset], **settings}
    with working() as progress:
        from captionless.checkpoints.card import example_request
        from captionless.checkpoints.config import load_config
        from captionless.training.run import train as train_model

        arguments = {name: value for name, value in dict(options).items() if name != "preset"}
        train_model(**arguments, **settings, progress=progress)
        say(f"Done. Try: captionless generate --model {options.out} {example_request(load_config(options.out))}")
