"""The contract of captionless.encoders.digest: one image side, one digest."""

from pathlib import Path

import pytest
import torch

from captionless.encoders.digest import IMAGE_SIDES
from captionless.encoders.dual_encoder import Encoder, load_encoder
from captionless.errors import CaptionlessError
from encoder_factory import copy, edit_json, edit_weights, small_clip


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> Encoder:
    return load_encoder(str(clip_folder))


def test_the_same_content_has_the_same_digest_wherever_it_lies(
    clip: Encoder, clip_folder: Path, tmp_path: Path
) -> None:
    assert load_encoder(str(copy(clip_folder, tmp_path / "elsewhere"))).digest == clip.digest


def test_a_digest_does_not_depend_on_bookkeeping_or_on_how_weights_are_split(
    clip: Encoder, clip_folder: Path, tmp_path: Path
) -> None:
    split = copy(clip_folder, tmp_path / "split")
    (split / "model.safetensors").unlink()
    load_encoder(str(clip_folder)).model.save_pretrained(split, max_shard_size="200KB")
    assert len(list(split.glob("*.safetensors"))) > 1
    edit_json(split / "config.json", transformers_version="5.99", dtype="float16")
    # What tokenizer.json holds of the last call when a tokenizer in use is saved.
    last = {"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0}
    edit_json(split / "tokenizer.json", truncation=last)
    (split / "README.md").write_text("mine")
    encoder = load_encoder(str(split))
    assert encoder.digest == clip.digest
    text = ["a round white daisy with a yellow center"]
    torch.testing.assert_close(encoder.encode_texts(text), clip.encode_texts(text), atol=1e-6, rtol=0)


def test_the_stored_number_format_does_not_change_the_digest_but_the_values_do(
    clip: Encoder, clip_folder: Path, tmp_path: Path
) -> None:
    half, full = copy(clip_folder, tmp_path / "half"), copy(clip_folder, tmp_path / "full")
    edit_weights(half, lambda tensors: tensors.update({name: t.half() for name, t in tensors.items()}))
    edit_weights(full, lambda tensors: tensors.update({name: t.half().float() for name, t in tensors.items()}))
    assert load_encoder(str(half)).digest == load_encoder(str(full)).digest
    assert load_encoder(str(half)).digest != clip.digest


@pytest.mark.parametrize("name", ["visual_projection.weight", "vision_model.embeddings.class_embedding"])
def test_a_changed_weight_of_the_image_side_changes_the_digest(
    clip: Encoder, clip_folder: Path, tmp_path: Path, name: str
) -> None:
    other = copy(clip_folder, tmp_path / "other")
    edit_weights(other, lambda tensors: tensors[name].add_(0.001))
    assert clip.digests.isdisjoint(load_encoder(str(other)).digests)


@pytest.mark.parametrize("name", ["logit_scale", "text_projection.weight", "text_model.final_layer_norm.bias"])
def test_another_text_side_leaves_the_digest_as_it_is(
    clip: Encoder, clip_folder: Path, tmp_path: Path, name: str
) -> None:
    other = copy(clip_folder, tmp_path / "other")
    edit_weights(other, lambda tensors: tensors[name].add_(0.001))
    encoder = load_encoder(str(other))
    assert encoder.digest == clip.digest
    assert encoder.digests != clip.digests  # the hash of the whole tells them apart


def test_the_shipped_encoder_is_known_by_the_hash_of_its_first_text_side() -> None:
    encoder = load_encoder("bundled")
    assert set(IMAGE_SIDES.values()) == {encoder.digest}
    assert encoder.digests >= IMAGE_SIDES.keys()


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("preprocessor_config.json", {"image_mean": [0.5, 0.5, 0.5]}),
        ("config.json", {"vision_config": {"hidden_act": "gelu"}}),
    ],
)
def test_changed_preparation_of_images_changes_the_digest(
    clip: Encoder, clip_folder: Path, tmp_path: Path, file: str, change: dict[str, object]
) -> None:
    other = copy(clip_folder, tmp_path / "other")
    edit_json(other / file, **change)
    assert clip.digests.isdisjoint(load_encoder(str(other)).digests)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("tokenizer.json", {"normalizer": None}),
        ("tokenizer_config.json", {"do_lower_case": False}),
        ("config.json", {"text_config": {"hidden_act": "gelu"}}),
    ],
)
def test_changed_preparation_of_texts_does_not(
    clip: Encoder, clip_folder: Path, tmp_path: Path, file: str, change: dict[str, object]
) -> None:
    other = copy(clip_folder, tmp_path / "other")
    edit_json(other / file, **change)
    encoder = load_encoder(str(other))
    assert encoder.digest == clip.digest
    assert encoder.digests != clip.digests


def test_files_that_vanish_after_loading_are_named_by_their_encoder(clip_folder: Path, tmp_path: Path) -> None:
    encoder = load_encoder(str(copy(clip_folder, tmp_path / "elsewhere")))
    (tmp_path / "elsewhere" / "tokenizer.json").unlink()
    with pytest.raises(CaptionlessError, match="elsewhere cannot be loaded"):
        _ = encoder.digest
