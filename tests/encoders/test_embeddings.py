import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import image_zoo as zoo
from captionless.data.images import write_images_report
from captionless.encoders import VectorCache, embed, load_encoder
from captionless.errors import CaptionlessError
from captionless.progress import Silent
from image_zoo import encoded
from progress_cases import Recorded

FLOWERS = Path(__file__).parents[2] / "examples" / "flowers"


class FakeEncoder:
    """Mean colour, and a constant: enough of an encoder to tell pictures apart."""

    name = "fake"
    digest = "f" * 64
    width = 4
    image_size = 16

    def __init__(self):
        self.batches = []
        self.images = []

    def encode_images(self, images):
        self.batches.append(len(images))
        self.images += images
        colors = np.stack([np.asarray(image, np.float64).mean(axis=(0, 1)) for image in images])
        rows = np.concatenate([colors, np.ones((len(images), 1))], axis=1)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def expected(path):
    return FakeEncoder().encode_images([Image.open(path)]).astype(np.float32)[0]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("CAPTIONLESS_CACHE", str(folder))
    return folder


@pytest.fixture
def folder(tmp_path):
    zoo.fill(tmp_path / "rose", 5)
    (tmp_path / "notes.txt").write_text("mine")
    shutil.copy(tmp_path / "rose" / "001.png", tmp_path / "twin.png")
    return tmp_path


def test_every_image_gets_its_row_vector_and_squares(folder):
    result = embed(folder, FakeEncoder(), sizes=(8, 4))
    assert result.names == ["rose/000.png", "rose/001.png", "rose/002.png", "rose/003.png", "rose/004.png", "twin.png"]
    assert [one.name for one in result.skipped] == ["notes.txt"]
    assert [one.name for one in result.entries] == ["notes.txt", *result.names]
    assert result.vectors.shape == (6, 4)
    assert result.vectors.dtype == np.float32
    for name, vector in zip(result.names, result.vectors, strict=True):
        assert np.allclose(vector, expected(folder / name), atol=1e-6)
    assert {size: pixels.shape for size, pixels in result.pixels.items()} == {8: (6, 8, 8, 3), 4: (6, 4, 4, 3)}
    assert np.array_equal(result.pixels[8][1], result.pixels[8][5])
    assert len(set(result.digests)) == 5
    assert all(picture.whole is None and picture.full is None for picture in result.images)


def test_identical_images_are_encoded_once_and_named(folder):
    encoder = FakeEncoder()
    result = embed(folder, encoder)
    assert result.computed == len(encoder.images) == 5
    assert result.duplicates == [["rose/001.png", "twin.png"]]
    assert np.array_equal(result.vectors[1], result.vectors[5])


def test_a_second_run_embeds_only_what_changed(folder):
    first = embed(folder, FakeEncoder())
    (folder / "rose" / "002.png").write_bytes(encoded(zoo.noise(20, seed=99), "PNG"))
    (folder / "rose" / "003.png").rename(folder / "moved.png")
    encoder = FakeEncoder()
    second = embed(folder, encoder)
    assert second.computed == len(encoder.images) == 1
    row = second.names.index("moved.png")
    assert np.array_equal(second.vectors[row], first.vectors[3])
    assert np.allclose(second.vectors[second.names.index("rose/002.png")], expected(folder / "rose" / "002.png"))


def test_another_encoder_embeds_anew(folder):
    embed(folder, FakeEncoder())
    other = FakeEncoder()
    other.digest = "e" * 64
    assert embed(folder, other).computed == 5


def test_grey_squares_keep_coloured_vectors(folder):
    grey, color = embed(folder, FakeEncoder(), sizes=[8], grey=True), embed(folder, FakeEncoder())
    assert grey.pixels[8].shape == (6, 8, 8, 1)
    assert np.array_equal(grey.vectors, color.vectors)


def test_the_encoder_sees_the_images_own_resolution_up_to_twice_its_own(tmp_path):
    for side in (10, 30, 100):
        (tmp_path / f"{side:03d}.png").write_bytes(encoded(zoo.noise(side), "PNG"))
    encoder = FakeEncoder()
    embed(tmp_path, encoder, sizes=[4])
    assert [image.size for image in encoder.images] == [(10, 10), (30, 30), (32, 32)]
    assert all(image.mode == "RGB" for image in encoder.images)


def test_images_are_encoded_in_batches_and_kept_in_the_cache_folder(tmp_path, own_cache):
    zoo.fill(tmp_path / "photos", 18)
    encoder = FakeEncoder()
    result = embed(tmp_path / "photos", encoder, batch=4)
    assert encoder.batches == [4, 4, 4, 4, 2]
    assert len(VectorCache(own_cache, encoder.digest)) == 18
    assert np.allclose(result.vectors, [expected(tmp_path / "photos" / name) for name in result.names], atol=1e-6)


def test_a_second_run_opens_no_image(folder, monkeypatch):
    first = embed(folder, FakeEncoder(), sizes=(8, 4))
    monkeypatch.setattr("captionless.data.images.read_bytes", None)  # any reading would fail
    second = embed(folder, FakeEncoder(), sizes=(8, 4))
    assert (second.names, second.digests, second.computed) == (first.names, first.digests, 0)
    np.testing.assert_array_equal(second.vectors, first.vectors)
    np.testing.assert_array_equal(second.pixels[8], first.pixels[8])
    np.testing.assert_array_equal(second.pixels[4], first.pixels[4])


def test_the_vector_of_an_image_depends_on_the_background_exactly_if_it_is_transparent(tmp_path):
    clear = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    clear.putpixel((0, 0), (0, 0, 0, 255))  # alpha that is zero everywhere means nothing
    clear.save(tmp_path / "clear.png")
    Image.new("RGB", (20, 20), (9, 9, 9)).save(tmp_path / "solid.png")
    embed(tmp_path, FakeEncoder())
    black = embed(tmp_path, FakeEncoder(), background="black")
    assert black.computed == 1
    np.testing.assert_allclose(black.vectors[0], [0, 0, 0, 1])
    assert embed(tmp_path, FakeEncoder(), background="#000000").computed == 0
    assert embed(tmp_path, FakeEncoder()).computed == 0


def test_an_encoder_may_be_named(tmp_path):
    shutil.copytree(FLOWERS / "daisy", tmp_path / "daisy")
    progress = Recorded()
    chosen = embed(tmp_path, progress=progress)
    assert progress.said[0].startswith("Encoder: bundled, because the images are in its domain")
    assert (chosen.encoder.name, chosen.computed) == ("bundled", 30)
    assert chosen.vectors.shape == (30, 512)
    named = embed(tmp_path, "bundled", progress=False)
    assert named.computed == 0
    assert np.array_equal(named.vectors, embed(tmp_path, load_encoder("bundled")).vectors)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_was_embedded_before_an_interruption_is_kept(tmp_path, error):
    zoo.fill(tmp_path, 10)

    class Interrupting(Silent):
        def advance(self, task, done, total):
            if done == 9:
                raise error

    with pytest.raises(error):
        embed(tmp_path, FakeEncoder(), batch=4, progress=Interrupting())
    assert embed(tmp_path, FakeEncoder()).computed == 2


def test_progress_counts_files_up_to_all_of_them(folder):
    progress = Recorded()
    embed(folder, FakeEncoder(), progress=progress)
    assert progress.advanced == [("Reading images", done, 7) for done in range(1, 8)]


@pytest.mark.parametrize("bad", [np.full((5, 4), np.nan), np.ones((5, 3)), np.ones((4, 4))])
def test_an_encoder_that_gives_nonsense_is_an_error_and_nothing_is_cached(folder, own_cache, bad):
    encoder = FakeEncoder()
    encoder.encode_images = lambda images: bad
    with pytest.raises(CaptionlessError, match="encoder fake returned unusable vectors"):
        embed(folder, encoder)
    assert not list(own_cache.rglob("*.safetensors"))


def test_a_damaged_cache_costs_only_time(folder, own_cache):
    first = embed(folder, FakeEncoder())
    (part,) = own_cache.rglob("*.safetensors")
    part.write_bytes(part.read_bytes()[:-50])
    with pytest.warns(UserWarning, match="damaged"):
        second = embed(folder, FakeEncoder())
    assert second.computed == 5
    assert np.array_equal(first.vectors, second.vectors)


def test_a_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(CaptionlessError, match="no usable image"):
        embed(tmp_path, FakeEncoder())


def test_more_than_fits_on_the_disk_is_a_clear_error(folder):
    with pytest.raises(CaptionlessError, match="GB in the cache folder"):
        embed(folder, FakeEncoder(), sizes=[10_000_000])


def test_the_report_is_made_from_the_entries(folder):
    result = embed(folder, FakeEncoder())
    write_images_report(folder / "report.csv", result.entries)
    statuses = [line.split(",")[1] for line in (folder / "report.csv").read_text("utf-8").splitlines()[1:]]
    assert statuses == ["skipped", *["used"] * 5, "duplicate"]


def test_where_the_disk_fails_in_the_last_moment_vectors_stay_in_memory(folder, own_cache, monkeypatch):
    replace = os.replace

    def fails(source, target):
        if "arrays-1" in str(target):
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails)
    with pytest.warns(UserWarning, match="Input/output error"):
        found = embed(folder, FakeEncoder())
    monkeypatch.setattr(os, "replace", replace)
    assert not list(own_cache.rglob("*.array"))
    assert np.array_equal(found.vectors, embed(folder, FakeEncoder()).vectors)
