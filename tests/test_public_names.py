"""The public surface: names, what they lead to, and that importing it is quick."""

from __future__ import annotations

import subprocess
import sys

import pytest

import captionless

PUBLIC = (
    "embed train load evaluate Generator GeneratedImage TrainConfig SamplingConfig Composition Edit sample_grid "
    "load_encoder CaptionlessError __version__"
)


def test_the_package_gives_these_names_and_no_others() -> None:
    assert sorted(captionless.__all__) == dir(captionless) == sorted(PUBLIC.split())
    with pytest.raises(AttributeError, match="no attribute 'paint'"):
        captionless.paint  # noqa: B018


def test_every_public_name_leads_to_something_of_that_name() -> None:
    assert all(getattr(captionless, name) for name in captionless.__all__)


def test_importing_the_package_loads_no_heavy_library() -> None:
    code = (
        "import sys, captionless; captionless.CaptionlessError;"
        "print([name for name in ('torch', 'transformers', 'numpy', 'accelerate') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
