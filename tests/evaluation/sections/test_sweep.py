"""Sweeps over guidance and steps."""

from __future__ import annotations

from captionless.evaluation.sections.sweep import sweep_section
from evaluation_cases import FakeSampler, context, image_set, small_config, split


def test_each_setting_is_sampled_from_the_same_conditions_and_has_a_row() -> None:
    made = context(config=small_config(sweep_images=20, sweep_guidance=(0.0, 3.0), sweep_steps=(1, 2)))
    section = sweep_section(made)
    sampler = made.sampler
    assert isinstance(sampler, FakeSampler)
    assert sampler.series == [{"guidance": 0.0}, {"guidance": 3.0}, {"guidance": 5.0}, {"steps": 1}, {"steps": 2}]
    guidance, steps = section.tables
    assert [row[0] for row in guidance.rows] == ["0", "3", "5"]  # 5 is the one asked for
    assert [row[0] for row in steps.rows] == ["1", "2"]
    assert all("to" in row[1] for row in guidance.rows + steps.rows)
    assert len({row[1:] for row in guidance.rows + steps.rows}) == 1  # the fake ignores its settings
    assert len(section.grids) == 2


def test_a_sweep_of_few_images_says_that_kid_needs_more() -> None:
    section = sweep_section(context())
    assert "at least 20" in section.tables[0].rows[0][1]


def test_one_image_is_too_few() -> None:
    section = sweep_section(context(split(image_set(60, 0), image_set(1, 1))))
    assert dict(section.missing) == {"Sweeps": "1 images are too few to sweep with; 2 are needed"}
