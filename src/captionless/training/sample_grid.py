"""Contact sheets drawn while a model learns: what it makes of words, or of pictures' own vectors."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image
from torch import Tensor

from captionless.checkpoints.config import ModelConfig
from captionless.conditioning.bridge import BridgeData, to_condition
from captionless.conditioning.classes import one_hot
from captionless.conditioning.subject import folder_words
from captionless.config.sampling import SamplingConfig
from captionless.generation.grids import sample_grid
from captionless.generation.sample import Stage, sample, to_images
from captionless.models.unet import Denoiser
from captionless.training.dataset import TrainingImages

COLUMNS = 6
ROWS = 8
CLASS_ROWS = 20
IMAGES = 48
"""On one sheet, about: with many rows, each is shorter."""


class SampleGridWriter:
    """Paints the same prompts from the same noise every time, so that sheets can be compared.

    Args:
        config: the model's.
        pictures: what it learns from.
        prompts: what to paint; without any, the model's classes; without those, the names of sub-folders; without
            those, the vectors of held-out pictures (else of training pictures), each beside its picture.
        small: paints the small pictures that it enlarges, where it does.
        bank: the vectors that words will be bridged to; by default those of the pictures.
    """

    def __init__(
        self,
        config: ModelConfig,
        pictures: TrainingImages,
        prompts: Sequence[str],
        small: Stage | None = None,
        bank: Tensor | None = None,
    ) -> None:
        self.config, self.small = config, small
        self.labels = list(prompts or pictures.classes[:CLASS_ROWS]) or folder_prompts(pictures.train.names)
        self.originals: list[Image.Image] = []
        if pictures.encoder is None:
            self.conditions: Tensor = one_hot(self.labels, pictures.classes)
        elif self.labels:
            texts = pictures.encoder.encode_texts(self.labels)
            bridge_data = BridgeData(
                pictures.train.vectors if bank is None else bank, 1 / config.require_encoder().logit_scale
            )
            self.conditions = to_condition(texts, bridge_data)
        else:
            shown = pictures.held_out if pictures.held_out.names else pictures.train
            self.labels = list(shown.names[:ROWS])
            self.conditions = shown.vectors[:ROWS]
            self.originals = to_images(shown.pixels[:ROWS])

    def draw(self, denoiser: Denoiser) -> Image.Image:
        """Paint the sheet with the weights as they are now."""
        device = next(denoiser.parameters()).device
        columns = max(2, min(COLUMNS, IMAGES // len(self.labels)))
        seeds = [seed for _ in self.labels for seed in range(columns)]
        conditions = self.conditions.repeat_interleave(columns, dim=0).to(device)
        sampling = SamplingConfig(precision="float32")
        stages = [*([self.small] if self.small else []), Stage(denoiser, self.config)]
        images = to_images(sample(stages, conditions, seeds, sampling))
        rows = [images[i : i + columns] for i in range(0, len(images), columns)]
        if self.originals:
            rows = [[original, *row] for original, row in zip(self.originals, rows, strict=True)]
        return sample_grid(rows, self.labels, cell=max(64, self.config.size))


def folder_prompts(names: Sequence[str]) -> list[str]:
    """Return "a photo of a NAME" for the first sub-folders of the pictures, or nothing where there are fewer than 2."""
    words = folder_words(names)
    return [f"a photo of a {word}" for word in words[:ROWS]] if len(words) > 1 else []
