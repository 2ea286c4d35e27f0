"""The contract of captionless.encoders.choice: the encoder that ``auto`` takes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from captionless.encoders import hub as encoder_files
from captionless.encoders.choice import choose_encoder, in_domain_score, outside_domain
from captionless.encoders.dual_encoder import load_encoder
from captionless.encoders.hub import BUNDLED, CLIP
from captionless.errors import CaptionlessError
from encoder_factory import copy, pictures, small_clip, small_pair
from fake_hub import FakeHub, fake_hub
from progress_cases import Recorded

FLOWERS = Path(__file__).parents[2] / "examples" / "flowers"

KNOWN = [image.crop((0, 0, 40, 40)) for image in pictures(6, seed=1)]
UNKNOWN = [Image.new("RGB", (40, 40), (30 * shade, 20, 200)) for shade in range(5)]


@pytest.fixture(scope="module")
def pair_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder that knows noise and nothing else."""
    folder = small_pair(tmp_path_factory.mktemp("pair"))
    encoder = load_encoder(str(folder))
    known = encoder.encode_images(KNOWN)
    write_domain(folder, known, neighbours=1, threshold=0)
    threshold = (1 + in_domain_score(encoder, UNKNOWN)[0]) / 2
    write_domain(folder, known, neighbours=1, threshold=threshold)
    return folder


def saved(images: Sequence[Image.Image], folder: Path) -> Path:
    folder.mkdir()
    for number, image in enumerate(images):
        image.save(folder / f"{number}.png")
    return folder


@dataclass(frozen=True)
class Vectors:
    """An encoder whose images are their own vectors."""

    folder: Path

    def encode_images(self, vectors: torch.Tensor) -> torch.Tensor:
        return vectors


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


def test_an_image_is_scored_by_its_mean_cosine_to_the_nearest_references(tmp_path: Path) -> None:
    write_domain(tmp_path, torch.eye(3), neighbours=2, threshold=0.5)
    found = in_domain_score(Vectors(tmp_path), torch.tensor([[0.6, 0.8, 0.0]]))  # type: ignore[arg-type]
    assert found == (pytest.approx(0.7), 0.5)


def test_images_are_scored_by_the_median_of_their_scores(tmp_path: Path) -> None:
    write_domain(tmp_path, torch.eye(2), neighbours=1, threshold=0.5)
    one, stray = torch.tensor([1.0, 0.0]), torch.tensor([-0.6, -0.8])
    assert in_domain_score(Vectors(tmp_path), torch.stack([one, one, stray]))[0] == 1.0  # type: ignore[arg-type]


def test_images_an_encoder_was_taught_on_score_one(pair_folder: Path) -> None:
    encoder = load_encoder(str(pair_folder))
    assert in_domain_score(encoder, KNOWN)[0] == pytest.approx(1, abs=1e-3)
    score, threshold = in_domain_score(encoder, UNKNOWN)
    assert score < threshold


def test_only_images_outside_the_domain_are_remarked_on(pair_folder: Path, tmp_path: Path) -> None:
    encoder, without = load_encoder(str(pair_folder)), load_encoder(str(small_pair(tmp_path / "pair")))
    known, unknown = encoder.encode_images(KNOWN), encoder.encode_images(UNKNOWN)
    assert outside_domain(encoder, known) == ""
    assert "unlike those that the encoder" in outside_domain(encoder, unknown)
    assert outside_domain(without, unknown) == ""  # this encoder does not say what it knows


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


def test_auto_takes_the_bundled_encoder_where_it_knows_the_images(bundled: Path, tmp_path: Path) -> None:
    encoder, reason = choose_encoder("auto", saved(KNOWN, tmp_path / "photos"))
    assert encoder.name == BUNDLED
    assert reason.startswith("bundled, because the images are in its domain (score 1.00, threshold 0.")


@pytest.mark.usefixtures("bundled")
def test_auto_takes_a_clip_in_the_local_cache_for_other_images(hub: FakeHub, tmp_path: Path) -> None:
    load_encoder(CLIP, progress=Recorded())  # downloads it
    fetched = len(hub.fetched)
    encoder, reason = choose_encoder("auto", saved(UNKNOWN, tmp_path / "photos"))
    assert encoder.name == CLIP
    assert reason.startswith(f"{CLIP}, because the images are outside the domain of the bundled encoder (score")
    assert len(hub.fetched) == fetched


@pytest.mark.usefixtures("bundled")
def test_auto_downloads_nothing(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(CaptionlessError, match=r"not in the local cache.*download CLIP \(605 MB\)"):
        choose_encoder("auto", saved(UNKNOWN, tmp_path / "photos"))
    assert not hub.fetched


def test_auto_needs_an_image(tmp_path: Path) -> None:
    with pytest.raises(CaptionlessError, match="no usable image"):
        choose_encoder("auto", tmp_path)


def test_an_encoder_that_was_asked_for_is_taken_whatever_the_images_show(pair_folder: Path, tmp_path: Path) -> None:
    encoder, reason = choose_encoder(str(pair_folder), tmp_path)
    assert encoder.name == str(pair_folder)
    assert reason == f"{pair_folder}, as requested"


# --- the bundled encoder itself ---


@pytest.mark.parametrize("kind", ["daisy", "dandelion", "rose", "sunflower", "tulip"])
def test_the_bundled_encoder_knows_each_kind_of_flower(kind: str) -> None:
    photographs = [Image.open(path) for path in sorted((FLOWERS / kind).glob("*.jpg"))[:8]]
    score, threshold = in_domain_score(load_encoder(BUNDLED), photographs)
    assert score >= threshold


@pytest.mark.slow
def test_the_bundled_encoder_does_not_claim_other_images() -> None:
    """Every picture that scikit-image ships: a face, a cat, a rocket, coins, pages, textures, the moon ..."""
    from skimage import data

    encoder = load_encoder(BUNDLED)
    paths = sorted(path for path in Path(data.data_dir).iterdir() if path.suffix in (".png", ".jpg", ".gif"))
    assert len(paths) >= 20
    for path in paths:
        score, threshold = in_domain_score(encoder, [Image.open(path)])
        assert score < threshold, path.name
