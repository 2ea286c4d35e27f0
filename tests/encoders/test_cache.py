import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captionless.data import parts as parts_module
from captionless.encoders.cache import VectorCache, cache_folder


def vectors(count, width=4, seed=0):
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def filled(folder, count=5, encoder="abc123", seed=0, first=0):
    cache = VectorCache(folder, encoder)
    for i, vector in enumerate(vectors(count, seed=seed), start=first):
        cache.add(f"digest{i}", vector)
    return cache


def parts(folder):
    return sorted(folder.rglob("part-*.safetensors"))


def test_what_was_added_is_there_at_once_and_after_a_flush_for_everyone(tmp_path):
    cache = filled(tmp_path)
    assert np.array_equal(cache.get("digest2"), vectors(5)[2])
    assert VectorCache(tmp_path, "abc123").get("digest2") is None
    cache.flush()
    for other in (cache, VectorCache(tmp_path, "abc123")):
        assert len(other) == 5
        assert all(np.array_equal(other.get(f"digest{i}"), vectors(5)[i]) for i in range(5))


def test_an_unknown_image_has_no_vector(tmp_path):
    assert filled(tmp_path).get("other") is None


@settings(max_examples=25)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=9))
def test_every_bit_of_a_vector_survives(tmp_path_factory, numbers):
    folder = tmp_path_factory.mktemp("cache")
    cache = VectorCache(folder, "abc")
    cache.add("d", numbers)
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


def test_encoders_do_not_see_each_others_vectors(tmp_path):
    filled(tmp_path, encoder="abc").flush()
    assert len(VectorCache(tmp_path, "def")) == 0


@pytest.mark.parametrize("kept", [0, 7, -100], ids=["emptied", "a few bytes", "truncated"])
def test_a_damaged_part_is_left_out_with_a_warning_and_the_rest_stays(tmp_path, kept):
    filled(tmp_path).flush()
    filled(tmp_path, first=1000).flush()
    part = parts(tmp_path)[0]
    part.write_bytes(part.read_bytes()[:kept])
    with pytest.warns(UserWarning, match=f"damaged, .*{part.name}"):
        cache = VectorCache(tmp_path, "abc123")
    assert cache.get("digest3") is None
    assert np.array_equal(cache.get("digest1003"), vectors(5)[3])
    cache.add("digest3", vectors(1)[0])
    cache.flush()
    assert cache.get("digest3") is not None


def test_files_that_are_no_parts_are_left_alone(tmp_path):
    filled(tmp_path).flush()
    stranger = parts(tmp_path)[0].parent / "notes.txt"
    stranger.write_text("mine")
    assert len(VectorCache(tmp_path, "abc123")) == 5
    assert stranger.read_text() == "mine"


ADDS_SOME = """
import sys
from pathlib import Path
import numpy as np
from captionless.data.parts import Parts  # without PyTorch, so that the process starts soon
number = int(sys.argv[2])
for i in range(5):
    cache = Parts(Path(sys.argv[1]), "vectors")
    for j, vector in enumerate(np.random.default_rng(number).normal(size=(3, 4)).astype(np.float32)):
        cache.add(f"digest{100 * number + 10 * i + j}", vector)
    cache.flush()
"""


def test_processes_that_add_at_the_same_time_do_not_harm_each_other(tmp_path):
    cache = VectorCache(tmp_path, "abc123")
    command = [sys.executable, "-c", ADDS_SOME, str(cache.folder)]
    processes = [subprocess.Popen([*command, str(number)]) for number in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
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
        patched.setattr(parts_module, "save_file", full)
        with pytest.warns(UserWarning, match=r"No space left.*CAPTIONLESS_CACHE"):
            cache.flush()
    assert parts(tmp_path) == []
    cache.flush()
    assert len(VectorCache(tmp_path, "abc123")) == 5


def test_where_no_cache_folder_can_be_made_vectors_stay_in_memory_with_one_remark(tmp_path):
    (tmp_path / "file").touch()
    cache = filled(tmp_path / "file")
    with pytest.warns(UserWarning, match=r"Not a directory.*in memory.*CAPTIONLESS_CACHE") as said:
        cache.flush()
    cache.add("another", vectors(1)[0])
    cache.flush()
    assert len(said) == 1
    assert len(cache) == 6
    assert np.array_equal(cache.get("digest4"), vectors(5)[4])


def test_the_cache_is_where_the_environment_says_else_with_the_users_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPTIONLESS_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("CAPTIONLESS_CACHE")
    assert cache_folder().name == "captionless"


def test_without_a_home_no_folder_is_made_in_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CAPTIONLESS_CACHE", raising=False)
    monkeypatch.setattr("os.path.expanduser", str)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: Path("~/.cache", name))
    cache = VectorCache(cache_folder(), "abc123")
    cache.add("one", vectors(1)[0])
    with pytest.warns(UserWarning, match="CAPTIONLESS_CACHE"):
        cache.flush()
    assert len(cache) == 1
    assert list(tmp_path.iterdir()) == []
