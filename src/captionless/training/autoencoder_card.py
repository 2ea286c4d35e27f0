"""Write the card of an autoencoder: what it is, and with which settings it was trained."""

from __future__ import annotations

import json
from pathlib import Path

from captionless.checkpoints.hub import is_hub_id
from captionless.config.autoencoder import AutoencoderConfig
from captionless.training.autoencoder_resume import FREE_ON_RESUME


def autoencoder_card(config: AutoencoderConfig, images_seen: int, seconds: float, text: str) -> str:
    """Return the card of an autoencoder after ``images_seen`` crops; ``text`` says how well it reconstructs."""
    settings = config.model_dump(mode="json", exclude=FREE_ON_RESUME)
    if (start := settings["start_from"]) and not is_hub_id(start):
        settings["start_from"] = Path(start).name  # copies of the card are published
    seen = f"{images_seen:,} crops seen in {seconds / 60:.0f} min. {text}."
    return (
        f"# {config.out.name}\n\nAn AutoencoderTiny of diffusers that `captionless autoencoder` trained on images of "
        f"{Path(config.folder).name}: {seen}\n\n    captionless train FOLDER --autoencoder {config.out.name}"
        f"{' --grey' * config.grey}\n\n```json\n{json.dumps(settings, indent=2)}\n```\n\n"
        "Its licence depends on that of the images.\n"
    )
