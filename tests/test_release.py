"""What is published: the archives that the release builds, and how a project that uses them sees them."""

from __future__ import annotations

import io
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from tools import release

import captionless

ROOT = Path(__file__).parents[1]
VERSION = captionless.__version__
CONSUMER = """
from pathlib import Path

import captionless
from captionless import Composition, GeneratedImage, Generator, SamplingConfig
from captionless.diffusion import CosineSchedule, sampling_times

def draw(generator: Generator, prompt: str) -> list[GeneratedImage]:
    config = SamplingConfig(steps=10, sampler="unipc")
    return generator.generate(prompt, n=4, sampling=config, composition=Composition(negative="yellow"))

def main(folder: Path) -> None:
    try:
        model: Path = captionless.train(folder, "runs/mine", minutes=10, hold_out=0.1)
        for image in draw(captionless.load(model), "a rose"):
            image.image.save(f"{image.seed}.png")
    except captionless.CaptionlessError as error:
        print(error.code)
    print(CosineSchedule().alpha_sigma(sampling_times(5)))
"""
MISUSE = """
captionless.load().generate("a rose", n="four")
captionless.train("photos", "out", minuets=3)
"""


def dist(folder: Path, version: str = VERSION, description: str = "") -> Path:
    """Write a wheel and an sdist that have little but metadata."""
    with zipfile.ZipFile(folder / "x.whl", "w") as wheel:
        wheel.writestr(f"captionless-{version}.dist-info/METADATA", f"Version: {version}\n\n{description}")
    with tarfile.open(folder / "x.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("captionless/README.md"), io.BytesIO())
    return folder


def ready(folder: Path) -> Path:
    """Copy what a release prepares into a folder."""
    folder.mkdir(exist_ok=True)
    for name in ("README.md", "pyproject.toml"):
        (folder / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    return folder


def test_a_release_names_its_repository_and_has_no_links_that_lead_nowhere(tmp_path: Path) -> None:
    release.prepare(ready(tmp_path), "https://example.org/captionless", "v9")
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "](https://example.org/captionless/raw/v9/docs/reference.png)" in text
    assert "](https://example.org/captionless/blob/v9/docs/train.md#small-folders)" in text
    assert not release.LINK.search(text)
    release.prepare(ready(tmp_path / "github"), "https://github.com/ada/captionless", "v9")
    text = (tmp_path / "github" / "README.md").read_text(encoding="utf-8")
    notebook = "ada/captionless/blob/v9/notebooks/your_own_folder.ipynb"
    assert f"](https://colab.research.google.com/github/{notebook})" in text
    added = '[project.urls]\nRepository = "https://example.org/captionless"\n'
    assert added in (tmp_path / "pyproject.toml").read_text(encoding="utf-8")


def test_what_must_not_be_published_is_listed(tmp_path: Path) -> None:
    found = "\n".join(release.problems("v9", dist(tmp_path, description="[train](docs/train.md)")))
    for problem in ("the tag is v9", "no repository", "links to files", "the sdist lacks", "no heading"):
        assert problem in found
    (tmp_path / "x.whl").unlink()
    assert list(release.problems("v9", tmp_path)) == [f"{tmp_path} must hold one wheel and one sdist"]


def test_a_wheel_that_grew_too_large_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "LARGEST_WHEEL", 10)
    assert "the wheel has 0.0 MB, more than 0" in list(release.problems(f"v{VERSION}", dist(tmp_path)))


def test_the_citation_is_of_this_version() -> None:
    assert f"\nversion: {VERSION}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


# --- the real archives ---


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a wheel that was built from an sdist, and of that sdist."""
    for name in ("build", "hatchling", "twine"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install -c constraints.txt '.[test]'")
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT], check=True)
    return out


@pytest.mark.slow
def test_the_archives_are_fit_to_be_published_but_for_what_a_release_adds(built: Path) -> None:
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *built.iterdir()], check=True)
    found = list(release.problems(f"v{VERSION}", built))
    assert [text for text in found if "run `prepare`" not in text and "CHANGELOG" not in text] == []


@pytest.mark.slow
def test_a_project_that_uses_captionless_is_checked_by_its_types(built: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv")
    scheme = {"base": str(tmp_path / "venv"), "platbase": str(tmp_path / "venv")}
    packages = Path(sysconfig.get_path("purelib", "venv", vars=scheme))
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        wheel.extractall(packages)
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    python = Path(sysconfig.get_path("scripts", "venv", vars=scheme)) / "python"
    (tmp_path / "app.py").write_text(CONSUMER + MISUSE, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(python), "app.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert len(errors) == 2, done.stdout + done.stderr
    assert ["incompatible type" in errors[0], 'Unexpected keyword argument "minuets"' in errors[1]] == [True, True]
