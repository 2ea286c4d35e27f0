"""The contract of the image cache: nothing is read twice, and nothing outdated or damaged is ever used."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import image_zoo as zoo
from captionless.data import cache as caches
from captionless.data import images as reading
from captionless.data.arrays import ImageArrays, read_arrays
from captionless.data.cache import mapped_array
from captionless.errors import CaptionlessError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("CAPTIONLESS_CACHE", str(folder))
    monkeypatch.delenv("CAPTIONLESS_CACHE_GB", raising=False)
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read."""
    names: list[str] = []
    read = reading.read_bytes

    def recording(path: Path) -> bytes:
        names.append(path.name)
        return read(path)

    monkeypatch.setattr(reading, "read_bytes", recording)
    return names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    zoo.fill(tmp_path, 4)
    (tmp_path / "notes.png").write_text("no image")
    return tmp_path


def test_an_array_that_disappears_before_it_is_mapped_is_made_in_memory(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def removed(path: Path, *_: object, **__: object) -> None:
        path.unlink()
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(caches.np, "memmap", removed)
    found = mapped_array(cache, ["a"], (2, 3), np.float32, lambda: np.arange(6.0).reshape(2, 3))
    assert found.tolist() == [[0, 1, 2], [3, 4, 5]]


def read(folder: Path, size: int = 8, **options: bool) -> ImageArrays:
    found = read_arrays(folder, (size,), **options)
    assert found.pixels[size].shape == (len(found.names), size, size, 3)
    return found


def same(one: ImageArrays, other: ImageArrays) -> None:
    assert one.entries != []
    assert [repr(entry) for entry in one.entries] == [repr(entry) for entry in other.entries]
    np.testing.assert_array_equal(one.pixels[8], other.pixels[8])


def test_a_second_start_reads_no_file(folder: Path, opened: list[str]) -> None:
    first = read(folder)
    assert sorted(opened) == ["000.png", "001.png", "002.png", "003.png", "notes.png"]
    opened.clear()
    same(read(folder), first)
    assert opened == []


def test_only_new_and_changed_files_are_read(folder: Path, opened: list[str]) -> None:
    first = read(folder)
    opened.clear()
    (folder / "001.png").write_bytes(zoo.encoded(zoo.noise(30, seed=77), "PNG"))
    (folder / "new.png").write_bytes(zoo.encoded(zoo.noise(20, seed=78), "PNG"))
    (folder / "000.png").unlink()
    second = read(folder)
    assert sorted(opened) == ["001.png", "new.png"]
    assert second.names == ["001.png", "002.png", "003.png", "new.png"]
    np.testing.assert_array_equal(second.pixels[8][1:3], first.pixels[8][2:4])
    assert second.digests[0] not in first.digests


def test_a_change_that_keeps_size_and_time_is_noticed_when_asked_to_verify(folder: Path) -> None:
    path = folder / "000.bmp"
    path.write_bytes(zoo.encoded(zoo.noise(20, seed=90), "BMP"))
    first, before = read(folder), path.stat()
    path.write_bytes(zoo.encoded(zoo.noise(20, seed=91), "BMP"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert read(folder).digests == first.digests
    verified = read(folder, verify=True)
    assert verified.digests != first.digests
    same(read(folder), verified)


def test_another_size_is_made_of_other_decoded_images(folder: Path, opened: list[str]) -> None:
    read(folder)
    opened.clear()
    read(folder, size=4)
    assert sorted(opened) == ["000.png", "001.png", "002.png", "003.png"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied"])
@pytest.mark.parametrize("kind", ["images-1", "arrays-1", "files-1"])
@pytest.mark.filterwarnings("ignore:a file of the cache is damaged")
def test_damage_is_noticed_and_mended(folder: Path, cache: Path, kind: str, damage: str) -> None:
    first = read(folder)
    (path,) = (one for one in (cache / kind).rglob("*") if one.is_file())
    data = path.read_bytes()
    flipped = bytes([*data[:-40], data[-40] ^ 1, *data[-39:]])
    path.unlink()  # the first result still maps it
    path.write_bytes({"cut": data[:-7], "flipped": flipped, "emptied": b""}[damage])
    if kind == "images-1":
        for array in (cache / "arrays-1").iterdir():
            array.unlink()
    same(read(folder), first)
    same(read(folder), first)


def test_an_image_that_changes_while_the_folder_is_read_is_an_error(folder: Path, cache: Path) -> None:
    found = read_arrays(folder, ())
    (folder / "000.png").write_bytes(zoo.encoded(zoo.noise(21), "PNG"))
    with pytest.raises(CaptionlessError, match=r"000\.png has changed since it was first read"):
        read_arrays(folder, (8,)).cache.array(found.images, 8, grey=False, advance=lambda *_: None)


def test_where_the_cache_cannot_be_written_everything_is_kept_in_memory_with_one_remark(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read(folder)
    (cache / "file").touch()
    monkeypatch.setenv("CAPTIONLESS_CACHE", str(cache / "file"))
    with pytest.warns(UserWarning, match="cannot be written to") as said:
        same(read_arrays(folder, (8,)), expected)
    assert len(said) == 1
    assert (cache / "file").read_bytes() == b""


def test_a_cache_of_another_user_is_read_though_it_cannot_be_written(
    folder: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read(folder)
    opened.clear()
    (folder / "new.png").write_bytes(zoo.encoded(zoo.noise(22), "PNG"))

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.mkstemp", refused)
    with pytest.warns(UserWarning, match="Read-only file system"):
        found = len(read_arrays(folder, (8,)).pixels[8])
    assert found == len(expected.pixels[8]) + 1
    assert opened == ["new.png"]


def test_the_cache_removes_what_was_not_used_for_longest_and_nothing_else(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(folder)
    read(folder, size=4)
    strange = cache / "images-1" / "mine.txt"
    strange.write_text("mine")
    files = sorted(one for one in cache.rglob("*") if one.is_file() and one.parent.name != "files-1" and one != strange)
    assert len(files) == 4
    for age, path in enumerate(files):
        os.utime(path, (1000 - age, 1000 - age))
    kept = sum(path.stat().st_size for path in files[:2])
    monkeypatch.setenv("CAPTIONLESS_CACHE_GB", str(kept / 1e9))
    caches.trim_cache(cache)
    assert [path for path in files if path.exists()] == files[:2]
    assert strange.exists()
    for text in ("much", "nan", "-1"):
        monkeypatch.setenv("CAPTIONLESS_CACHE_GB", text)
        with pytest.raises(CaptionlessError, match="CAPTIONLESS_CACHE_GB must be a number"):
            caches.trim_cache(cache)


def test_what_this_process_used_stays_however_small_the_limit(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPTIONLESS_CACHE_GB", "0")
    read(folder)
    assert list((cache / "arrays-1").iterdir())


def test_arrays_are_mapped_and_changes_stay_in_the_process(cache: Path) -> None:
    def mapped() -> np.ndarray:
        return mapped_array(cache, ["a"], (2, 3), np.float32, lambda: np.arange(6.0).reshape(2, 3))

    array = mapped()
    assert isinstance(array, np.memmap)
    array[:] = 0
    np.testing.assert_array_equal(mapped(), [[0, 1, 2], [3, 4, 5]])


def test_transparent_images_are_shown_on_the_background(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    clear.putpixel((0, 0), (0, 0, 0, 1))
    clear.save(tmp_path / "clear.png")
    for colour, pixel in {"white": (255, 255, 255), "#102030": (16, 32, 48)}.items():
        found = read_arrays(tmp_path, (8,), background=colour)
        assert found.images[0].transparent
        assert tuple(found.pixels[8][0, 6, 6]) == pixel
    with pytest.raises(CaptionlessError, match="there is no colour mud"):
        read_arrays(tmp_path, (8,), background="mud")


def test_sprites_are_enlarged_by_whole_factors_and_small_photographs_smoothly(tmp_path: Path) -> None:
    sprite = zoo.noise(8).quantize(8).convert("RGBA")
    sprite.putpixel((0, 0), (0, 0, 0, 0))
    sprite.save(tmp_path / "a.png")
    zoo.noise(8).save(tmp_path / "b.png")
    drawn, photograph = read_arrays(tmp_path, (16,)).pixels[16]
    np.testing.assert_array_equal(drawn, drawn[::2, ::2].repeat(2, 0).repeat(2, 1))
    assert not np.array_equal(photograph, photograph[::2, ::2].repeat(2, 0).repeat(2, 1))
