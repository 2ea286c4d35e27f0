"""Contact sheets drawn while a model learns: what it makes of words, or of pictures' own vectors."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image
from torch import Tensor

from captionless.bridge import to_condition
from captionless.checkpoint import ModelConfig
from captionless.denoiser import Denoiser
from captionless.generator import paint, to_images
from captionless.sampling import Sampling
from captionless.sheets import contact_sheet
from captionless.training_pictures import TrainingPictures

COLUMNS = 6
ROWS = 8


class SheetPainter:
    """Paints the same prompts from the same noise every time, so that sheets can be compared.

    Args:
        config: the model's.
        pictures: what it learns from.
        prompts: what to paint; without any, the names of sub-folders; without those, the vectors of held-out
            pictures (else of training pictures), each beside its picture.
    """

    def __init__(self, config: ModelConfig, pictures: TrainingPictures, prompts: Sequence[str]) -> None:
        self.config = config
        self.labels = list(prompts) or folder_prompts(pictures.train.names)
        self.originals: list[Image.Image] = []
        if self.labels:
            texts = pictures.encoder.encode_texts(self.labels)
            bank = pictures.train.vectors
            self.conditions: Tensor = to_condition(texts, bank, 1 / config.encoder.logit_scale)
        else:
            shown = pictures.held_out if pictures.held_out.names else pictures.train
            self.labels = list(shown.names[:ROWS])
            self.conditions = shown.vectors[:ROWS]
            self.originals = to_images(shown.pixels[:ROWS])

    def draw(self, denoiser: Denoiser) -> Image.Image:
        """Paint the sheet with the weights as they are now."""
        device = next(denoiser.parameters()).device
        seeds = [seed for _ in self.labels for seed in range(COLUMNS)]
        conditions = self.conditions.repeat_interleave(COLUMNS, dim=0).to(device)
        images = to_images(
            paint(denoiser, self.config.schedule, conditions, seeds, self.config.size, Sampling(precision="float32"))
        )
        rows = [images[i : i + COLUMNS] for i in range(0, len(images), COLUMNS)]
        if self.originals:
            rows = [[original, *row] for original, row in zip(self.originals, rows, strict=True)]
        return contact_sheet(rows, self.labels, cell=max(64, self.config.size))


def folder_prompts(names: Sequence[str]) -> list[str]:
    """Return "a photo of a NAME" for the first sub-folders of the pictures, or nothing where there are fewer than 2."""
    folders = sorted({name.rpartition("/")[0] for name in names} - {""})
    words = [folder.rpartition("/")[2].replace("_", " ").replace("-", " ").strip() for folder in folders]
    return [f"a photo of a {word}" for word in words[:ROWS]] if len(words) > 1 else []
