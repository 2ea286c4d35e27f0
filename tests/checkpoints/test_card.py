"""The contract of captionless.checkpoints.card: metadata that model hubs read, and a body that people read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import yaml

import tiny
from captionless.checkpoints.card import CARD, add_evaluation, write_model_card
from captionless.checkpoints.config import TrainingRecord


def test_the_card_opens_with_metadata_and_keeps_it_when_an_evaluation_is_added(tmp_path: Path) -> None:
    model = tiny.model()
    config = replace(model.config, training=TrainingRecord(initialised_from="/home/ada/runs/a: rosé"))
    write_model_card(tmp_path, config, model.denoiser, tmp_path)
    add_evaluation(tmp_path, "KID 3")
    _, front, body = (tmp_path / CARD).read_text(encoding="utf-8").split("---\n", 2)
    values = yaml.safe_load(front)
    assert (values["library_name"], values["pipeline_tag"], values["license"]) == (
        "captionless",
        "text-to-image",
        "other",
    )
    assert values["base_model"] == "a: rosé"  # the name alone, whatever the folder
    assert body.index(f"# {tmp_path.name}") < body.index("KID 3") < body.index("## Credits")
