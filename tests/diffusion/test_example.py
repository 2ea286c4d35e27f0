"""The example that opens captionless.diffusion: a schedule, a loss and a guided sampler on one screen."""

import textwrap
from typing import Any

import pytest

import captionless.diffusion


def test_the_example_runs_and_samples_the_class_it_guides_towards() -> None:
    text = captionless.diffusion.__doc__ or ""
    code = textwrap.dedent(text[text.index("    import torch") : text.index("``denoising_loss``")])
    assert len(code.splitlines()) <= 50, "it fits on one screen"
    for guidance, centre in (("w=1.0", 1.0), ("w=0.0", 0.7)):
        names: dict[str, Any] = {}
        exec(code.replace("w=1.0", guidance), names)
        x, y = names["points"].flatten(1).T
        assert float(x.mean()) == pytest.approx(centre, abs=0.15)
        assert float(y.mean()) == pytest.approx(0, abs=0.15)
        assert (x > 0).float().mean() > 0.99
