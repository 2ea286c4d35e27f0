"""The contract of captionless.data.summary: what kind of images a folder holds."""

from __future__ import annotations

from pathlib import Path

import pytest

import image_zoo as zoo
from captionless.data.images import ImageFile
from captionless.data.summary import FolderFacts, image_remarks, sample_facts
from captionless.errors import CaptionlessError


def test_a_sample_tells_size_transparency_and_pixel_art(tmp_path: Path) -> None:
    zoo.fill(tmp_path, 3)
    sprite = zoo.plain(size=(16, 16)).convert("RGBA")
    sprite.putpixel((0, 0), (0, 0, 0, 0))
    sprite.save(tmp_path / "sprite.png")
    (tmp_path / "notes.txt").touch()
    assert sample_facts(tmp_path) == FolderFacts(images=4, shorter_side=20, transparent=0.25, pixel_art=0.25)
    assert sample_facts(tmp_path, 2).images == 2


def test_a_folder_without_images_has_no_facts(tmp_path: Path) -> None:
    with pytest.raises(CaptionlessError, match="the folder is empty"):
        sample_facts(tmp_path)


def test_photographs_that_are_large_enough_need_no_remark() -> None:
    photograph = ImageFile("a.jpg", "0" * 64, 64, 90)
    assert image_remarks([photograph], 64, "white") == []
    assert image_remarks([photograph], 68, "white") == ["1 image is smaller than 68 px, enlarged smoothly."]
