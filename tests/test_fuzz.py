"""Whatever is in a file, the answer is a value or one line; ``tools/fuzz.py`` goes on for longer."""

import pytest

from fuzz_cases import TARGETS, fuzz


@pytest.mark.parametrize("target", TARGETS)
def test_a_hundred_random_inputs(target: str) -> None:
    fuzz(target, 100)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_thousands_of_random_inputs(target: str) -> None:
    fuzz(target, 3000, number=1)
