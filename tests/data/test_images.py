import csv
import hashlib
import io
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import image_zoo as zoo
from captionless.data.folder import find_images
from captionless.data.images import (
    Decoding,
    ImageFile,
    SkippedFile,
    is_held_out,
    read_images,
    sample_images,
    write_images_report,
)
from captionless.errors import CaptionlessError
from image_zoo import encoded

DIGESTS = st.binary(max_size=8).map(lambda data: hashlib.sha256(data).hexdigest())
SHARES = st.floats(0, 1)


@pytest.fixture
def folder(tmp_path):
    """Good and bad files side by side."""
    files = {
        "Gänseblümchen 花.JPG": encoded(zoo.plain(), "JPEG"),
        "CREDITS.csv": b"file,photographer\n",
        "Thumbs.db": b"\xd0\xcf\x11\xe0",
        "animation.gif": encoded(zoo.plain(), "GIF"),
        "bomb.png": zoo.bomb(),
        "broken.tif": zoo.broken_tiff(),
        "copy/alpha again.png": encoded(zoo.sprite(), "PNG"),
        "copy/alpha.png": encoded(zoo.sprite(), "PNG"),
        "cut.jpg": encoded(zoo.noise(), "JPEG")[:900],
        "deep/down/ink.jpeg": encoded(Image.new("CMYK", (9, 9), (0, 255, 255, 0)), "JPEG"),
        "diary.jpg": b"Dear diary",
        "empty.webp": b"",
        "notes": b"Dear diary",
        "phone.HEIC": b"\0\0\0\x18ftypheic",
        "shout.tif": zoo.shouting_tiff(),
        "wrong suffix.png": encoded(zoo.plain(), "BMP"),
    }
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


USABLE = {
    "Gänseblümchen 花.JPG",
    "animation.gif",
    "copy/alpha again.png",
    "copy/alpha.png",
    "deep/down/ink.jpeg",
    "shout.tif",
    "wrong suffix.png",
}
REASONS = {
    "CREDITS.csv": "not an image",
    "Thumbs.db": "not an image",
    "bomb.png": "too large: more than 100,000,000 pixels",
    "broken.tif": "damaged: decoder error -2",
    "cut.jpg": "truncated: the end of the file is missing",
    "diary.jpg": "not an image",
    "empty.webp": "empty file",
    "notes": "not an image",
    "phone.HEIC": "damaged: Invalid input: Unspecified: File size too small.",
}


@pytest.mark.parametrize("workers", [1, 2])
def test_every_file_is_either_an_image_or_skipped_with_its_reason(folder, workers, capfd):
    found = list(read_images(folder, Decoding(side=8, full=100), workers=workers))
    assert [one.name for one in found] == [path.relative_to(folder).as_posix() for path in find_images(folder)]
    assert {one.name for one in found if isinstance(one, ImageFile)} == USABLE
    assert {one.name: one.reason for one in found if isinstance(one, SkippedFile)} == REASONS
    for one in found:
        if isinstance(one, ImageFile):
            assert one.digest == hashlib.sha256((folder / one.name).read_bytes()).hexdigest()
            assert min(one.whole.shape[:2]) == 8
            assert one.whole.dtype == one.full.dtype == np.uint8
            assert one.full.shape[0] == one.full.shape[1] == min(one.width, one.height, 100)
    # What the decoders shout (libtiff most of all) is a note, and the terminal stays quiet.
    notes = {one.name: one.notes for one in found if one.notes}
    assert notes.keys() == {"broken.tif", "shout.tif"}
    assert any("ZIPDecode" in note for note in notes["broken.tif"])
    assert any("JPEGLib" in note for note in notes["shout.tif"])
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_the_pixels_are_those_of_the_image(folder):
    found = {one.name: one for one in read_images(folder, Decoding(side=6)) if isinstance(one, ImageFile)}
    for name, color in {
        "wrong suffix.png": zoo.RED,
        "deep/down/ink.jpeg": (255, 0, 0),
    }.items():
        assert np.abs(found[name].whole.astype(int) - color).max() <= 6


def test_the_full_square_is_reduced_only_when_it_is_larger_than_asked_for(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(zoo.noise(30), "PNG"))
    assert [one.full.shape for one in read_images(tmp_path, Decoding(full=64))] == [(30, 30, 3)]
    assert [one.full.shape for one in read_images(tmp_path, Decoding(full=16))] == [(16, 16, 3)]


def test_an_image_that_cannot_be_opened_is_skipped_with_the_systems_reason(tmp_path):
    zoo.fill(tmp_path, 1)
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "never.jpg")
    reasons = [one.reason for one in read_images(tmp_path) if isinstance(one, SkippedFile)]
    assert reasons == ["cannot be read: No such file or directory"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the system's root may read everything")
def test_an_image_without_permission_is_skipped(tmp_path):
    zoo.fill(tmp_path, 2)
    (tmp_path / "000.png").chmod(0)
    assert [one.reason for one in read_images(tmp_path) if isinstance(one, SkippedFile)] == [
        "cannot be read: Permission denied"
    ]


def test_a_folder_without_usable_images_is_an_error_that_says_how_many_and_why(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "b.txt").write_text("x")
    (tmp_path / "c.jpg").touch()
    with pytest.raises(CaptionlessError) as caught:
        list(read_images(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert "all 3 files were skipped (not an image: 2, empty file: 1)" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(CaptionlessError, match="the folder is empty"):
        list(read_images(tmp_path))


def test_a_wrong_folder_is_an_error_at_once(tmp_path):
    with pytest.raises(CaptionlessError, match="no folder"):
        read_images(tmp_path / "nowhere")


def test_reading_images_needs_neither_torch_nor_transformers():
    code = "import sys, captionless.data; print({'torch', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_a_sample_is_small_varied_and_always_the_same(tmp_path):
    zoo.fill(tmp_path / "a", 10)
    zoo.fill(tmp_path / "b", 10)
    (tmp_path / "b" / "notes.txt").touch()
    first, second = sample_images(tmp_path, 6), sample_images(tmp_path, 6)
    assert [image.size for image in first] == [(20, 20)] * 6
    assert [image.tobytes() for image in first] == [image.tobytes() for image in second]
    assert len(sample_images(tmp_path, 100)) == 20


def test_the_example_folder_is_read_without_alarm():
    examples = Path(__file__).parents[2] / "examples" / "flowers"
    files = find_images(examples)
    found = list(read_images(examples, files=[file for file in files if file.parent == examples] + files[-5:]))
    assert [one.reason for one in found if isinstance(one, SkippedFile)] == ["not an image"] * 2
    assert Counter(file.parent.name for file in files if file.suffix == ".jpg") == dict.fromkeys(
        ("daisy", "dandelion", "rose", "sunflower", "tulip"), 30
    )
    assert sum(file.stat().st_size for file in files) <= 2_000_000
    with (examples / "CREDITS.csv").open(encoding="utf-8", newline="") as file:
        credited = {row["file"] for row in csv.DictReader(file)}
    assert credited == {file.relative_to(examples).as_posix() for file in files if file.suffix == ".jpg"}


# Hold-out, report


def test_about_the_share_asked_for_is_held_out():
    digests = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(5000)]
    for share in (0.05, 0.1, 0.5, 0.9):
        assert abs(sum(is_held_out(digest, share) for digest in digests) / 5000 - share) < 0.025


@given(DIGESTS, SHARES, SHARES)
def test_a_larger_share_holds_out_all_that_a_smaller_one_does(digest, a, b):
    assert is_held_out(digest, min(a, b)) <= is_held_out(digest, max(a, b))


@given(DIGESTS)
def test_nothing_and_everything_can_be_held_out(digest):
    assert not is_held_out(digest, 0)
    assert is_held_out(digest, 1)


@given(DIGESTS, SHARES)
def test_holding_out_follows_from_the_content_alone(digest, share):
    assert is_held_out(digest, share) == is_held_out(str(digest), share)


def test_the_report_says_of_every_file_what_became_of_it(folder, tmp_path_factory):
    report = tmp_path_factory.mktemp("out") / "new" / "report.csv"
    entries = list(read_images(folder))
    write_images_report(report, entries, hold_out=0.4)
    rows = {row["file"]: row for row in csv.DictReader(io.StringIO(report.read_text("utf-8")))}
    assert list(rows) == [entry.name for entry in entries]
    assert {name: row["reason"] for name, row in rows.items() if row["status"] == "skipped"} == REASONS
    assert rows["copy/alpha.png"]["status"] == "duplicate"
    assert rows["copy/alpha.png"]["reason"] == "same content as copy/alpha again.png"
    assert "JPEGLib" in rows["shout.tif"]["notes"]
    for entry in entries:
        if isinstance(entry, ImageFile) and entry.name != "copy/alpha.png":
            assert rows[entry.name]["status"] == ("held out" if is_held_out(entry.digest, 0.4) else "used")
