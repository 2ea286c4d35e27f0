"""The contract of captionless.encoders.hub: what is found, what is fetched, and what is refused in one line."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from captionless.encoders.dual_encoder import load_encoder
from captionless.encoders.hub import CLIP, PINNED, find_encoder_folder
from captionless.errors import CaptionlessError
from encoder_factory import copy, edit_json, edit_weights, small_bert, small_clip
from fake_hub import FakeHub, fake_hub
from progress_cases import Recorded

NAME = "somebody/some-clip"
NEEDED = ["config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"]


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def repository(clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The encoder as repositories hold it: beside what must not be fetched."""
    folder = copy(clip_folder, tmp_path_factory.mktemp("repository") / "files")
    for name in ("pytorch_model.bin", "tf_model.h5", "model.fp16.safetensors", "modeling.py", "README.md"):
        (folder / name).write_bytes(b"not wanted")
    return folder


@pytest.fixture(scope="module")
def pickled(clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy(clip_folder, tmp_path_factory.mktemp("pickled") / "files")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, repository: Path) -> Iterator[FakeHub]:
    with fake_hub(monkeypatch, tmp_path / "cache", {NAME: {"main": repository}}) as running:
        yield running


def bug(*_: object) -> None:
    raise KeyError("nobody thought of it")


def refusal(name: str | Path) -> str:
    """Load an encoder that must be refused; return the one line that a person reads."""
    with pytest.raises(CaptionlessError) as caught:
        load_encoder(str(name))
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- the hub ---


def test_a_hub_id_is_announced_with_its_size_and_only_what_is_needed_is_fetched(
    hub: FakeHub, repository: Path, clip_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    progress = Recorded()
    encoder = load_encoder(NAME, progress=progress)
    size = sum((repository / file).stat().st_size for file in NEEDED) / 1e6
    assert len(progress.said) == 1
    assert f"Downloading the encoder {NAME} ({size:.0f} MB)" in progress.said[0]
    assert sorted(hub.fetched) == NEEDED
    assert encoder.name == NAME
    assert encoder.digest == load_encoder(str(clip_folder)).digest
    assert capfd.readouterr() == ("", "")


def test_what_is_in_the_local_cache_needs_no_hub_and_no_announcement(hub: FakeHub) -> None:
    first = load_encoder(NAME)
    hub.models.clear()
    hub.fetched.clear()
    progress = Recorded()
    assert load_encoder(NAME, progress=progress).digest == first.digest
    assert not progress.said
    assert not hub.fetched


def test_an_interrupted_download_is_completed(hub: FakeHub) -> None:
    snapshot = find_encoder_folder(NAME)
    (snapshot / "model.safetensors").resolve().unlink()
    (snapshot / "model.safetensors").unlink()
    hub.fetched.clear()
    load_encoder(NAME)
    assert hub.fetched == ["model.safetensors"]


def test_clip_comes_from_the_commit_that_holds_safetensors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, repository: Path, pickled: Path
) -> None:
    revisions = {"main": pickled, PINNED[CLIP]: repository}
    with fake_hub(monkeypatch, tmp_path / "cache", {CLIP: revisions}):
        assert find_encoder_folder(CLIP).name == PINNED[CLIP]
    assert find_encoder_folder(CLIP).name == PINNED[CLIP]  # now without the hub


def test_a_model_without_safetensors_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pickled: Path) -> None:
    with fake_hub(monkeypatch, tmp_path / "cache", {NAME: {"main": pickled}}) as hub:
        assert "has no safetensors weights on the model hub" in refusal(NAME)
        assert not hub.fetched


def test_a_model_that_the_hub_has_not_is_refused(hub: FakeHub) -> None:
    assert "there is no encoder nobody/nothing" in refusal("nobody/nothing")


@pytest.mark.parametrize("how", ["offline mode", "refused", "silent"])
def test_where_the_hub_is_out_of_reach_one_sentence_says_two_ways_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    with fake_hub(monkeypatch, tmp_path / "cache", {}), socket.create_server(("127.0.0.1", 0)) as silent:
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", how == "offline mode")
        port = silent.getsockname()[1] if how == "silent" else 1
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        with pytest.raises(CaptionlessError) as caught:
            find_encoder_folder(CLIP, timeout=0.2)
        message = str(caught.value)
    assert CLIP in message
    assert "cannot be downloaded from the Hugging Face Hub (" in message
    assert "`encoder=FOLDER`" in message
    assert "`encoder=bundled`" in message


def test_a_full_disk_is_named(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("huggingface_hub.snapshot_download", full)
    assert "(No space left on device)" in refusal(NAME)


def test_a_bug_of_our_own_is_no_failure_of_the_hub(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    progress = Recorded()
    monkeypatch.setattr(progress, "say", bug)
    with pytest.raises(KeyError, match="nobody thought of it"):
        load_encoder(NAME, progress=progress)


# --- folders and names ---


@pytest.mark.parametrize(
    "place", ["loading.check_files", "dual_encoder.load_tokenizer", "text_side.TransformersText.limit"]
)
def test_a_bug_of_our_own_is_no_damage_to_an_encoder(
    clip_folder: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(f"captionless.encoders.{place}", property(bug) if place.endswith("limit") else bug)
    with pytest.raises(KeyError, match="nobody thought of it"):
        load_encoder(str(clip_folder))


def test_a_bug_of_our_own_in_a_digest_is_no_damage_to_an_encoder(
    clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder(str(clip_folder))
    monkeypatch.setattr("captionless.encoders.digest._image_steps", bug)
    with pytest.raises(KeyError, match="nobody thought of it"):
        _ = encoder.digest


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("tokenizer.json", {"normalizer": {"type": "Sequence", "normalizers": 3}}),
        ("tokenizer_config.json", {"model_max_length": "many"}),
        ("preprocessor_config.json", {"image_mean": "grey"}),
        ("config.json", {"text_config": 7}),
        ("config.json", {"vision_config": None, "text_config": [1]}),
    ],
)
def test_settings_of_the_wrong_type_are_one_clear_line(
    clip_folder: Path, tmp_path: Path, file: str, changes: dict[str, object]
) -> None:
    other = copy(clip_folder, tmp_path / "other")
    edit_json(other / file, **changes)
    assert "cannot be loaded" in refusal(other)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", ["[]", "3", "\ud800", "[" * 20_000 + "]" * 20_000])
def test_settings_that_are_no_object_are_one_clear_line(
    clip_folder: Path, tmp_path: Path, file: str, content: str
) -> None:
    other = copy(clip_folder, tmp_path / "other")
    (other / file).write_bytes(content.encode("utf-8", "surrogatepass"))
    assert "cannot be loaded" in refusal(other)


@pytest.mark.parametrize("name", ["", " ", "clpi", "./clip", "a/b/c", "http://some/where"])
def test_a_name_that_is_no_encoders_is_refused(name: str) -> None:
    assert "neither a folder nor a hub id. Use the hub id of a transformers dual encoder" in refusal(name)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_a_name_that_cannot_be_a_path_either_is_refused(name: str) -> None:
    assert "cannot use the path" in refusal(name)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    assert "there is no encoder" in refusal(tmp_path / "nowhere")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert "it has no config.json" in refusal(tmp_path)


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    assert "is a file, not a folder" in refusal(tmp_path / "model.safetensors")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a home folder")
def test_a_home_folder_may_be_written_with_a_tilde(clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(clip_folder.parent))
    assert find_encoder_folder(f"~/{clip_folder.name}") == clip_folder


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    assert "not a dual encoder but a model of type 'bert'" in refusal(small_bert(tmp_path))


def test_a_folder_of_something_else_is_refused(clip_folder: Path, tmp_path: Path) -> None:
    foreign = copy(clip_folder, tmp_path / "foreign")
    (foreign / "config.json").write_text('{"format": "captionless", "size": 64}')
    assert "cannot be loaded" in refusal(foreign)


def test_pickled_weights_are_never_read(pickled: Path) -> None:
    assert "it has no model.safetensors (other weight formats are not supported)" in refusal(pickled)


def test_code_in_a_folder_is_never_run(clip_folder: Path, tmp_path: Path) -> None:
    tricky = copy(clip_folder, tmp_path / "tricky")
    (tricky / "evil.py").write_text("raise SystemExit('ran')")
    edit_json(tricky / "config.json", model_type="evil", auto_map={"AutoConfig": "evil.C", "AutoModel": "evil.M"})
    assert "cannot be loaded" in refusal(tricky)


def test_weights_that_are_not_whole_are_refused(clip_folder: Path, tmp_path: Path) -> None:
    partial = copy(clip_folder, tmp_path / "partial")
    edit_weights(partial, lambda tensors: tensors.pop("text_projection.weight"))
    assert "1 tensors are missing from its weights, such as text_projection.weight" in refusal(partial)


@pytest.mark.parametrize("file", NEEDED[:-1])
def test_a_damaged_file_is_one_clear_line(clip_folder: Path, tmp_path: Path, file: str) -> None:
    damaged = copy(clip_folder, tmp_path / "damaged")
    content = (damaged / file).read_bytes()
    (damaged / file).write_bytes(content[: len(content) // 2])
    told = [f"the encoder {damaged} in {damaged} cannot be loaded", f"{damaged / file} is damaged"]
    assert any(text in refusal(damaged) for text in told)


def test_a_damaged_or_incomplete_list_of_shards_is_refused(clip_folder: Path, tmp_path: Path) -> None:
    sharded = copy(clip_folder, tmp_path / "sharded")
    (sharded / "model.safetensors").rename(sharded / "model-00001-of-00002.safetensors")
    index = sharded / "model.safetensors.index.json"
    index.write_text(
        '{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    )
    assert "it has no model-00002-of-00002.safetensors" in refusal(sharded)
    index.write_text("{")
    assert "index.json is damaged" in refusal(sharded)


@pytest.mark.parametrize("file", ["tokenizer.json", "preprocessor_config.json"])
def test_a_folder_without_tokenizer_or_image_preparation_is_refused(
    clip_folder: Path, tmp_path: Path, file: str
) -> None:
    partial = copy(clip_folder, tmp_path / "partial")
    (partial / file).unlink()
    assert f"it has no {file}" in refusal(partial)
