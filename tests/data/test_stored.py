"""The contract of captionless.data.stored: images behind URLs, in tars and in Parquet files are read as in a folder."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow import parquet

import captionless.data.parquet
import image_zoo as zoo
from captionless.data import image_cache, stores
from captionless.data.arrays import read_arrays
from captionless.data.folder import find_images
from captionless.data.image_cache import ImageCache
from captionless.data.stores import StoreError
from captionless.errors import CaptionlessError

COUNT = 12


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTIONLESS_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(stores, "PAUSES", (0.001, 0.001))


def content(number: int) -> bytes:
    return zoo.encoded(zoo.noise(12, seed=number), "PNG")


def as_folder(folder: Path) -> str:
    (folder / "images").mkdir()
    for i in range(COUNT):
        (folder / "images" / f"{i:03}.png").write_bytes(content(i))
    return str(folder / "images")


def as_tars(folder: Path) -> str:
    for shard in range(2):
        with tarfile.open(folder / f"{shard:05}.tar", "w") as tar:
            for i in range(shard * COUNT // 2, (shard + 1) * COUNT // 2):
                for name, data in ((f"{i:03}.png", content(i)), (f"{i:03}.txt", b"a rose"), (f"{i:03}.json", b"{}")):
                    about = tarfile.TarInfo(name)
                    about.size = len(data)
                    tar.addfile(about, io.BytesIO(data))
    return str(folder / "*.tar")


def as_parquet(folder: Path) -> str:
    rows = [{"bytes": content(i), "path": f"{i:03}.png"} for i in range(COUNT)]
    table = pa.table({"label": list(range(COUNT)), "image": rows})
    parquet.write_table(table, folder / "train-00000-of-00001.parquet", row_group_size=7)
    return str(folder / "train-00000-of-00001.parquet")


def as_url(folder: Path, count: int = COUNT) -> str:
    for i in range(count):
        fsspec.filesystem("memory").pipe_file(f"/{folder.name}/photos/{i:03}.png", content(i))
    fsspec.filesystem("memory").pipe_file(f"/{folder.name}/photos/.hidden/x.png", b"")
    return f"memory://{folder.name}/photos"


@pytest.mark.parametrize("source", [as_folder, as_tars, as_parquet, as_url])
def test_every_source_gives_the_same_images(source: Callable[[Path], str], tmp_path: Path) -> None:
    found = read_arrays(source(tmp_path), (8,))
    assert not found.skipped
    assert len(set(found.names)) == COUNT
    assert all(name.endswith(f"{i:03}.png") for i, name in enumerate(found.names))
    (tmp_path / "other").mkdir()
    expected = read_arrays(as_folder(tmp_path / "other"), (8,))
    assert found.digests == expected.digests
    np.testing.assert_array_equal(found.pixels[8], expected.pixels[8])


@pytest.mark.slow
def test_what_is_decoded_in_other_processes_is_read_in_this_one(tmp_path: Path) -> None:
    found = read_arrays(as_url(tmp_path, 40), ())  # other processes do not see the memory of this one
    assert len(found.images) == 40


def test_names_tell_the_archive_and_the_place_in_it(tmp_path: Path) -> None:
    as_tars(tmp_path)
    as_parquet(tmp_path)
    found = [file.name for file in find_images(tmp_path)]
    assert found[:2] == ["00000.tar/000.png", "00000.tar/001.png"]
    assert found[COUNT] == "train-00000-of-00001.parquet/000000/000.png"
    assert len(found) == 2 * COUNT


class Flaky(MemoryFileSystem):  # type: ignore[misc]
    """A store that fails as often as it is told, with an exception of its own."""

    protocol = "flaky"
    reads = 0
    failures = 0

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **more: Any) -> bytes:
        Flaky.reads += 1
        if Flaky.failures:
            Flaky.failures -= 1
            raise RuntimeError("503 Slow Down")
        return bytes(super().cat_file(path, start, end, **more))

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(MemoryFileSystem._strip_protocol(path.replace("flaky://", "memory://")))


@pytest.fixture
def flaky(tmp_path: Path) -> str:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    Flaky.reads = Flaky.failures = 0
    return as_url(tmp_path).replace("memory", "flaky")


def test_a_store_that_fails_now_and_then_costs_no_image(flaky: str) -> None:
    Flaky.failures = 2
    assert len(read_arrays(flaky, ()).images) == COUNT


def test_a_store_that_keeps_failing_is_an_error_and_no_skipped_image(flaky: str) -> None:
    Flaky.failures = 10_000
    with pytest.raises(StoreError, match=r"cannot read flaky://.+503 Slow Down.+again when the store answers"):
        read_arrays(flaky, ())


def add_tar(flaky: str) -> None:
    with tarfile.open(fileobj=(data := io.BytesIO()), mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a.png"))
    fsspec.filesystem("memory").pipe_file(flaky.removeprefix("flaky:/") + "/x.tar", data.getvalue())


def test_a_bug_of_our_own_is_no_failure_of_a_store(flaky: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object) -> None:
        raise KeyError("ours")

    add_tar(flaky)
    monkeypatch.setattr("captionless.data.stored._hidden", lambda name: name == "a.png" and bug())
    with pytest.raises(KeyError, match="ours"):
        read_arrays(flaky, ())


@pytest.mark.parametrize("name", ["find", "open", "_open"])
def test_a_store_that_cannot_be_listed_or_opened_is_an_error(
    name: str, flaky: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise RuntimeError("403 Slow Down")

    add_tar(flaky)
    monkeypatch.setattr(Flaky, name, refused)
    with pytest.raises(StoreError, match="403 Slow Down"):
        read_arrays(flaky, ())


def test_a_second_start_reads_no_object_that_has_not_changed(flaky: str) -> None:
    read_arrays(flaky, (8,)).array(8)
    Flaky.reads = 0
    read_arrays(flaky, (8,)).array(8)
    assert Flaky.reads == 0
    fsspec.filesystem("memory").pipe_file(flaky.removeprefix("flaky:/") + "/007.png", content(700))
    found = read_arrays(flaky, (8,))
    assert Flaky.reads == 1
    assert found.digests[7] != found.digests[8]


def test_an_object_that_disappears_is_a_skipped_image(flaky: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> bytes:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(Flaky, "cat_file", gone)
    with pytest.raises(CaptionlessError, match="cannot be read: 12"):
        read_arrays(flaky, ())


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("x.tar", b"no tar at all" * 100, "damaged tar"),
        ("x.parquet", b"no Parquet file" * 100, "damaged Parquet file"),
    ],
)
def test_a_damaged_archive_is_one_skipped_file(name: str, data: bytes, reason: str, tmp_path: Path) -> None:
    as_folder(tmp_path)
    (tmp_path / name).write_bytes(data)
    found = read_arrays(tmp_path, ())
    assert len(found.images) == COUNT
    assert [(one.name, one.kind, reason in one.reason) for one in found.skipped] == [(name, "cannot be read", True)]


def test_what_comes_before_the_damage_in_a_tar_is_used(tmp_path: Path) -> None:
    as_tars(tmp_path)
    path = tmp_path / "00000.tar"
    path.write_bytes(path.read_bytes()[:6_000])
    found = read_arrays(tmp_path, ())
    assert COUNT // 2 < len(found.images) < COUNT
    assert found.skipped
    assert {one.kind for one in found.skipped} <= {"cannot be read", "truncated"}


def test_each_group_of_rows_is_read_once_whatever_the_order_of_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPTIONLESS_CACHE", str(tmp_path / "cache"))
    rows = [{"bytes": zoo.encoded(zoo.plain((i, 0, 0), (8, 8)), "PNG"), "path": f"{i:03}.png"} for i in range(210)]
    parquet.write_table(pa.table({"image": rows}), tmp_path / "x.parquet", row_group_size=70)
    alone = image_cache.decode_files
    monkeypatch.setattr(image_cache, "decode_files", lambda *arguments: alone(*arguments[:3], 1))
    opened, opening = list[str](), captionless.data.parquet.open_parquet

    def counted(url: str) -> Any:
        opened.append(url)
        return opening(url)

    found = read_arrays(tmp_path / "x.parquet", ())
    captionless.data.parquet._image_column.cache_clear()
    monkeypatch.setattr(captionless.data.parquet, "open_parquet", counted)
    order = [*range(0, 210, 3), *range(1, 210, 3), *range(2, 210, 3)]
    pixels = ImageCache(tmp_path / "cache", found.cache.folder, (8,), 0, "white").array(
        [found.images[row] for row in order], 8, grey=False, advance=lambda *_: None
    )
    assert pixels[:, 0, 0, 0].tolist() == order
    assert len(opened) == 3


def test_parquet_without_images_says_what_is_expected(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"number": [1, 2]}), tmp_path / "x.parquet")
    with pytest.raises(CaptionlessError, match=r"no usable image in .+cannot be read: 1"):
        read_arrays(tmp_path / "x.parquet", ())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nostore://bucket/x", "cannot open nostore://bucket/x: Protocol not known: nostore"),
        ("memory://nothing/here", "there are no files in memory://nothing/here"),
        ("none/*.tar", "there are no files in"),
        ("none/x.tar", "there are no files in|cannot list"),
    ],
)
def test_a_source_that_does_not_exist_is_one_sentence(source: str, message: str) -> None:
    with pytest.raises(CaptionlessError, match=message):
        find_images(source)
