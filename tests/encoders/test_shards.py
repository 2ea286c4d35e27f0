"""The contract of captionless.encoders.shards: every image exactly once, whatever happens to the run."""

from __future__ import annotations

import io
import random
import sys
import tarfile
import types
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

import encoder_factory
import image_zoo as zoo
from captionless.config.shards import ShardConfig
from captionless.data import stores
from captionless.data.stored import StoredFile
from captionless.encoders import embed, load_encoder, manifest, shard_files, shards
from captionless.encoders.dual_encoder import Encoder
from captionless.encoders.manifest import list_shards, read_shards
from captionless.encoders.shard_files import read_shard_vectors
from captionless.encoders.shards import ShardEmbedder, embed_shards
from captionless.errors import CaptionlessError
from progress_cases import Recorded


@pytest.fixture(autouse=True)
def in_this_process(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode without other processes, which take seconds to start; what they are for has tests of its own."""
    monkeypatch.setenv("CAPTIONLESS_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(stores, "PAUSES", (0.001, 0.001))
    alone = shards.decode_files
    monkeypatch.setattr(shards, "decode_files", lambda *arguments: alone(*arguments[:3], 1))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(str(encoder_factory.small_pair(tmp_path_factory.mktemp("encoder"))))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    zoo.fill(tmp_path / "photos", 7)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    return tmp_path / "photos"


def rows(out: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(out.glob("*.parquet")) for row in parquet.read_table(path).to_pylist()]


def files(out: Path) -> list[str]:
    return [row["file"] for row in rows(out)]


def test_every_file_has_one_row_with_the_vector_that_embed_computes_or_a_reason(
    photos: Path, tmp_path: Path, encoder: Encoder
) -> None:
    assert embed_shards(photos, tmp_path / "out", encoder, ShardConfig(shard_size=3)) == 3
    assert [path.name for path in sorted((tmp_path / "out").glob("*.parquet"))] == [
        "0001-000000.parquet",
        "0001-000001.parquet",
        "0001-000002.parquet",
    ]
    found = {row["file"]: row for row in rows(tmp_path / "out")}
    expected = embed(photos, encoder)
    assert len(found) == len(rows(tmp_path / "out")) == 8
    assert found["notes.txt"]["skipped"] == "not an image"
    assert found["notes.txt"]["vector"] is None
    for image, vector in zip(expected.images, expected.vectors, strict=True):
        row = found[image.name]
        assert (row["key"].split()[0], row["width"], row["skipped"]) == (image.digest, image.width, None)
        np.testing.assert_allclose(np.array(row["vector"], np.float32), vector, atol=1e-6)


def test_a_second_run_does_nothing_and_reads_nothing(
    photos: Path, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_shards(photos, tmp_path / "out", encoder)
    monkeypatch.setattr(ShardEmbedder, "embed", lambda *_: pytest.fail("a finished shard was read"))
    assert embed_shards(photos, tmp_path / "out", encoder) == 0


def test_an_interrupted_run_reads_no_finished_shard_again(
    photos: Path, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    read = ShardEmbedder._parquet

    def interrupted(self: ShardEmbedder, shard: Any) -> bytes:
        if len(opened) == 2:
            raise KeyboardInterrupt
        opened.append(shard.name)
        return read(self, shard)

    config = ShardConfig(shard_size=3)
    monkeypatch.setattr(ShardEmbedder, "_parquet", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embed_shards(photos, tmp_path / "out", encoder, config)
    monkeypatch.setattr(ShardEmbedder, "_parquet", read)
    assert len(files(tmp_path / "out")) == 6
    assert embed_shards(photos, tmp_path / "out", encoder, config) == 1
    assert sorted(files(tmp_path / "out")) == sorted([f"{i:03}.png" for i in range(7)] + ["notes.txt"])
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_files_that_come_later_form_new_shards(photos: Path, tmp_path: Path, encoder: Encoder) -> None:
    config = ShardConfig(shard_size=3)
    embed_shards(photos, tmp_path / "out", encoder, config)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.parquet")}
    (photos / "000b.png").write_bytes(zoo.encoded(zoo.noise(12, seed=99), "PNG"))
    assert embed_shards(photos, tmp_path / "out", encoder, config) == 0  # the list is written once
    assert embed_shards(photos, tmp_path / "out", encoder, ShardConfig(relist=True)) == 1
    assert embed_shards(photos, tmp_path / "out", encoder, ShardConfig(relist=True)) == 0
    after = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.parquet")}
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {"0002-000000.parquet"}
    assert Counter(files(tmp_path / "out")).most_common(1)[0][1] == 1
    assert "000b.png" in files(tmp_path / "out")


def test_the_parts_of_a_job_array_are_the_whole(photos: Path, tmp_path: Path, encoder: Encoder) -> None:
    done = [
        embed_shards(photos, tmp_path / "out", encoder, ShardConfig(shard_size=1, shard=f"{i}/3")) for i in range(3)
    ]
    assert done == [3, 3, 2]
    assert len(files(tmp_path / "out")) == len(set(files(tmp_path / "out"))) == 8


def test_of_two_processes_that_list_at_once_both_use_one_list(
    photos: Path, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from captionless.encoders import manifest

    listed = manifest.list_files

    def slow(source: Path) -> Sequence[Any]:
        """List before, and go on after another process with another list has finished."""
        found = listed(source)
        monkeypatch.setattr(manifest, "list_files", listed)
        (photos / "later.png").write_bytes(zoo.encoded(zoo.noise(12, seed=98), "PNG"))
        embed_shards(photos, tmp_path / "out", encoder, ShardConfig(shard_size=2))
        return found

    monkeypatch.setattr(manifest, "list_files", slow)
    embed_shards(photos, tmp_path / "out", encoder, ShardConfig(shard_size=3))
    assert len(files(tmp_path / "out")) == len(set(files(tmp_path / "out"))) == 9


def test_a_tar_is_a_shard(tmp_path: Path, encoder: Encoder) -> None:
    for number in range(2):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as tar:
            for i in range(3):
                data = zoo.encoded(zoo.noise(12, seed=3 * number + i), "PNG")
                about = tarfile.TarInfo(f"{i}.png")
                about.size = len(data)
                tar.addfile(about, io.BytesIO(data))
    assert embed_shards(f"{tmp_path}/*.tar", tmp_path / "out", encoder) == 2
    assert files(tmp_path / "out") == [f"{tar}.tar/{i}.png" for tar in range(2) for i in range(3)]


def test_a_store_that_fails_costs_its_shard_which_the_next_run_embeds(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    for i in range(6):
        store.pipe_file(f"/{tmp_path.name}/{i}.png", zoo.encoded(zoo.noise(12, seed=i), "PNG"))
    read = StoredFile._read

    def failing(self: StoredFile) -> bytes:
        if self.name == "3.png":
            raise ConnectionError("reset by peer")
        return read(self)

    source, config = f"memory://{tmp_path.name}", ShardConfig(shard_size=2)
    monkeypatch.setattr(StoredFile, "_read", failing)
    with pytest.raises(CaptionlessError) as raised:
        embed_shards(source, tmp_path / "out", encoder, config)
    monkeypatch.setattr(StoredFile, "_read", read)
    assert str(raised.value).startswith(f"1 of 3 shards could not be embedded, the first because cannot read {source}")
    assert "\n" not in str(raised.value)
    assert files(tmp_path / "out") == ["0.png", "1.png", "4.png", "5.png"]
    assert embed_shards(source, tmp_path / "out", encoder, config) == 1
    assert files(tmp_path / "out") == [f"{i}.png" for i in range(6)]


def test_a_folder_that_disappears_is_no_folder_of_unreadable_images(
    photos: Path, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_shards(photos, tmp_path / "out", encoder, ShardConfig(shard="0/2"))
    next((tmp_path / "out").glob("*.parquet")).unlink()
    photos.rename(tmp_path / "unmounted")
    with pytest.raises(CaptionlessError, match="photos is not there any more"):
        embed_shards(photos, tmp_path / "out", encoder)
    assert not files(tmp_path / "out")


def test_a_folder_of_shards_belongs_to_one_source_and_one_encoder(
    photos: Path, tmp_path: Path, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    embed_shards(photos, tmp_path / "out", encoder)
    zoo.fill(other := tmp_path / "other", 2)
    with pytest.raises(CaptionlessError, match=r"holds the vectors of .+photos, not of"):
        embed_shards(other, tmp_path / "out", encoder)
    other = load_encoder(str(encoder_factory.small_clip(tmp_path_factory.mktemp("clip"))))
    with pytest.raises(CaptionlessError, match=r"holds vectors of the encoder .+ on white"):
        embed_shards(photos, tmp_path / "out", other)
    with pytest.raises(CaptionlessError, match="`background=white`"):
        embed_shards(photos, tmp_path / "out", encoder, background="black")


def test_shards_are_not_written_among_the_images(photos: Path, encoder: Encoder) -> None:
    with pytest.raises(CaptionlessError, match="is inside"):
        embed_shards(photos, photos / "out", encoder)
    assert not (photos / "out").exists()


def test_an_empty_folder_and_a_damaged_list_are_one_sentence(photos: Path, tmp_path: Path, encoder: Encoder) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CaptionlessError, match="there are no files in"):
        embed_shards(tmp_path / "empty", tmp_path / "out", encoder)
    embed_shards(photos, tmp_path / "out", encoder)
    (tmp_path / "out" / "manifest" / "0001" / "shards.jsonl").write_text("{")
    with pytest.raises(CaptionlessError, match=r"the manifest .+ is damaged"):
        embed_shards(photos, tmp_path / "out", encoder)


def test_the_run_says_how_many_shards_are_complete(photos: Path, tmp_path: Path, encoder: Encoder) -> None:
    progress = Recorded()
    embed_shards(photos, tmp_path / "out", encoder, ShardConfig(shard_size=4), progress=progress)
    assert "Shards: 0 of 2 are complete." in progress.said


@pytest.mark.parametrize("share", ["8/8", "1", "-1/2", "a/b", "1/2/3", "0/0"])
def test_a_part_is_a_number_below_the_number_of_parts(share: str) -> None:
    with pytest.raises(CaptionlessError, match="Of 8 parts, the first is `shard=0/8`"):
        ShardConfig(shard=share)


def damaged(whole: bytes, times: int) -> Iterator[bytes]:
    """Copies of a file with a flipped bit, or cut off."""
    draw = random.Random(0)
    for _ in range(times):
        place = draw.randrange(len(whole))
        yield whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :]
        yield whole[:place]


def test_no_damage_to_a_shard_passes_in_silence(
    photos: Path, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_files, "mapped_array", lambda *arguments: arguments[4]())
    embed_shards(photos, tmp_path / "out", encoder)
    images = embed(photos, encoder).images
    expected = read_shard_vectors(tmp_path / "out", images, encoder, "white")
    (path,) = (tmp_path / "out").glob("*.parquet")
    read, whole = parquet.read_table, path.read_bytes()

    def decode(path: Path, columns: list[str]) -> Any:
        """Read a column, which is what was written: damaged lengths let the decoder ask for gigabytes."""
        assert read(path, columns=columns) == read(io.BytesIO(whole), columns=columns)
        return read(path, columns=columns)

    monkeypatch.setattr(parquet, "read_table", decode)
    refused = 0
    for data in damaged(path.read_bytes(), 100):
        path.write_bytes(data)
        shard_files._vectors.cache_clear()
        try:
            assert np.array_equal(read_shard_vectors(tmp_path / "out", images, encoder, "white"), expected)
        except CaptionlessError:
            refused += 1
    assert refused > 150  # the rest hits what is not read: names, sizes, statistics


def test_each_shard_is_read_once_whatever_the_order_of_the_images(
    photos: Path, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPTIONLESS_CACHE", str(tmp_path / "cache"))
    embed_shards(photos, tmp_path / "out", encoder, ShardConfig(shard_size=2))
    found = embed(photos, encoder)
    order = [*range(0, len(found.images), 3), *range(1, len(found.images), 3), *range(2, len(found.images), 3)]
    read, column = Counter[Path](), shard_files._column

    def counted(path: Path, name: str) -> Any:
        read[path] += name == "vector"
        return column(path, name)

    monkeypatch.setattr(shard_files, "_column", counted)
    vectors = read_shard_vectors(tmp_path / "out", [found.images[row] for row in order], encoder, "white")
    assert np.allclose(vectors, found.vectors[order], atol=1e-6)
    assert len(read) == 4
    assert set(read.values()) == {1}


def test_no_damage_to_a_manifest_passes_in_silence(photos: Path, tmp_path: Path) -> None:
    list_shards(photos, tmp_path / "out", 3)
    expected = [*read_shards(photos, tmp_path / "out")]
    assert [len(shard.files) for shard in expected] == [3, 3, 2]
    path = tmp_path / "out" / "manifest" / "0001" / "shards.jsonl"
    for data in damaged(path.read_bytes(), 100):
        path.write_bytes(data)
        with suppress(CaptionlessError):
            assert [*read_shards(photos, tmp_path / "out")] == expected


def test_each_line_of_the_manifest_is_parsed_once_and_those_of_finished_shards_are_not(
    photos: Path, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_shards(photos, tmp_path / "out", encoder, ShardConfig(shard_size=2))
    (tmp_path / "out" / "0001-000002.parquet").unlink()
    parsed, parse = list[str](), manifest.parse_json

    def counted(text: str) -> Any:
        if '"files"' in text:
            parsed.append(text)
        return parse(text)

    monkeypatch.setattr(manifest, "parse_json", counted)
    assert embed_shards(photos, tmp_path / "out", encoder, ShardConfig(shard_size=2)) == 1
    assert len(parsed) == 1
    assert "0001-000002" in parsed[0]


class FakeRay(types.ModuleType):
    """As much of Ray as `embed_shards` calls; its actors are this process, and ``fail`` may raise in a task."""

    class exceptions:  # noqa: N801
        class RayError(Exception): ...

        class RayActorError(RayError): ...

        class ObjectLostError(RayError): ...

        class RayTaskError(RayError):
            def __init__(self, cause: Exception) -> None:
                super().__init__(f"Traceback (most recent call last)\n{cause}")
                self.cause = cause

    def __init__(self, fail: Callable[[Any], None], begin: Callable[[], None] = lambda: None) -> None:
        super().__init__("ray")
        self.fail, self.begin, self.util = fail, begin, types.ModuleType("ray.util")
        ray = self

        class ActorPool:
            def __init__(self, actors: list[Any]) -> None:
                self.actor, self.tasks = actors[0], list[Any]()

            def has_free(self) -> bool:
                return not self.tasks

            def submit(self, function: Callable[[Any, Any], Any], value: Any) -> None:
                self.tasks.append(function(self.actor, value))

            def has_next(self) -> bool:
                return bool(self.tasks)

            def get_next_unordered(self) -> Any:
                embed, shard = self.tasks.pop()
                ray.fail(shard)
                return embed(shard)

        self.util.ActorPool = ActorPool  # type: ignore[attr-defined]

    def is_initialized(self) -> bool:
        return False

    def init(self, **_: Any) -> None:
        self.begin()

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": 4}}]

    def remote(self, **_: Any) -> Callable[[type], Any]:
        def actor(kind: type) -> Any:
            def start(*arguments: Any) -> Any:
                one = kind(*arguments)
                return types.SimpleNamespace(embed=types.SimpleNamespace(remote=lambda shard: (one.embed, shard)))

            return types.SimpleNamespace(remote=start)

        return actor


def use_ray(monkeypatch: pytest.MonkeyPatch, fake: FakeRay) -> None:
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setitem(sys.modules, "ray.util", fake.util)


@pytest.mark.parametrize("name", ["ObjectLostError", "RayActorError"])
def test_what_fails_in_ray_costs_one_shard_and_is_one_line(
    name: str, photos: Path, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(shard: Any) -> None:
        if shard.name.endswith("1"):
            raise getattr(FakeRay.exceptions, name)("object\nlost")

    use_ray(monkeypatch, FakeRay(fail))
    with pytest.raises(CaptionlessError, match="1 of 4 shards could not be embedded") as found:
        embed_shards(photos, tmp_path / "out", encoder.name, ShardConfig(engine="ray", shard_size=2))
    assert "\n" not in str(found.value)
    assert len([*(tmp_path / "out").glob("*.parquet")]) == 3


def test_a_bug_in_a_task_of_ray_is_that_bug(
    photos: Path, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Any) -> None:
        raise FakeRay.exceptions.RayTaskError(ZeroDivisionError("ours"))

    use_ray(monkeypatch, FakeRay(fail))
    with pytest.raises(ZeroDivisionError, match="ours"):
        embed_shards(photos, tmp_path / "out", encoder.name, ShardConfig(engine="ray", shard_size=2))


def test_a_cluster_that_is_not_there_is_one_line(
    photos: Path, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin() -> None:
        raise ConnectionError("no cluster at 10.0.0.1:6379")

    use_ray(monkeypatch, FakeRay(lambda _: None, begin))
    with pytest.raises(CaptionlessError, match="no cluster at"):
        embed_shards(photos, tmp_path / "out", encoder.name, ShardConfig(engine="ray", shard_size=2))


def test_images_that_could_not_be_read_get_vectors_by_listing_again(
    photos: Path, tmp_path: Path, encoder: Encoder
) -> None:
    zoo.fill(tmp_path / "elsewhere" / "disk", 2)
    (photos / "disk").symlink_to(tmp_path / "elsewhere" / "disk")
    (photos / "repaired.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    config, again = ShardConfig(shard_size=3), ShardConfig(shard_size=3, relist=True)
    list_shards(photos, tmp_path / "out", 3)
    (tmp_path / "elsewhere").rename(tmp_path / "unmounted")
    progress = Recorded()
    assert embed_shards(photos, tmp_path / "out", encoder, config, progress=progress) == 4
    (remark,) = (said for said in progress.said if "have no vector" in said)
    assert remark.startswith("4 files have no vector: ")
    assert "disk/000.png (cannot be read: No such file or directory)" in remark
    (tmp_path / "unmounted").rename(tmp_path / "elsewhere")
    (photos / "repaired.png").write_bytes(zoo.encoded(zoo.noise(12, seed=97), "PNG"))
    assert embed_shards(photos, tmp_path / "out", encoder, again) == 1
    images = embed(photos, encoder).images
    assert {"disk/000.png", "repaired.png"} <= {row["file"] for row in rows(tmp_path / "out") if row["vector"]}
    assert len(read_shard_vectors(tmp_path / "out", images, encoder, "white")) == len(images)
    read = Counter(files(tmp_path / "out"))
    assert {name for name, times in read.items() if times > 1} == {"disk/000.png", "disk/001.png", "repaired.png"}


def test_a_damaged_tar_is_named_and_read_again_once_it_is_whole(tmp_path: Path, encoder: Encoder) -> None:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for i in range(3):
            data = zoo.encoded(zoo.noise(12, seed=i), "PNG")
            about = tarfile.TarInfo(f"{i}.png")
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    (tmp_path / "a.tar").write_bytes(whole.getvalue()[:2000])
    progress = Recorded()
    source, again = f"{tmp_path}/*.tar", ShardConfig(relist=True)
    assert embed_shards(source, tmp_path / "out", encoder, progress=progress) == 1
    assert any("a.tar" in said and "have no vector" in said for said in progress.said)
    (tmp_path / "a.tar").write_bytes(whole.getvalue())
    assert embed_shards(source, tmp_path / "out", encoder, again) == 1
    assert {row["file"] for row in rows(tmp_path / "out") if row["vector"]} == {f"a.tar/{i}.png" for i in range(3)}
    assert embed_shards(source, tmp_path / "out", encoder, again) == 0
