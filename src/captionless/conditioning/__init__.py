"""Turn texts, images and class names into condition vectors for the denoiser."""

from captionless.conditioning.bridge import BridgeData, Neighbourhood, nearest, shift_by_means, to_condition
from captionless.conditioning.classes import one_hot
from captionless.conditioning.composition import Composition, compose, slerp
from captionless.conditioning.familiarity import UnfamiliarPrompt
from captionless.conditioning.subject import subject_mean, subject_prompts

__all__ = [
    "BridgeData",
    "Composition",
    "Neighbourhood",
    "UnfamiliarPrompt",
    "compose",
    "nearest",
    "one_hot",
    "shift_by_means",
    "slerp",
    "subject_mean",
    "subject_prompts",
    "to_condition",
]
