"""Download public image folders that are not flowers, and arrange them as one sub-folder per kind."""

from __future__ import annotations

import shutil
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import IO

IMAGES = {".jpg", ".jpeg", ".png"}
CHUNK = 1 << 20


@dataclass(frozen=True)
class Public:
    """A public data set.

    Args:
        page: where it is described.
        licence: under which its images may be used.
        address: of its archive.
        archive: name of the archive on this machine; its ending says what it is.
        megabytes: about how much is downloaded.
        kinds: the kinds that are kept, as the data set calls them, and as words.
        name: the data set's name of an image's kind, given its path in the archive.
        prompt: a sentence about a kind, in which ``{}`` is the kind with its article.
    """

    page: str
    licence: str
    address: str
    archive: str
    megabytes: int
    kinds: Mapping[str, str]
    name: Callable[[PurePosixPath], str] = lambda path: path.parent.name
    prompt: str = "a photo of {}"


THINGS = {
    "airplanes": "airplane",
    "Motorbikes": "motorbike",
    "watch": "watch",
    "bonsai": "bonsai tree",
    "car_side": "car",
    "ketch": "sailing boat",
    "chandelier": "chandelier",
    "hawksbill": "sea turtle",
    "grand_piano": "grand piano",
    "butterfly": "butterfly",
}
LAND = {
    "AnnualCrop": "crop field",
    "Forest": "forest",
    "HerbaceousVegetation": "shrubland",
    "Highway": "highway",
    "Industrial": "industrial area",
    "Pasture": "pasture",
    "PermanentCrop": "orchard",
    "Residential": "residential area",
    "River": "river",
    "SeaLake": "lake",
}
BREEDS = ("Abyssinian", "Bombay", "Siamese", "Sphynx", "beagle", "great_pyrenees", "newfoundland", "pug", "samoyed")

PUBLIC = {
    "caltech": Public(
        "https://data.caltech.edu/records/mzrjq-6wc02",
        "CC BY 4.0",
        "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip?download=1",
        "caltech-101.zip",
        137,
        THINGS,
    ),
    "eurosat": Public(
        "https://zenodo.org/records/7711810",
        "MIT",
        "https://zenodo.org/records/7711810/files/EuroSAT_RGB.zip?download=1",
        "EuroSAT_RGB.zip",
        95,
        LAND,
        prompt="a satellite photo of {}",
    ),
    "pets": Public(
        "https://www.robots.ox.ac.uk/~vgg/data/pets",
        "CC BY-SA 4.0",
        "https://thor.robots.ox.ac.uk/~vgg/data/pets/images.tar.gz",
        "pets.tar.gz",
        792,
        {breed: breed.lower().replace("_", " ") for breed in BREEDS},
        lambda path: path.stem.rpartition("_")[0],
    ),
}


def public_folder(name: str, to: Path, most: int = 240) -> Path:
    """Download one of `PUBLIC`, unless it is there; return a folder with at most ``most`` images of each kind."""
    about, folder = PUBLIC[name], to / name
    if folder.is_dir():
        return folder
    print(f"{name}: {about.megabytes} MB from {about.address} (licence: {about.licence}, see {about.page})", flush=True)
    archive = download(about.address, to / about.archive)
    begun = to / f"{name}.begun"
    shutil.rmtree(begun, ignore_errors=True)  # what an interrupted run left
    found = Counter[str]()
    try:
        for path, content in images_in(archive):
            kind = about.kinds.get(about.name(path))
            if kind is None or found[kind] >= most:
                continue
            found[kind] += 1
            target = begun / kind / f"{found[kind]:04d}{path.suffix.lower()}"  # no path of the archive is trusted
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.read())
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        sys.exit(f"{archive} cannot be read ({error}). Delete it and run the same command again.")
    if missing := set(about.kinds.values()) - set(found):
        sys.exit(f"{archive} has no image of {', '.join(sorted(missing))}: {about.page} has changed. Use --folders.")
    begun.rename(folder)
    return folder


def download(address: str, file: Path) -> Path:
    """Download a file, going on where an earlier attempt stopped; it has its name only when it is complete."""
    part = file.with_name(file.name + ".part")
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists():
        return file
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "captionless", **({"Range": f"bytes={have}-"} if have else {})}
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=60) as answer:
            have = have if answer.status == 206 else 0  # a server may send the whole file again
            length = answer.headers.get("Content-Length")
            with part.open("ab" if have else "wb") as out:
                shutil.copyfileobj(answer, out, CHUNK)
        if length and part.stat().st_size != have + int(length):
            raise OSError(f"{part.stat().st_size:,} of {have + int(length):,} bytes came")
    except (HTTPException, OSError) as error:
        if not (isinstance(error, urllib.error.HTTPError) and error.code == 416):  # 416: everything is there already
            sys.exit(f"{address}: {error}. The same command goes on from there; --folders takes your own folders.")
    part.rename(file)
    return file


def images_in(archive: Path | IO[bytes], name: str | None = None) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    """Yield path and content of every image in a zip or tar file, and in tar files inside it."""
    if str(name or archive).endswith(".zip"):
        with zipfile.ZipFile(archive) as file:
            for one in file.infolist():
                with file.open(one) as content:
                    yield from _images_of(PurePosixPath(one.filename), content)
        return
    source = {"name": archive} if isinstance(archive, Path) else {"fileobj": archive}
    with tarfile.open(mode="r|gz", **source) as tar:  # as a stream: once, from front to back
        for member in tar:
            content = tar.extractfile(member) if member.isfile() else None  # links are left out
            if content is not None:
                yield from _images_of(PurePosixPath(member.name), content)


def _images_of(path: PurePosixPath, content: IO[bytes]) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    if path.name.startswith("._") or "__MACOSX" in path.parts:  # notes of macOS beside its files
        return
    if path.suffix.lower() in IMAGES:
        yield path, content
    elif path.name.endswith(".tar.gz"):
        yield from images_in(content, path.name)
