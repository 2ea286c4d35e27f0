"""Translate ``config.json`` and the names of weights of earlier formats into those of the current format."""

from __future__ import annotations

from typing import Any

from captionless.encoders.digest import IMAGE_SIDES

RENAMED: dict[str, dict[str, str]] = {
    "": {"enlarges": "base_size"},
    "denoiser": {"bypass": "input_skip", "beside": "low_res_channels"},
    "training": {
        "captionless": "version",
        "pictures": "train_images",
        "from": "initialised_from",
        "enlarge": "base_model",
        "class_pictures": "class_images",
        "images": "images_seen",
    },
}
"""Old name: new name, by the part of the file that contains it."""

ADDED: dict[str, Any] = {"classes": [], "prediction": "v", "base_size": None}
"""Entries that formats 1 to 4 did not have yet, with the values that apply to their models."""


def translated(values: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a ``config.json`` of format 1 to 7, translated to the current format.

    Format 1 had only the cosine schedule and v-prediction, 2 no input skip in the denoiser, 3 no shift of the cosine
    schedule, 4 no super-resolution stage, 5 no weights in 8 bits; 6 used other names. 7 had the hash of the whole
    encoder in place of its image side's, which is known for the shipped encoder only: others keep it.
    """
    values = ADDED | _renamed("", values)
    values |= {part: _renamed(part, values[part]) for part in ("denoiser", "training") if part in values}
    encoder = values.get("encoder")
    if isinstance(encoder, dict) and isinstance(encoder.get("digest"), str):
        values["encoder"] = encoder | {"digest": IMAGE_SIDES.get(encoder["digest"], encoder["digest"])}
    return values


def renamed_layers(name: str) -> str:
    """Return the current name of a tensor of weights, such as ``bypass.enter.weight``."""
    return ".".join("input_skip" if part == "bypass" else part for part in name.split("."))


def _renamed(part: str, values: Any) -> Any:
    """Return an object with its keys renamed; anything else is returned unchanged, for validation to reject."""
    if not isinstance(values, dict):
        return values
    return {RENAMED[part].get(name, name): value for name, value in values.items()}
