"""The contract of captionless.encoders.dual_encoder: words and pictures into unit vectors of one space."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel

from captionless.encoders.dual_encoder import Encoder, PromptCut, check_same_encoder, load_encoder
from captionless.errors import CaptionlessError
from encoder_factory import (
    clip_image_processor,
    clip_tokenizer,
    copy,
    edit_weights,
    pictures,
    save,
    small_clip,
    small_pair,
    small_siglip,
)

KINDS: list[Callable[[Path], Path]] = [small_clip, small_siglip, small_pair]


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> Encoder:
    return load_encoder(str(clip_folder))


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def encoder(request: pytest.FixtureRequest, tmp_path: Path) -> Encoder:
    return load_encoder(str(request.param(tmp_path)))


# --- vectors ---


def test_images_and_words_become_unit_vectors_of_one_space(encoder: Encoder) -> None:
    images, texts = encoder.encode_images(pictures(3)), encoder.encode_texts(["a cat", "a red rose"])
    assert images.shape == (3, encoder.width)
    assert texts.shape == (2, encoder.width)
    for vectors in (images, texts):
        assert vectors.dtype == torch.float32
        assert vectors.device.type == "cpu"
        assert not vectors.requires_grad
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))


def test_a_vector_does_not_depend_on_the_rest_of_its_batch(encoder: Encoder) -> None:
    images = pictures(9)  # batches of 8 and 1
    texts = ["a cat", "a round white daisy with a yellow center", "a red rose"] * 22  # batches of 64 and 2
    for encode, items in ((encoder.encode_images, images), (encoder.encode_texts, texts)):
        rows = (0, 1, 2, len(items) - 1)
        alone = torch.cat([encode(items[i : i + 1]) for i in rows])
        torch.testing.assert_close(encode(items)[list(rows)], alone, atol=1e-5, rtol=0)


def test_different_images_and_texts_have_different_vectors(encoder: Encoder) -> None:
    assert not torch.allclose(*encoder.encode_images(pictures(2)), atol=1e-4)
    assert not torch.allclose(*encoder.encode_texts(["a cat", "a red rose"]), atol=1e-4)


def test_nothing_to_encode_gives_no_vectors(clip: Encoder) -> None:
    assert clip.encode_images([]).shape == (0, clip.width)
    assert clip.encode_texts([]).shape == (0, clip.width)


def test_grey_transparent_and_oblong_images_are_read_as_colour(clip: Encoder) -> None:
    picture = pictures(1)[0]
    for mode in ("L", "RGBA", "P"):
        torch.testing.assert_close(
            clip.encode_images([picture.convert(mode)]),
            clip.encode_images([picture.convert(mode).convert("RGB")]),
        )
    assert clip.encode_images([Image.new("RGB", (200, 3)), Image.new("L", (1, 90))]).shape == (2, clip.width)


def test_images_are_prepared_as_clip_was_taught(clip: Encoder) -> None:
    """Red 255 of a plain picture: (1 - 0.48145466) / 0.26862954 in every pixel of the red channel."""
    pixels = clip.image_processor(images=[Image.new("RGB", (50, 40), (255, 0, 0))], return_tensors="pt")
    assert pixels["pixel_values"].shape == (1, 3, 32, 32)
    torch.testing.assert_close(pixels["pixel_values"][0, 0], torch.full((32, 32), 1.9303361))


def test_an_encoder_says_what_it_is(clip: Encoder, clip_folder: Path) -> None:
    assert clip.name == str(clip_folder)
    assert (clip.width, clip.image_size, clip.text_limit) == (24, 32, 77)
    assert clip.logit_scale == pytest.approx(14.2849, abs=1e-3)  # exp(2.6592), where CLIP's training starts
    assert len(clip.digest) == 64


def test_weights_stored_in_float16_are_computed_in_float32(clip: Encoder, clip_folder: Path, tmp_path: Path) -> None:
    half = copy(clip_folder, tmp_path / "half")
    edit_weights(half, lambda tensors: tensors.update({name: t.half() for name, t in tensors.items()}))
    full = copy(half, tmp_path / "full")
    edit_weights(full, lambda tensors: tensors.update({name: t.float() for name, t in tensors.items()}))
    stored_half, stored_full = load_encoder(str(half)), load_encoder(str(full))
    assert all(weights.dtype == torch.float32 for weights in stored_half.model.parameters())
    for encode, what in (("encode_images", pictures(2)), ("encode_texts", ["a cat"])):
        vectors = [getattr(encoder, encode)(what) for encoder in (stored_half, stored_full)]
        torch.testing.assert_close(*vectors, atol=1e-6, rtol=0)
    assert stored_half.digest == stored_full.digest != clip.digest


def test_loading_is_silent(clip_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_encoder(str(clip_folder)).encode_texts(["a cat"])
    assert capfd.readouterr() == ("", "")


# --- CLIP's vocabulary and full shape ---


def test_clips_vocabulary_gives_clips_numbers() -> None:
    assert clip_tokenizer()("a photo of a cat")["input_ids"] == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert len(clip_tokenizer()) == 49408


@pytest.mark.slow
def test_the_full_clip_shape_loads_and_encodes(tmp_path: Path) -> None:
    """ViT-B/32 with random weights, 151 million of them; CLIPConfig's defaults are its dimensions."""
    words = {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
    with torch.device("meta"):
        model = CLIPModel(CLIPConfig(text_config=words))
    model = model.to_empty(device="cpu").half()
    torch.manual_seed(0)
    for name, tensor in model.state_dict().items():
        tensor.copy_(torch.ones(()) if "norm" in name and "weight" in name else torch.randn(tensor.shape) * 0.02)
    for embeddings in (model.text_model.embeddings, model.vision_model.embeddings):
        embeddings.position_ids.copy_(torch.arange(embeddings.position_ids.shape[-1]))
    assert sum(weights.numel() for weights in model.parameters()) == 151_277_313
    save(tmp_path, model, clip_tokenizer(), clip_image_processor(224))
    encoder = load_encoder(str(tmp_path))
    assert (encoder.width, encoder.image_size, encoder.text_limit) == (512, 224, 77)
    images, texts = encoder.encode_images(pictures(2, 256)), encoder.encode_texts(["a cat", "a red rose bud"])
    torch.testing.assert_close(images.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(2))


def test_the_old_spelling_of_clips_image_preparation_is_read(clip: Encoder, clip_folder: Path, tmp_path: Path) -> None:
    """OpenAI's repositories say ``"size": 224`` and name a class that is gone."""
    old = copy(clip_folder, tmp_path / "old")
    steps = json.loads((old / "preprocessor_config.json").read_text())
    for key in ("image_processor_type", "do_rescale", "rescale_factor", "do_convert_rgb"):
        steps.pop(key, None)
    steps |= {"size": 32, "crop_size": 32, "feature_extractor_type": "CLIPFeatureExtractor"}
    (old / "preprocessor_config.json").write_text(json.dumps(steps))
    encoder = load_encoder(str(old))
    assert torch.equal(encoder.encode_images(pictures(2)), clip.encode_images(pictures(2)))
    assert encoder.digest == clip.digest


# --- texts ---


def test_a_text_longer_than_the_encoder_reads_is_cut_with_a_warning(clip: Encoder) -> None:
    whole, cut = "rose " * 100, "rose " * 75  # 77 with the start and end tokens
    with pytest.warns(PromptCut, match=r"'rose rose .*\.\.\.' has 102 tokens, but the encoder .* at most 77") as seen:
        vector = clip.encode_texts([whole])
    assert len(seen) == 1
    assert seen[0].filename == __file__
    torch.testing.assert_close(vector, clip.encode_texts([cut]), atol=1e-6, rtol=0)


def test_a_text_that_just_fits_is_not_warned_of(encoder: Encoder) -> None:
    special = encoder.tokenizer.num_special_tokens_to_add()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.encode_texts(["a " * (encoder.text_limit - special)])
    with pytest.warns(PromptCut):
        encoder.encode_texts(["a " * (encoder.text_limit - special + 1)])


def test_a_tokenizer_without_a_limit_takes_that_of_the_text_tower(tmp_path: Path) -> None:
    encoder = load_encoder(str(small_siglip(tmp_path)))
    assert encoder.tokenizer.model_max_length > 1e20
    assert encoder.text_limit == 16


def test_siglip_reads_texts_padded_to_their_full_length(tmp_path: Path) -> None:
    encoder = load_encoder(str(small_siglip(tmp_path)))
    padded = torch.zeros(1, 16, dtype=torch.long)
    padded[0, :2] = torch.tensor(encoder.tokenizer("a cat")["input_ids"])
    expected = encoder.model.get_text_features(input_ids=padded).pooler_output
    torch.testing.assert_close(encoder.encode_texts(["a cat"]), torch.nn.functional.normalize(expected, dim=1))


@pytest.mark.parametrize("text", ["", "  ", "\n\t", "\u3000"])
def test_an_empty_text_is_refused(clip: Encoder, text: str) -> None:
    with pytest.raises(CaptionlessError, match="text 2 is empty"):
        clip.encode_texts(["a cat", text])


def test_text_that_is_no_unicode_is_refused(clip: Encoder) -> None:
    with pytest.raises(CaptionlessError, match="text 1 is not valid UTF-8"):
        clip.encode_texts(["caf\udce9"])


def test_one_text_in_place_of_a_list_is_a_mistake(clip: Encoder) -> None:
    with pytest.raises(TypeError, match="list of texts"):
        clip.encode_texts("a cat")


# --- one model, one encoder ---


def test_a_model_refuses_another_encoder_than_its_own(clip: Encoder, tmp_path: Path) -> None:
    recorded = {"name": "openai/some-clip", "digest": clip.digest, "width": clip.width}
    check_same_encoder(recorded, clip)  # the digest decides, not the name
    for earlier in clip.digests:
        check_same_encoder(recorded | {"digest": earlier}, clip)
    other = load_encoder(str(small_clip(tmp_path, seed=1, width=16)))
    with pytest.raises(CaptionlessError) as caught:
        check_same_encoder(recorded, other)
    message = str(caught.value)
    for part in ("openai/some-clip", "24 features", clip.digest[:12]):
        assert part in message
    for part in (other.name, "16 features", other.digest[:12]):
        assert part in message


def test_weights_that_are_not_finite_are_refused(clip_folder: Path, tmp_path: Path) -> None:
    broken = copy(clip_folder, tmp_path / "broken")
    edit_weights(broken, lambda tensors: tensors["visual_projection.weight"].fill_(float("nan")))
    with pytest.raises(CaptionlessError, match="returned unusable vectors"):
        load_encoder(str(broken)).encode_images(pictures(1))
