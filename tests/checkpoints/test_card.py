"""The contract of captionless.checkpoints.card: metadata that model hubs read, and a body that people read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import tiny
from captionless.checkpoints.card import CARD, CREDITS, add_evaluation, write_model_card
from captionless.checkpoints.config import TrainingRecord, load_config, save_config
from captionless.links import is_publishable
from captionless.models.unet import parameter_count


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


def test_the_card_of_a_cascade_tells_the_weights_of_both_stages(tmp_path: Path) -> None:
    base = tiny.model()
    tiny.saved(base, tmp_path / "base")
    upsampler = tiny.denoiser(low_res_channels=4)
    config = replace(base.config, size=16, base_size=8, denoiser=upsampler.config)
    write_model_card(tmp_path, config, upsampler, tmp_path)
    text = (tmp_path / CARD).read_text(encoding="utf-8")
    for network in (upsampler, base.denoiser):
        assert f" {parameter_count(network) / 1e6:.1f} million weights" in text
    assert text.count(" million weights") == 2


def test_credits_of_the_model_before_are_not_followed_through_a_link(tmp_path: Path) -> None:
    tiny.saved(tiny.class_model(), tmp_path / "before")
    (tmp_path / "secret").write_text("a secret")
    (tmp_path / "before" / CREDITS).symlink_to(tmp_path / "secret")
    config = replace(tiny.class_model().config, training=TrainingRecord(initialised_from=str(tmp_path / "before")))
    (tmp_path / "after").mkdir()
    with pytest.warns(UserWarning, match="a link that leads out of its folder"):
        write_model_card(tmp_path / "after", config, tiny.class_model().denoiser, tmp_path)
    assert [path.name for path in (tmp_path / "after").iterdir()] == [CARD]


def test_files_of_a_download_are_links_and_are_copied(tmp_path: Path) -> None:
    (tmp_path / "repo" / "blobs").mkdir(parents=True)
    (tmp_path / "repo" / "blobs" / "0123").write_text("credits")
    revision = tmp_path / "repo" / "snapshots" / "abc"
    revision.mkdir(parents=True)
    (revision / CREDITS).symlink_to("../../blobs/0123")
    assert is_publishable(revision / CREDITS)


def test_a_folder_whose_name_is_no_text_is_recorded_and_named(tmp_path: Path) -> None:
    model = tiny.class_model()
    config = replace(model.config, training=TrainingRecord(folder="/photos\udcff"))
    save_config(tmp_path, config)
    write_model_card(tmp_path, config, model.denoiser, "/photos\udcff")
    assert load_config(tmp_path).training.folder == "/photos?"
    (tmp_path / CARD).read_text(encoding="utf-8")
