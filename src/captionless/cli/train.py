"""`captionless train`: train a model on a folder of images."""

from __future__ import annotations

from captionless.cli.console import print_remark, show_progress
from captionless.config.train_request import TrainRequest
from captionless.config.training import TrainConfig
from captionless.device import use_threads
from captionless.paths import quoted


def train(request: TrainRequest, config: TrainConfig) -> None:
    """Train a model on the images in FOLDER.

    With --resume, the same command continues exactly where Ctrl-C stopped it or, after a crash, at the last checkpoint.
    """
    use_threads(request.threads)
    again = "Stopped. Run the same command again, with --resume if the training had begun: the vectors read are kept."
    with show_progress(again) as progress:
        from accelerate import PartialState

        from captionless.checkpoints.card import example_request
        from captionless.checkpoints.config import load_config
        from captionless.training.run import train as train_model

        train_model(**request.given(), **config.given(), progress=progress)
        if request.plan or PartialState().process_index:
            return
        print_remark(
            f"Done. Try: captionless generate --model {quoted(request.out)} {example_request(load_config(request.out))}"
        )
