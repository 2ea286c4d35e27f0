"""Images generated from held-out images' conditions, compared with those images."""

from __future__ import annotations

import torch

from captionless.evaluation.sections.fidelity import alterations, fidelity_section
from evaluation_cases import context, image_set, split


def test_every_figure_has_a_range_and_stands_beside_that_of_real_images() -> None:
    real = image_set(50, 1)
    like = image_set(50, 2).pixels
    section = fidelity_section(context(split(image_set(60, 0), real), lambda conditions, _: like))
    figures = {figure.key: figure for figure in section.figures}
    assert set(figures) == {"kid", "cmmd", "precision", "recall", "density", "coverage"}
    for figure in section.figures:
        assert figure.value.low <= figure.value.value <= figure.value.high
        assert figure.value.n == 50
        assert figure.real is not None
    assert not section.missing
    assert section.notes[0].startswith("Images are compared by pixels (the model's own encoder, so not independent)")


def test_worse_images_have_worse_figures() -> None:
    data = split(image_set(60, 0), image_set(50, 1))
    like = fidelity_section(context(data, lambda *_: image_set(50, 2).pixels))
    grey = fidelity_section(context(data, lambda *_: torch.full((50, 3, 8, 8), 128, dtype=torch.uint8)))
    values = [{figure.key: figure.value.value for figure in section.figures} for section in (like, grey)]
    assert values[0]["kid"] < values[1]["kid"]
    assert values[0]["recall"] > values[1]["recall"]


def test_the_scale_of_kid_has_a_point_for_each_level_of_noise_and_one_for_half_the_size() -> None:
    kid = fidelity_section(context()).figures[0]
    assert [label.rpartition("real images ")[2] for label, _ in kid.marks] == [
        "with noise of 4 of 255 levels",
        "with noise of 16 of 255 levels",
        "at half the resolution, upsampled",
    ]


def test_alterations_keep_the_shape_and_add_what_they_say() -> None:
    pixels = torch.full((3, 1, 8, 8), 128, dtype=torch.uint8)
    noisy, _, half = alterations(pixels)
    assert noisy[1].shape == half[1].shape == pixels.shape
    assert 3 < float((noisy[1].float() - 128).std()) < 5
    assert torch.equal(half[1], pixels)


def test_too_few_images_leave_the_section_out_and_say_what_to_do() -> None:
    few = image_set(10, 1)
    section = fidelity_section(context(split(image_set(60, 0), few)))
    assert not section.figures
    (reason,) = dict(section.missing).values()
    assert "at least 20" in reason
    assert "samples" in reason
    assert len(section.grids) == 1
