"""Prepare and check a release; ``.github/workflows/release.yml`` does both.

python tools/release.py prepare ADDRESS TAG  let README and metadata name the repository, in this working copy
python tools/release.py check TAG DIST       require a wheel and an sdist that are fit to be published
"""

from __future__ import annotations

import email.message
import email.parser
import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(!?)(\[[^\]]*\])\((?![a-z]+:|#)([^)\s]+)\)")
GITHUB, COLAB = "https://github.com/", "https://colab.research.google.com/github/"
LARGEST_WHEEL = 44_000_000
"""Bytes. PyPI's limit is 100 MB; a package that downloads in seconds is part of what captionless promises."""
NEEDED = {"tests/conftest.py", "examples/flowers/CREDITS.csv", "constraints.txt", "docs/train.md", "CHANGELOG.md"}
"""Files of an sdist without which its tests cannot run; each stands for its folder."""


def prepare(root: Path, address: str, tag: str) -> None:
    """Add the project's address, and make README's links absolute: PyPI shows it without the files beside it."""
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8")
    readme.write_text(LINK.sub(lambda link: _absolute(link, address, tag), text), encoding="utf-8", newline="\n")
    with (root / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write(f'\n[project.urls]\nRepository = "{address}"\nChangelog = "{address}/blob/{tag}/CHANGELOG.md"\n')


def _absolute(link: re.Match[str], address: str, tag: str) -> str:
    if link[3].endswith(".ipynb"):  # a notebook opens where it runs
        address = address.replace(GITHUB, COLAB)
    kind = "raw" if link[1] else "blob"
    return f"{link[1]}{link[2]}({address}/{kind}/{tag}/{link[3]})"


def problems(tag: str, dist: Path) -> Iterator[str]:
    """Yield what keeps the files in ``dist`` from being published as ``tag``."""
    wheels, archives = sorted(dist.glob("*.whl")), sorted(dist.glob("*.tar.gz"))
    if len(wheels) != 1 or len(archives) != 1:
        yield f"{dist} must hold one wheel and one sdist"
        return
    if (size := wheels[0].stat().st_size) > LARGEST_WHEEL:
        yield f"the wheel has {size / 1e6:.1f} MB, more than {LARGEST_WHEEL / 1e6:.0f}"
    metadata = wheel_metadata(wheels[0])
    version = metadata["Version"]
    if tag != f"v{version}":
        yield f"the tag is {tag}, but the package has version {version}"
    if not metadata.get_all("Project-URL"):
        yield "the metadata name no repository; run `prepare`"
    if re.search(LINK, str(metadata.get_payload())):
        yield "the description has links to files, which PyPI does not have; run `prepare`"
    with tarfile.open(archives[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    if missing := sorted(NEEDED - names):
        yield f"the sdist lacks {', '.join(missing)}"
    if not re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", _text("CHANGELOG.md"), re.MULTILINE):
        yield f"CHANGELOG.md has no heading `## [{version}] - YYYY-MM-DD`"
    if f"\nversion: {version}\n" not in _text("CITATION.cff"):
        yield f"CITATION.cff is not of version {version}"


def wheel_metadata(wheel: Path) -> email.message.Message:
    """Return the metadata of a wheel; its payload is the description."""
    with zipfile.ZipFile(wheel) as files:
        (name,) = (name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        return email.parser.Parser().parsestr(files.read(name).decode())


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["prepare", address, tag]:
            prepare(ROOT, address, tag)
        case ["check", tag, dist]:
            found = list(problems(tag, Path(dist)))
            sys.exit("\n".join(found) or 0)
        case _:
            sys.exit(__doc__)
