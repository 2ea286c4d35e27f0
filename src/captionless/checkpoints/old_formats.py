"""Convert the ``config.json`` and weight names of earlier model formats to the current format."""

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
"""Old and new names of keys, by the section of ``config.json`` that contains them ("" for the top level)."""

ADDED: dict[str, Any] = {
    "id": "",
    "classes": [],
    "prediction": "v",
    "base_size": None,
    "base_id": "",
    "autoencoder": None,
}
"""Entries missing in earlier formats, with the values that apply to models in these formats."""


def translated(values: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a ``config.json`` in format 1 to 9, converted to the current format.

    Format 1 had only the cosine schedule and v-prediction, format 2 had no input skip in the denoiser, format 3 no
    shift of the cosine schedule, format 4 no super-resolution stage and format 5 no 8-bit weights; format 6 used other
    names. Format 7 stored the hash of the whole encoder instead of the hash of its image side. The latter is known
    only for bundled encoders; the hashes of other encoders are left unchanged. Format 8 had no ids, and
    format 9 no autoencoder.
    """
    values = ADDED | _renamed("", values)
    values |= {part: _renamed(part, values[part]) for part in ("denoiser", "training") if part in values}
    encoder = values.get("encoder")
    if isinstance(encoder, dict) and isinstance(encoder.get("digest"), str):
        values["encoder"] = encoder | {"digest": IMAGE_SIDES.get(encoder["digest"], encoder["digest"])}
    return values


def renamed_layers(name: str) -> str:
    """Return the current name of a weight tensor with an old name such as ``bypass.enter.weight``."""
    return ".".join("input_skip" if part == "bypass" else part for part in name.split("."))


def _renamed(part: str, values: Any) -> Any:
    """Rename the keys of a JSON object; any other value is returned unchanged and rejected later by validation."""
    if not isinstance(values, dict):
        return values
    return {RENAMED[part].get(name, name): value for name, value in values.items()}
