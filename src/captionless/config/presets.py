"""Named sets of training settings."""

from __future__ import annotations

from captionless.config.keyword_types import TrainKeywords

COURSE_TRAINING: TrainKeywords = {
    "size": 32,
    "network": "course",
    "width": 256,
    "schedule": "linear",
    "schedule_steps": 150,
    "prediction": "eps",
    "mask": "element",
    "tokens": 0,
    "weighting": "uniform",
    "condition_cosine": 1.0,
}
"""The model of introductory diffusion courses: linear betas with T = 150, noise prediction and an element-wise mask."""

TRAINING_PRESETS: dict[str, TrainKeywords] = {"course": COURSE_TRAINING}
