"""Fixtures of the tests of the command line."""

from pathlib import Path

import pytest

import encoder_factory


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_factory.small_pair(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, image in enumerate(encoder_factory.pictures(6)):
        image.save(folder / f"{i}.png")
    return folder
