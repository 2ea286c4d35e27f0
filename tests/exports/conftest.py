"""Fixtures of the tests of exports."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import export_models


@pytest.fixture(scope="session")
def traced_once() -> Iterator[None]:
    """Let PyTorch turn equal networks into a graph only once."""
    with export_models.traced_once():
        yield
