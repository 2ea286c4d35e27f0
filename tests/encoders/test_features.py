"""The contract of captionless.encoders.features: what pictures are compared by."""

from pathlib import Path

import pytest
import torch
from transformers import (
    BitImageProcessorPil,
    ConvNextImageProcessorPil,
    Dinov2Config,
    Dinov2Model,
    ResNetConfig,
    ResNetModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
    ViTMAEConfig,
    ViTMAEModel,
    ViTModel,
)

from captionless.encoders.dual_encoder import load_encoder
from captionless.encoders.features import load_features, own_features
from captionless.errors import CaptionlessError
from encoder_factory import copy, edit_weights, pictures, small_bert, small_clip, small_pair
from fake_hub import fake_hub
from progress_cases import Recorded

LAYERS = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
VIT = {**LAYERS, "image_size": 16, "patch_size": 4}
SIDE = {"height": 16, "width": 16}


def save(folder: Path, network: torch.nn.Module, processor: object | None = None) -> Path:
    network.save_pretrained(folder)  # type: ignore[operator]
    (processor or ViTImageProcessorPil(size=SIDE)).save_pretrained(folder)  # type: ignore[attr-defined]
    return folder


def small_vit(folder: Path) -> Path:
    return save(folder, ViTModel(ViTConfig(**VIT)))


def small_dino(folder: Path) -> Path:
    processor = BitImageProcessorPil(size={"shortest_edge": 16}, crop_size=SIDE)
    return save(folder, Dinov2Model(Dinov2Config(**VIT, mlp_ratio=2)), processor)


def small_resnet(folder: Path) -> Path:
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    return save(folder, ResNetModel(config), ConvNextImageProcessorPil(size={"shortest_edge": 32}))


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def vit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_vit(tmp_path_factory.mktemp("vit"))


def refusal(name: str | Path) -> str:
    """Load features that must be refused; return the one line that a person reads."""
    with pytest.raises(CaptionlessError) as caught:
        load_features(name)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- a model for pictures alone ---


@pytest.mark.parametrize("make", [small_vit, small_dino, small_resnet], ids=lambda make: make.__name__)
def test_a_model_for_images_gives_each_of_them_its_own_vector(make: object, tmp_path: Path) -> None:
    features = load_features(make(tmp_path))  # type: ignore[operator]
    images = pictures(9)  # more than one batch
    vectors = features.encode_images(images)
    assert vectors.shape == (9, 16)
    assert vectors.dtype == torch.float32
    assert features.independent
    assert features.encode_texts is None
    assert features.name == str(tmp_path)
    torch.testing.assert_close(features.encode_images(images[8:]), vectors[8:])
    assert torch.cdist(vectors, vectors)[~torch.eye(9, dtype=torch.bool)].min() > 1e-4


def test_vectors_are_what_the_model_pools_of_its_own_preparation(vit_folder: Path) -> None:
    images = pictures(3)
    inputs = ViTImageProcessorPil.from_pretrained(vit_folder)(images=images, return_tensors="pt")
    expected = ViTModel.from_pretrained(vit_folder).eval()(**inputs).pooler_output.detach()
    torch.testing.assert_close(load_features(vit_folder).encode_images(images), expected)


def test_a_classifiers_file_without_pooler_gives_the_mean_of_its_tokens(tmp_path: Path) -> None:
    """Its pooler would be made up at random, otherwise each time it is loaded."""
    folder = save(tmp_path, ViTForImageClassification(ViTConfig(**VIT)))
    images = pictures(3)
    inputs = ViTImageProcessorPil.from_pretrained(folder)(images=images, return_tensors="pt")
    body = ViTForImageClassification.from_pretrained(folder).eval().vit
    expected = body(**inputs).last_hidden_state.mean(1).detach()
    torch.testing.assert_close(load_features(folder).encode_images(images), expected)


def test_maps_without_pooling_become_their_mean_over_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, forward = pictures(2), ResNetModel.forward
    pooled = load_features(small_resnet(tmp_path)).encode_images(images)
    monkeypatch.setattr(
        ResNetModel,
        "forward",
        lambda self, pixel_values: {"last_hidden_state": forward(self, pixel_values).last_hidden_state},
    )
    torch.testing.assert_close(load_features(tmp_path).encode_images(images), pooled)


def test_grey_transparent_and_oblong_images_are_read_as_colour(vit_folder: Path) -> None:
    grey = pictures(1)[0].convert("L")
    encode = load_features(vit_folder).encode_images
    vectors = encode([grey, grey.convert("RGB"), grey.convert("RGBA"), grey.resize((60, 20))])
    assert torch.equal(vectors[0], vectors[1])
    assert torch.equal(vectors[0], vectors[2])
    assert vectors.isfinite().all()


def test_loading_is_silent(vit_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_features(vit_folder)
    assert capfd.readouterr() == ("", "")


def test_a_model_comes_from_the_hub_and_then_from_its_cache(
    vit_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    progress = Recorded()
    with fake_hub(monkeypatch, tmp_path / "cache", {"some/vit": {"main": vit_folder}}) as hub:
        first = load_features("some/vit", progress=progress).encode_images(pictures(2))
        assert "model.safetensors" in hub.fetched
        assert len(progress.said) == 1
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    again = load_features("some/vit", progress=progress)
    assert again.name == "some/vit"
    assert torch.equal(again.encode_images(pictures(2)), first)
    assert len(progress.said) == 1


# --- dual encoders ---


def test_a_dual_encoder_gives_images_and_words_whose_elements_are_about_1(clip_folder: Path) -> None:
    features, encoder = load_features(clip_folder), load_encoder(str(clip_folder))
    assert features.encode_texts is not None
    images, texts = features.encode_images(pictures(2)), features.encode_texts(["a rose"])
    length = encoder.width**0.5
    torch.testing.assert_close(images, length * encoder.encode_images(pictures(2)))
    torch.testing.assert_close(texts, length * encoder.encode_texts(["a rose"]))
    torch.testing.assert_close(images.square().mean(1), torch.ones(2))


def test_the_models_own_encoder_is_no_independent_witness(tmp_path: Path) -> None:
    folder = small_pair(tmp_path / "own")
    own = load_encoder(str(folder))
    features = own_features(own)
    assert (features.name, features.independent) == (own.name, False)
    torch.testing.assert_close(
        features.encode_images(pictures(1))[0], own.width**0.5 * own.encode_images(pictures(1))[0]
    )
    assert load_features(folder).independent
    other = copy(folder, tmp_path / "other")
    assert not load_features(other, own={own.digest}).independent  # only its name differs
    edit_weights(other, lambda tensors: tensors["visual_projection.weight"].neg_())
    assert load_features(other, own={own.digest}).independent


def test_the_bundled_encoder_has_a_name() -> None:
    features = load_features("bundled")
    assert features.name == "bundled"
    assert features.encode_images(pictures(1)).square().mean() == pytest.approx(1, rel=1e-5)


# --- what is refused ---


def test_a_text_model_is_refused(tmp_path: Path) -> None:
    assert "type 'bert', which does not accept images. Use the hub id" in refusal(small_bert(tmp_path))


@pytest.mark.parametrize("lacking", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_a_folder_that_lacks_a_part_is_refused(vit_folder: Path, tmp_path: Path, lacking: str) -> None:
    folder = copy(vit_folder, tmp_path / "copy")
    (folder / lacking).unlink()
    assert f"is incomplete: it has no {lacking}" in refusal(folder)


def test_what_neither_disk_nor_hub_has_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with fake_hub(monkeypatch, tmp_path / "cache", {}):
        assert "nobody/nothing" in refusal("nobody/nothing")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "cannot be downloaded" in refusal("nobody/nothing")


def test_weights_that_are_not_whole_or_not_finite_are_refused(vit_folder: Path, tmp_path: Path) -> None:
    name = "embeddings.cls_token"
    folder = copy(vit_folder, tmp_path / "partly")
    edit_weights(folder, lambda tensors: tensors.pop(name))
    assert f"1 tensors are missing from its weights, such as {name}" in refusal(folder)
    folder = copy(vit_folder, tmp_path / "broken")
    edit_weights(folder, lambda tensors: tensors[name].fill_(torch.nan))
    assert "unusable features" in refusal(folder)


def test_a_model_that_answers_by_chance_is_refused(tmp_path: Path) -> None:
    """ViT-MAE (arXiv:2111.06377) looks at a random quarter of a picture."""
    config = ViTMAEConfig(**VIT, decoder_hidden_size=16, decoder_num_hidden_layers=1, decoder_num_attention_heads=2)
    assert "different features for the same image" in refusal(save(tmp_path, ViTMAEModel(config)))
