"""The contract of captionless.encoders.domain and of ``--encoder auto``."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from captionless.encoders import hub as encoder_files
from captionless.encoders.domain import Domain, read_domain
from captionless.encoders.dual_encoder import choose_encoder, in_domain_score, load_encoder
from captionless.encoders.hub import BUNDLED, CLIP
from captionless.errors import CaptionlessError
from encoder_factory import copy, pictures, small_clip, small_pair
from fake_hub import FakeHub, fake_hub
from progress_cases import Recorded

FLOWERS = Path(__file__).parents[2] / "examples" / "flowers"

KNOWN = pictures(6, seed=1)
UNKNOWN = [Image.new("RGB", (40, 40), (30 * shade, 20, 200)) for shade in range(5)]


@pytest.fixture(scope="module")
def pair_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder that knows noise and nothing else."""
    folder = small_pair(tmp_path_factory.mktemp("pair"))
    encoder = load_encoder(str(folder))
    known, unknown = encoder.encode_images(KNOWN), encoder.encode_images(UNKNOWN)
    threshold = (1 + Domain(known, 1, 0).score(unknown)) / 2
    write_domain(folder, known, neighbours=1, threshold=threshold)
    return folder


@pytest.fixture
def bundled(pair_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let that encoder stand for the one that ships."""
    monkeypatch.setattr(encoder_files, "BUNDLED_FOLDER", pair_folder)
    return pair_folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    revisions = {encoder_files.PINNED[CLIP]: small_clip(tmp_path / "clip")}
    with fake_hub(monkeypatch, tmp_path / "cache", {CLIP: revisions}) as running:
        yield running


def write_domain(folder: Path, vectors: torch.Tensor, **about: object) -> None:
    metadata = {key: str(value) for key, value in about.items()}
    save_file({"reference": vectors.half()}, folder / "domain.safetensors", metadata)


# --- the score ---


def test_an_image_is_scored_by_its_mean_cosine_to_the_nearest_references() -> None:
    domain = Domain(torch.eye(3), neighbours=2, threshold=0.5)
    assert domain.score(torch.tensor([[0.6, 0.8, 0.0]])) == pytest.approx(0.7)


def test_a_folder_is_scored_by_the_median_of_its_images() -> None:
    domain = Domain(torch.eye(2), neighbours=1, threshold=0.5)
    one, stray = torch.tensor([1.0, 0.0]), torch.tensor([-0.6, -0.8])
    assert domain.score(torch.stack([one, one, stray])) == 1.0


def test_images_an_encoder_was_taught_on_score_one(pair_folder: Path) -> None:
    encoder = load_encoder(str(pair_folder))
    assert in_domain_score(encoder, KNOWN) == pytest.approx(1, abs=1e-3)
    assert in_domain_score(encoder, UNKNOWN) < read_domain(pair_folder).threshold


@pytest.mark.parametrize("damage", ["missing", "empty", "no threshold"])
def test_an_encoder_that_does_not_say_what_it_knows_is_refused(pair_folder: Path, tmp_path: Path, damage: str) -> None:
    folder = copy(pair_folder, tmp_path / "pair")
    (folder / "domain.safetensors").unlink()
    if damage == "empty":
        (folder / "domain.safetensors").touch()
    elif damage == "no threshold":
        write_domain(folder, torch.eye(24), neighbours=1)
    with pytest.raises(CaptionlessError, match=r"domain cannot be read from .*domain"):
        in_domain_score(load_encoder(str(folder)), KNOWN)


# --- the choice ---


def test_auto_takes_the_bundled_encoder_where_it_knows_the_images(bundled: Path) -> None:
    encoder, reason = choose_encoder("auto", KNOWN)
    threshold = read_domain(bundled).threshold
    assert encoder.name == BUNDLED
    assert reason.startswith("bundled, because the images are in its domain")
    assert f"score 1.00, threshold {threshold:.2f}" in reason


@pytest.mark.usefixtures("bundled", "hub")
def test_auto_takes_clip_for_other_images_and_announces_the_download() -> None:
    progress = Recorded()
    encoder, reason = choose_encoder("auto", UNKNOWN, progress=progress)
    assert encoder.name == CLIP
    assert reason.startswith(f"{CLIP}, because the images are outside the domain of the bundled encoder")
    assert "threshold" in reason
    assert f"Downloading the encoder {CLIP}: " in progress.said[0]


@pytest.mark.usefixtures("bundled")
def test_auto_says_why_it_wants_a_clip_that_cannot_be_had(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CaptionlessError) as caught:
        choose_encoder("auto", UNKNOWN)
    message = str(caught.value)
    assert "the images are outside the domain of the bundled encoder (score" in message
    assert "the model hub cannot be reached" in message
    assert not hub.fetched


def test_auto_needs_an_image() -> None:
    with pytest.raises(CaptionlessError, match="an encoder cannot be chosen automatically"):
        choose_encoder("auto", [])


def test_an_encoder_that_was_asked_for_is_taken_whatever_the_images_show(pair_folder: Path) -> None:
    encoder, reason = choose_encoder(str(pair_folder), [])
    assert encoder.name == str(pair_folder)
    assert reason == f"{pair_folder}, as requested"


# --- the bundled encoder itself ---


def test_auto_takes_the_bundled_encoder_for_flower_photographs() -> None:
    photographs = sorted(FLOWERS.rglob("*.jpg"))[::5]
    assert len(photographs) >= 25
    encoder, reason = choose_encoder("auto", [Image.open(path) for path in photographs])
    assert encoder.name == BUNDLED, reason


def test_the_bundled_encoder_knows_each_kind_of_flower() -> None:
    encoder = load_encoder(BUNDLED)
    threshold = read_domain(encoder.folder).threshold
    for kind in ("daisy", "dandelion", "rose", "sunflower", "tulip"):
        photographs = [Image.open(path) for path in sorted((FLOWERS / kind).glob("*.jpg"))[:8]]
        assert in_domain_score(encoder, photographs) >= threshold, kind


@pytest.mark.slow
def test_the_bundled_encoder_does_not_claim_other_images() -> None:
    """Every picture that scikit-image ships: a face, a cat, a rocket, coins, pages, textures, the moon ..."""
    from skimage import data

    encoder = load_encoder(BUNDLED)
    threshold = read_domain(encoder.folder).threshold
    paths = sorted(path for path in Path(data.data_dir).iterdir() if path.suffix in (".png", ".jpg", ".gif"))
    assert len(paths) >= 20
    scores = {path.name: in_domain_score(encoder, [Image.open(path)]) for path in paths}
    assert {name: score for name, score in scores.items() if score >= threshold} == {}
