"""The flower model that ships inside the package."""

from __future__ import annotations

import csv
import hashlib
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from captionless.checkpoints.config import BUNDLED, base_folder, load_config, model_folder
from captionless.checkpoints.image_list import read_image_list
from captionless.config.sampling import SamplingConfig
from captionless.encoders.dual_encoder import load_encoder
from captionless.generation.generator import Generator, load
from captionless.generation.image import GeneratedImage

PROMPTS = ["a white daisy", "a yellow dandelion", "a red rose", "a yellow sunflower", "a pink tulip"]
N, BASE_SIZE = 2, 64
FOLDERS = (model_folder(BUNDLED), base_folder(model_folder(BUNDLED)))


@pytest.fixture(scope="module")
def generator() -> Generator:
    return load(BUNDLED)


@pytest.fixture(scope="module")
def sampled(generator: Generator) -> list[GeneratedImage]:
    """Two images of each prompt by the base model, in few steps."""
    return generator.generate(PROMPTS, n=N, seed=100, size=BASE_SIZE, steps=8)


@pytest.fixture(scope="module")
def reference() -> dict[str, Tensor]:
    """``conditions``: of recipes/flowers/reference_prompts.txt, (5, 512), as the first bridge made them."""
    return load_file(Path(__file__).with_name("bundled_conditions.safetensors"))


@pytest.mark.parametrize(("size", "count"), [(64, 5), (128, 1)])
def test_the_reference_conditions_give_the_same_images_as_ever(
    generator: Generator, reference: dict[str, Tensor], size: int, count: int
) -> None:
    """In float32, with seed 0, to one level: whatever is rebuilt around the weights, they draw what they drew."""
    sampling = SamplingConfig(precision="float32", guidance=3, steps=6, upsample_steps=4, size=size)
    sampling = sampling.replace(guidance_levels=(0.16, 6.27), perturbed_attention=1000)
    conditions = reference["conditions"][:count]
    images = generator.sample(conditions, [0] * count, sampling)
    expected = np.asarray(Image.open(Path(__file__).with_name(f"bundled_images_{size}.png")))
    found = np.concatenate([np.asarray(image) for image in images], axis=1)
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_it_is_small_enough_to_ship() -> None:
    """Together with the encoder, compressed as in a wheel; the code beside it takes less than a megabyte."""
    files = [path for path in model_folder(BUNDLED).parent.rglob("*") if path.is_file()]
    assert sum(len(zlib.compress(path.read_bytes())) for path in files) <= 43_000_000


def test_it_was_trained_with_the_encoder_that_ships_beside_it() -> None:
    encoder = load_encoder("bundled")
    for model in FOLDERS:
        reference = load_config(model).encoder
        assert reference is not None
        assert (reference.name, reference.digest, reference.width) == ("bundled", encoder.digest, encoder.width)


def test_it_generates_64_pixels_and_upsamples_them_to_128() -> None:
    config = load_config(BUNDLED)
    assert (config.size, config.base_size, load_config(FOLDERS[1]).size) == (128, 64, 64)


def test_every_photograph_it_learned_from_is_credited() -> None:
    for folder in FOLDERS:
        with (folder / "CREDITS.csv").open(encoding="utf-8", newline="") as file:
            credited = {Path(row["file"]).name for row in csv.DictReader(file)}
        learned = [Path(name).name for name, _, role in read_image_list(folder) if role == "train"]
        assert len(learned) == 2192
        assert set(learned) <= credited


def test_the_reduced_copies_among_the_examples_are_known_to_it() -> None:
    rows = read_image_list(model_folder(BUNDLED))
    known = {digest for _, digest, role in rows if role == "copy"}
    assert {name for name, _, role in rows if role == "copy"} <= {name for name, _, role in rows if role == "train"}
    examples = list((Path(__file__).parents[2] / "examples" / "flowers").rglob("*.jpg"))
    assert len(examples) == 150
    assert {hashlib.sha256(path.read_bytes()).hexdigest() for path in examples} <= known


def test_it_says_nothing_of_the_machine_it_was_made_on() -> None:
    for folder in FOLDERS:
        text = (folder / "README.md").read_text() + (folder / "config.json").read_text()
        assert "/work" not in text
        assert "/" not in load_config(folder).training.folder


def test_most_of_its_images_show_the_kind_of_flower_in_the_prompt(
    generator: Generator, sampled: list[GeneratedImage]
) -> None:
    # Chance is 0.2. The encoder is the model's own, so this is a check of the whole path, not a figure of merit.
    found = generator.encoder.encode_images([one.image for one in sampled]) @ generator.encoder.encode_texts(PROMPTS).T
    asked = np.repeat(np.arange(len(PROMPTS)), N)
    assert np.mean(found.argmax(1).numpy() == asked) >= 0.75


def test_a_red_rose_is_red_and_a_white_daisy_bright(sampled: list[GeneratedImage]) -> None:
    def centre(prompt: int) -> np.ndarray:
        """Mean red, green and blue of the middle of a prompt's pictures."""
        pictures = np.stack([np.asarray(image, float) for image in sampled[N * prompt : N * (prompt + 1)]])
        return np.asarray(pictures[:, 16:48, 16:48].mean((0, 1, 2)))

    daisy, rose = centre(0), centre(2)
    assert rose[0] > 2 * max(rose[1], rose[2])
    assert daisy.min() > rose[1:].max()
