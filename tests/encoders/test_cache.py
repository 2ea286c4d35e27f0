import multiprocessing
import warnings

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captionless.encoders.cache import VectorCache, cache_folder
from captionless.errors import CaptionlessError


def vectors(count, width=4, seed=0):
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def filled(folder, count=5, encoder="abc123", seed=0, first=0):
    cache = VectorCache(folder, encoder, "a small encoder")
    for i, vector in enumerate(vectors(count, seed=seed), start=first):
        cache.add(f"digest{i}", f"rose/{i}.jpg", vector)
    return cache


def opened_and_asked(folder, digest):
    """Some damage shows when the cache is opened, other only when a vector is read."""
    cache = VectorCache(folder, "abc123")
    assert cache.get(digest) is None
    return cache


def parts(folder):
    return sorted(folder.rglob("part-*.parquet"))


def test_what_was_added_is_there_at_once_and_after_a_flush_for_everyone(tmp_path):
    cache = filled(tmp_path)
    assert "digest2" in cache
    assert np.array_equal(cache.get("digest2"), vectors(5)[2])
    assert "digest2" not in VectorCache(tmp_path, "abc123")
    cache.flush()
    for other in (cache, VectorCache(tmp_path, "abc123")):
        assert len(other) == 5
        assert all(np.array_equal(other.get(f"digest{i}"), vectors(5)[i]) for i in range(5))


def test_vectors_kept_under_an_earlier_digest_of_the_encoder_are_read_too(tmp_path):
    filled(tmp_path, encoder="earlier").flush()
    cache = VectorCache(tmp_path, "abc123", also=("earlier", "never written"))
    assert np.array_equal(cache.get("digest2"), vectors(5)[2])
    cache.add("new", "new.jpg", vectors(1)[0])
    cache.flush()
    assert [part.parent.name for part in parts(tmp_path)] == ["abc123", "earlier"]
    assert len(VectorCache(tmp_path, "abc123", also={"earlier"})) == 6
    assert len(VectorCache(tmp_path, "abc123")) == 1


def test_an_unknown_image_has_no_vector(tmp_path):
    assert filled(tmp_path).get("other") is None
    assert "other" not in filled(tmp_path)


@settings(max_examples=25)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=9))
def test_every_bit_of_a_vector_survives(tmp_path_factory, numbers):
    folder = tmp_path_factory.mktemp("cache")
    cache = VectorCache(folder, "abc")
    cache.add("d", "a.jpg", numbers)
    cache.flush()
    expected = np.array(numbers, np.float32)
    assert VectorCache(folder, "abc").get("d").tobytes() == expected.tobytes()


def test_changing_a_vector_that_was_got_changes_nothing_in_the_cache(tmp_path):
    cache = filled(tmp_path)
    cache.get("digest0")[:] = 0
    cache.flush()
    cache.get("digest0")[:] = 0
    assert np.array_equal(cache.get("digest0"), vectors(5)[0])


def test_a_flush_without_news_writes_nothing(tmp_path):
    cache = VectorCache(tmp_path, "abc")
    cache.flush()
    filled(tmp_path).flush()
    before = parts(tmp_path)
    VectorCache(tmp_path, "abc123").flush()
    assert parts(tmp_path) == before
    assert len(before) == 1


def test_a_part_is_an_ordinary_parquet_file_that_explains_itself(tmp_path):
    filled(tmp_path).flush()
    (part,) = parts(tmp_path)
    assert part.parent.name == "abc123"
    table = pq.read_table(part)
    assert table.column_names == ["path", "digest", "vector", "encoder"]
    assert table.schema.metadata[b"captionless.encoder"] == b"abc123"
    assert table.to_pylist()[1]["path"] == "rose/1.jpg"
    assert table.to_pylist()[1]["encoder"] == "a small encoder"
    assert table.schema.field("vector").type.list_size == 4


def test_encoders_do_not_see_each_others_vectors(tmp_path):
    filled(tmp_path, encoder="abc").flush()
    assert len(VectorCache(tmp_path, "def")) == 0


@pytest.mark.parametrize("damage", ["truncated", "emptied", "bit flipped", "text"])
def test_a_damaged_part_is_set_aside_with_a_warning_and_the_rest_stays(tmp_path, damage):
    filled(tmp_path, count=600).flush()
    filled(tmp_path, count=5, first=1000).flush()
    part = parts(tmp_path)[0]
    data = bytearray(part.read_bytes())
    at = data.find(vectors(600)[300:310].tobytes()[:16])
    data[at if at > 0 else len(data) // 2] ^= 0x10
    changed = {"truncated": data[:-100], "emptied": b"", "bit flipped": bytes(data), "text": b"not parquet"}[damage]
    part.write_bytes(changed)
    with pytest.warns(UserWarning, match="set aside"):
        cache = opened_and_asked(tmp_path, "digest300")
    assert cache.get("digest1001") is not None
    assert "digest300" not in cache
    assert part.with_suffix(".damaged").exists()
    # Next time all is well: no warning, and the lost ones can be added again.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache = VectorCache(tmp_path, "abc123")
        cache.add("digest300", "x", vectors(1)[0])
        cache.flush()
        assert VectorCache(tmp_path, "abc123").get("digest300") is not None


def test_a_part_of_another_encoder_in_the_wrong_folder_is_set_aside(tmp_path):
    filled(tmp_path, encoder="abc").flush()
    (part,) = parts(tmp_path)
    VectorCache(tmp_path, "def")
    part.rename(part.parent.parent / "def" / part.name)
    with pytest.warns(UserWarning, match="another encoder"):
        assert len(VectorCache(tmp_path, "def")) == 0


def test_a_part_that_disappears_is_only_forgotten(tmp_path):
    filled(tmp_path).flush()
    cache = VectorCache(tmp_path, "abc123")
    parts(tmp_path)[0].unlink()
    with pytest.warns(UserWarning, match="embedded again"):
        assert cache.get("digest0") is None


def test_files_that_are_no_parts_are_left_alone(tmp_path):
    filled(tmp_path).flush()
    stranger = parts(tmp_path)[0].parent / "notes.txt"
    stranger.write_text("mine")
    assert len(VectorCache(tmp_path, "abc123")) == 5
    assert stranger.read_text() == "mine"


def test_only_a_few_parts_are_held_in_memory(tmp_path):
    for i in range(5):
        filled(tmp_path, count=2, first=10 * i, seed=i).flush()
    cache = VectorCache(tmp_path, "abc123", parts_in_memory=2)
    for i in (0, 4, 1, 0, 3):
        assert np.array_equal(cache.get(f"digest{10 * i}"), vectors(2, seed=i)[0])
        assert len(cache._loaded) <= 2


def _embed_some(folder, number):
    for i in range(5):
        filled(folder, count=3, first=100 * number + 10 * i, seed=number).flush()


def test_processes_that_add_at_the_same_time_do_not_harm_each_other(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_embed_some, args=(tmp_path, number)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    cache = VectorCache(tmp_path, "abc123")
    assert len(cache) == 2 * 5 * 3
    for number in range(2):
        assert np.array_equal(cache.get(f"digest{100 * number + 41}"), vectors(3, seed=number)[1])
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_failed_flush_forgets_nothing(tmp_path, monkeypatch):
    cache = filled(tmp_path)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(pq, "write_table", full)
        with pytest.raises(CaptionlessError, match="No space left"):
            cache.flush()
    assert parts(tmp_path) == []
    cache.flush()
    assert len(VectorCache(tmp_path, "abc123")) == 5


@pytest.mark.parametrize("vector", [[1.0, float("nan")], [[1.0]], 3.0])
def test_only_finite_vectors_are_taken(tmp_path, vector):
    with pytest.raises(ValueError, match=r"a\.jpg"):
        VectorCache(tmp_path, "abc").add("d", "a.jpg", vector)


@pytest.mark.parametrize("digest", ["", "../up", ".hidden", "a/b"])
def test_a_digest_never_leads_out_of_the_folder(tmp_path, digest):
    with pytest.raises(ValueError, match="no digest"):
        VectorCache(tmp_path, digest)


def test_a_cache_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CaptionlessError, match="CAPTIONLESS_CACHE"):
        VectorCache(tmp_path / "file", "abc")


def test_the_cache_is_where_the_environment_says_else_with_the_users_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPTIONLESS_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("CAPTIONLESS_CACHE")
    assert cache_folder().name == "captionless"
