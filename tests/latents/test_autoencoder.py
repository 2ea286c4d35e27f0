"""The contract of latents.autoencoder: what is loaded, what is refused, and that batches and tiles change nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import latent_cases
import tiny
from captionless.errors import CaptionlessError
from captionless.latents import autoencoder as module
from captionless.latents.autoencoder import CONFIG, WEIGHTS, copy_autoencoder, load_autoencoder
from fake_hub import fake_hub


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return latent_cases.autoencoder(tmp_path_factory.mktemp("small"), **latent_cases.SMALL)


def test_channels_and_factor_are_those_of_the_network(small: Path) -> None:
    found = load_autoencoder(small)
    assert (found.image_channels, found.channels, found.factor, found.name) == (3, 4, 2, str(small.absolute()))
    assert load_autoencoder(small) is found
    assert load_autoencoder(small / ".." / small.name).name == str(small)


def test_a_card_that_is_a_link_to_elsewhere_is_not_copied(small: Path, tmp_path: Path) -> None:
    copy_autoencoder(small, tmp_path / "own")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "own" / "README.md").symlink_to(tmp_path / "secret")
    with pytest.warns(UserWarning, match="leads out of its folder"):
        copy_autoencoder(tmp_path / "own", tmp_path / "copy")
    assert not (tmp_path / "copy" / "README.md").exists()


def test_the_digest_is_that_of_weights_and_config_wherever_they_are(small: Path, tmp_path: Path) -> None:
    digest = load_autoencoder(small).digest
    copy_autoencoder(small, tmp_path / "copy")
    assert (tmp_path / "copy" / "LICENSE.md").read_text() == "MIT"
    assert load_autoencoder(tmp_path / "copy").digest == digest
    assert load_autoencoder(latent_cases.autoencoder(tmp_path / "b", 1, **latent_cases.SMALL)).digest != digest
    config = json.loads((small / CONFIG).read_text()) | {"act_fn": "silu"}
    (tmp_path / "copy" / CONFIG).write_text(json.dumps(config))
    assert load_autoencoder(tmp_path / "copy").digest != digest


def test_images_are_encoded_and_decoded_in_batches(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, images = load_autoencoder(small), tiny.random(5, 3, 16, 16).clamp(-1, 1)
    latents = found.encode(images)
    decoded = found.decode(latents)
    assert (latents.shape, decoded.shape) == ((5, 4, 8, 8), images.shape)
    calls: list[int] = []
    encoder = found.network.encoder.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    decoder = found.network.decoder.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    monkeypatch.setattr(module, "PIXELS", 2 * 16 * 16)
    assert torch.allclose(found.encode(images), latents, atol=1e-5)
    assert torch.allclose(found.decode(latents), decoded, atol=1e-5)
    assert calls == [2, 2, 1] * 2
    encoder.remove()
    decoder.remove()


def test_a_large_image_is_decoded_in_tiles_without_seams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder of TAESD, with fewer channels, looks as far as TAESD."""
    narrow = {"encoder_block_out_channels": (4,) * 4, "decoder_block_out_channels": (4,) * 4}
    found = load_autoencoder(latent_cases.autoencoder(tmp_path, **narrow))
    latents = tiny.random(2, 4, 66, 40)
    whole = found.decode(latents)
    sizes: list[Any] = []
    hook = found.network.decoder.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[2:]))
    monkeypatch.setattr(module, "PIXELS", 1)
    monkeypatch.setattr(module, "TILE", 32)
    assert torch.allclose(found.decode(latents), whole, atol=1e-5)
    assert {tuple(size) for size in sizes} == {(y, x) for y in (56, 58, 26) for x in (40, 32)}
    hook.remove()


def test_without_diffusers_the_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = latent_cases.autoencoder(tmp_path, **latent_cases.SMALL)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(CaptionlessError, match=r"pip install 'captionless\[latents\]'"):
        load_autoencoder(folder)


def test_a_folder_without_an_autoencoder_is_refused(small: Path, tmp_path: Path) -> None:
    for name, content, problem in (
        (CONFIG, b'{"_class_name": "UNet2DModel"}', "is of class UNet2DModel, not AutoencoderTiny or AutoencoderKL"),
        (CONFIG, b"[]", r"config\.json is not a JSON object"),
        (WEIGHTS, b"damaged", "is damaged"),
        (WEIGHTS, None, f"incomplete: it has no {WEIGHTS}"),
    ):
        copy_autoencoder(small, folder := tmp_path / problem.split()[-1].strip("}"))
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_bytes(content)
        with pytest.raises(CaptionlessError, match=problem):
            load_autoencoder(folder)
    weights = load_file(small / WEIGHTS)
    del weights["decoder.layers.0.bias"]
    copy_autoencoder(small, folder := tmp_path / "part")
    save_file(weights, folder / WEIGHTS)
    with pytest.raises(CaptionlessError, match=r"the autoencoder .*part is incomplete: 1 tensors .*0\.bias\. Download"):
        load_autoencoder(folder)
    with pytest.raises(CaptionlessError, match=r"neither a folder nor a hub id\. Use the hub id of an autoencoder"):
        load_autoencoder("no such thing")


def test_an_autoencoder_kl_is_used_by_its_mode(tmp_path: Path) -> None:
    from diffusers import AutoencoderKL

    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        latent_channels=4,
    ).save_pretrained(tmp_path)
    found, images = load_autoencoder(tmp_path), tiny.random(2, 3, 16, 16)
    assert (found.channels, found.factor) == (4, 2)
    assert torch.equal(found.encode(images), found.encode(images))
    assert found.decode(found.encode(images)).shape == images.shape


def test_a_bug_of_our_own_is_no_damage_to_an_autoencoder(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object) -> None:
        raise KeyError("nobody thought of it")

    module._load.cache_clear()
    monkeypatch.setattr(module, "require_complete", bug)
    with pytest.raises(KeyError, match="nobody thought of it"):
        load_autoencoder(small)


def test_an_autoencoder_of_absurd_depth_is_refused_at_once(small: Path, tmp_path: Path) -> None:
    copy_autoencoder(small, tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(config | {"num_encoder_blocks": [1, 10**9]}))
    with pytest.raises(CaptionlessError, match=r"config\.json is damaged: num_encoder_blocks is 1,000,000,000"):
        load_autoencoder(tmp_path)


def test_of_a_repository_only_what_is_needed_is_fetched_and_its_licence(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_autoencoder(small, repository := tmp_path / "repository")
    for name in ("taesd_decoder.pth", "diffusion_pytorch_model.bin", "modeling.py"):
        (repository / name).write_bytes(b"not wanted")
    with fake_hub(monkeypatch, tmp_path / "cache", {"somebody/taesd": {"main": repository}}) as hub:
        found = load_autoencoder("somebody/taesd")
        assert sorted(name.rpartition("/")[2] for name in hub.fetched) == ["LICENSE.md", CONFIG, WEIGHTS]
    assert (found.name, found.digest) == ("somebody/taesd", load_autoencoder(small).digest)
    assert load_autoencoder("somebody/taesd").folder == found.folder  # without a network
