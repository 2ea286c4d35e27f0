"""The model card: what a person who finds a model folder should know."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from captionless.checkpoint import BUNDLED, ModelConfig, model_folder
from captionless.denoiser import Denoiser, parameter_count
from captionless.files import atomic_write

CREDITS = "CREDITS.csv"
ANCESTORS_CREDITS = "CREDITS-begun-from.csv"


def write_model_card(folder: Path, config: ModelConfig, denoiser: Denoiser, pictures_folder: Path) -> None:
    """Write ``README.md``, and ``CREDITS.csv`` where the picture folder has one (weights owe the same credit)."""
    credits = _find_credits(pictures_folder)
    if credits:
        names = {row[0] for row in read_pictures(folder) if row[2] == "train"}
        with atomic_write(folder / CREDITS) as path:
            path.write_text(_own_credits(credits, names), encoding="utf-8")
    _keep_ancestors_credits(folder, config)
    with atomic_write(folder / "README.md") as path:
        path.write_text(_card(folder, config, denoiser, credits is not None), encoding="utf-8")


def _card(folder: Path, config: ModelConfig, denoiser: Denoiser, credited: bool) -> str:
    training = config.training
    facts: Mapping[str, object] = {
        "Pictures": f"{config.size} x {config.size} pixels, {'grey' if config.denoiser.channels == 1 else 'colour'}",
        "Trained on": f"{training.get('pictures', 0):,} pictures of the folder `{training.get('folder', '?')}`"
        f" ({training.get('held_out', 0):,} more held out)",
        "Denoiser": f"U-Net, {parameter_count(denoiser) / 1e6:.1f} million weights, v-prediction, cosine schedule",
        "Encoder": f"{config.encoder.name} (content hash {config.encoder.digest[:12]})",
        "Training": f"{training.get('images', 0):,} pictures seen in {training.get('minutes', 0):.0f} minutes"
        + (f", begun from `{training['from']}`" if training.get("from") else ""),
    }
    lines = [f"- **{name}**: {value}" for name, value in facts.items()]
    credit = (
        f"The photographers and pages of the pictures are listed in [{CREDITS}]({CREDITS})."
        if credited
        else "The picture folder held no CREDITS.csv. If its pictures ask for credit, name their makers here."
    )
    if (folder / ANCESTORS_CREDITS).exists():
        credit += f" Those of the model it was begun from: [{ANCESTORS_CREDITS}]({ANCESTORS_CREDITS})."
    name = BUNDLED if folder.resolve() == model_folder(BUNDLED).resolve() else str(folder)
    return (
        f"# {folder.name}\n\nA text-to-image model made by captionless from pictures alone, without captions.\n\n"
        + "\n".join(lines)
        + f'\n\n    captionless generate --model {name} "what to paint"\n\n'
        + "It paints what its training pictures show and little else. Its words are its encoder's: what that does\n"
        + "not know, the model cannot follow.\n\n## Credits\n\n"
        + credit
        + "\n"
    )


def write_pictures(folder: Path, rows: Iterable[tuple[str, str, str]]) -> None:
    """Write ``pictures.csv``: (name, content hash, ``train`` or ``held out``) of every picture."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "sha256", "role"])
    writer.writerows(rows)
    with atomic_write(folder / "pictures.csv") as path:
        path.write_text(text.getvalue(), encoding="utf-8")


def read_pictures(folder: Path) -> list[tuple[str, str, str]]:
    """Read ``pictures.csv`` back; an empty list where there is none."""
    path = folder / "pictures.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [(row[0], row[1], row[2]) for row in list(csv.reader(file))[1:] if len(row) == 3]


def _keep_ancestors_credits(folder: Path, config: ModelConfig) -> None:
    """Copy the credits of the model begun from: these weights owe them too."""
    begun = config.training.get("from")
    source = model_folder(begun) / CREDITS if begun else None
    if source and source.is_file() and not (folder / ANCESTORS_CREDITS).exists():
        with atomic_write(folder / ANCESTORS_CREDITS) as path:
            path.write_bytes(source.read_bytes())


def _find_credits(pictures: Path) -> Path | None:
    """Look for credits in the folder, then one above (where a data set keeps them beside its splits)."""
    found = (path / CREDITS for path in (pictures, pictures.parent))
    return next((path for path in found if path.is_file()), None)


def _own_credits(path: Path, names: set[str]) -> str:
    """Return the lines of a credits table that concern the pictures trained on (all of it where none is named so)."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    own = [line for line in lines[1:] if _concerns(next(csv.reader([line]), [""])[0], names)]
    return "\n".join([lines[0], *(own or lines[1:])]) + "\n" if lines else ""


def _concerns(file: str, names: set[str]) -> bool:
    # A table one folder up names "train/daisy/1.jpg" where the folder itself says "daisy/1.jpg".
    return file in names or file.partition("/")[2] in names
