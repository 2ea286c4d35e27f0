"""The contract of captionless.encoders.learning: an encoder from the names of a folder's images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file

from captionless.conditioning.familiarity import vocabulary_remark
from captionless.encoders import choice, embed, load_encoder
from captionless.encoders.choice import choose_encoder
from captionless.encoders.dual_encoder import Encoder
from captionless.encoders.learning import learn_encoder
from captionless.encoders.name_text import piece_matrix, text_pieces
from captionless.errors import CaptionlessError
from encoder_factory import copy
from progress_cases import Recorded

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 40), "blue": (40, 60, 200), "yellow": (230, 210, 40)}
SHAPES = ("ball", "crate", "spear")


def drawing(shape: str, colour: str, number: int) -> Image.Image:
    """Draw a shape; its place and size depend on the number."""
    image, shift = Image.new("RGB", (32, 32), "white"), number % 3
    draw, box = ImageDraw.Draw(image), (5 + shift, 6, 25 + shift, 26)
    fill = tuple(max(0, value - 9 * number) for value in COLOURS[colour])
    if shape == "ball":
        draw.ellipse(box, fill=fill)
    elif shape == "crate":
        draw.rectangle(box, fill=fill, outline="black")
    else:
        draw.line((4, 28 - shift, 28, 4 + shift), fill=fill, width=3)
    return image


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Balls, crates and spears of four colours; there is no green ball."""
    root = tmp_path_factory.mktemp("drawings")
    for shape in SHAPES:
        (root / shape).mkdir()
        for colour in COLOURS:
            for number in range(5):
                if (shape, colour) != ("ball", "green"):
                    drawing(shape, colour, number).save(root / shape / f"{colour}_{number}.png")
    drawing("crate", "red", 5).save(root / "red_crate.png")  # in no sub-folder
    return root


@pytest.fixture(scope="module")
def learned(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    out = tmp_path_factory.mktemp("encoder") / "learned"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPTIONLESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        learn_encoder(folder, out)
    return load_encoder(str(out))


EVERYTHING = [(shape, colour) for shape in SHAPES for colour in COLOURS]


@pytest.fixture(scope="module")
def drawn(learned: Encoder) -> torch.Tensor:
    """The vectors of a new drawing of each shape and colour."""
    return learned.encode_images([drawing(*one, 7) for one in EVERYTHING])


def nearest(encoder: Encoder, text: str, drawn: torch.Tensor) -> tuple[str, str]:
    """Return the shape and colour of the new drawing nearest to a text."""
    return EVERYTHING[int((drawn @ encoder.encode_texts([text])[0]).argmax())]


@pytest.mark.parametrize("wanted", [("crate", "red"), ("spear", "blue"), ("ball", "yellow"), ("ball", "green")])
def test_a_text_is_nearest_to_what_it_names_even_where_no_file_is_called_so(
    learned: Encoder, drawn: torch.Tensor, wanted: tuple[str, str]
) -> None:
    shape, colour = wanted
    assert nearest(learned, f"a {colour} {shape}", drawn) == wanted


@pytest.mark.parametrize("text", ["two yelow crates", "yellowish crate"])
def test_misspelt_and_unknown_words_count_as_known_ones_of_similar_spelling(
    learned: Encoder, drawn: torch.Tensor, text: str
) -> None:
    assert nearest(learned, text, drawn) == ("crate", "yellow")


def test_it_is_loaded_like_any_encoder(learned: Encoder) -> None:
    images = learned.encode_images([drawing("ball", "red", 0), drawing("crate", "blue", 1).convert("P")])
    texts = learned.encode_texts(["a ball", "crate " * 500])
    assert images.shape == texts.shape == (2, learned.width)
    for vectors in (images, texts):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))
    assert learned.logit_scale > 1
    assert learned.image_size == 192
    assert not learned.encode_images([]).numel()


def test_its_vocabulary_warns_of_unknown_words(learned: Encoder) -> None:
    vocabulary = learned.vocabulary
    assert vocabulary is not None
    assert set(vocabulary.kinds) == set(SHAPES)
    assert vocabulary_remark("an image of red balls", vocabulary) is None
    assert "names none of the things that the encoder knows" in str(vocabulary_remark("a purple giraffe", vocabulary))


def test_empty_texts_are_errors(learned: Encoder) -> None:
    with pytest.raises(CaptionlessError, match="text 2 is empty"):
        learned.encode_texts(["a ball", " "])


def test_the_digest_is_that_of_the_image_side(learned: Encoder, tmp_path: Path) -> None:
    moved = copy(learned.folder, tmp_path / "moved")
    assert load_encoder(str(moved)).digest == learned.digest
    for name, same in (("text_projection", True), ("weights", False)):
        tensors = load_file(moved / "model.safetensors")
        tensors[name] = tensors[name] + 1
        save_file(tensors, moved / "model.safetensors")
        assert (load_encoder(str(moved)).digest == learned.digest) == same


@pytest.mark.slow
def test_the_vectors_of_the_images_are_cached_and_equal_those_that_it_computes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPTIONLESS_CACHE", str(tmp_path / "cache"))
    encoder, quality = learn_encoder(folder, tmp_path / "encoder")
    assert quality.images <= 10 or 0 <= quality.recall <= 1
    found = embed(folder, encoder)
    assert found.computed == 0
    images = [Image.open(folder / name) for name in found.names[::9]]
    np.testing.assert_allclose(found.vectors[::9], encoder.encode_images(images), atol=2e-3)
    with pytest.raises(CaptionlessError, match="already exists and is not empty"):
        learn_encoder(folder, tmp_path / "encoder")


def test_names_without_words_are_refused_before_any_image_is_read(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"IMG_{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n")  # the beginning, which is all that is read
    with pytest.raises(CaptionlessError, match=r"of 30 names, 0 have words.*`classes=True`"):
        learn_encoder(tmp_path, tmp_path / "encoder")


@pytest.mark.parametrize(("name", "damage"), [("model.safetensors", b"x"), ("tokenizer.json", b"{}")])
def test_a_damaged_encoder_is_an_error(learned: Encoder, tmp_path: Path, name: str, damage: bytes) -> None:
    folder = copy(learned.folder, tmp_path / "damaged")
    (folder / name).write_bytes(damage)
    with pytest.raises(CaptionlessError, match=r"cannot be loaded|is damaged"):
        load_encoder(str(folder))


# --- auto ---


@pytest.fixture
def no_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "cached_folder", lambda _: None)


@pytest.mark.slow
@pytest.mark.usefixtures("no_clip")
def test_auto_learns_an_encoder_once(folder: Path, tmp_path: Path) -> None:
    progress = Recorded()
    encoder, reason = choose_encoder("auto", folder, learned=tmp_path / "model" / "encoder", progress=progress)
    assert encoder.folder == tmp_path / "model" / "encoder"
    assert "learned from the names of the images because the images are outside the domain" in reason
    again, reason = choose_encoder("auto", folder, learned=tmp_path / "model" / "encoder")
    assert again.digest == encoder.digest
    assert "by an earlier run" in reason


@pytest.mark.usefixtures("no_clip")
def test_without_a_place_to_learn_auto_lists_the_ways_in_order(folder: Path) -> None:
    with pytest.raises(CaptionlessError) as caught:
        choose_encoder("auto", folder)
    ways = ["captionless encoder", "`classes=True`", "`encoder=FOLDER`", "download CLIP"]
    places = [str(caught.value).index(way) for way in ways]
    assert places == sorted(places)


@pytest.mark.usefixtures("no_clip")
def test_auto_does_not_offer_what_the_folder_does_not_allow(tmp_path: Path) -> None:
    for number in range(3):
        drawing("ball", "red", number).save(tmp_path / f"IMG_{number}.png")
    with pytest.raises(
        CaptionlessError, match=r"there are 3, and at least 20 are needed.*\(1\) use a local folder"
    ) as caught:
        choose_encoder("auto", tmp_path, learned=tmp_path / "encoder")
    assert "classes=True" not in str(caught.value)


# --- the text side ---


def test_pieces_are_words_and_marked_n_grams() -> None:
    assert set(text_pieces("A hat")) == {"=hat", "<ha", "hat", "at>", "<hat", "hat>", "<hat>"}


def test_a_text_is_the_unit_sum_of_its_known_pieces() -> None:
    found = piece_matrix(["red hat", "zzz"], {"=red": 3.0, "=hat": 4.0})
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
