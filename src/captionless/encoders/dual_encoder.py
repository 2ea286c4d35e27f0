"""Encode images and texts as unit vectors in a shared space with any transformers dual encoder.

A dual encoder (CLIP, Radford et al. 2021, arXiv:2103.00020) maps an image and a text that describes it to nearby
vectors. Training a diffusion model uses only the image side; generating images from text also uses the text side.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from captionless.config.limits import MAX_SIZE
from captionless.encoders.digest import BUNDLED_DIGESTS, Digests, content_digests
from captionless.encoders.hub import BUNDLED_FOLDER, ENCODER, find_encoder_folder, is_name_encoder
from captionless.encoders.loading import load_encoder_network, load_tokenizer, model_inputs
from captionless.encoders.model_errors import encoder_errors, foreign, loading_errors
from captionless.encoders.text_side import BertText, TextSide, TransformersText
from captionless.encoders.vocabulary import EncoderVocabulary, read_vocabulary
from captionless.errors import CaptionlessError
from captionless.progress import Progress


class PromptCut(UserWarning):
    """A text exceeded the encoder's maximum length and was truncated."""


@dataclass(frozen=True, eq=False)
class Encoder:
    """A dual encoder loaded by `load_encoder`."""

    name: str  # as given by the user: ``"bundled"``, a hub id or a folder
    folder: Path  # the folder that contains its files
    device: str = "cpu"

    @property
    def model(self) -> Any:
        """The transformers model, float32, in eval mode."""
        return self._network[0]

    @property
    def image_processor(self) -> Any:
        """The transformers image processor, with its Pillow backend."""
        return self._network[1]

    @cached_property
    def tokenizer(self) -> Any:
        """The transformers tokenizer."""
        return load_tokenizer(self.folder)

    @cached_property
    def text(self) -> TextSide:
        """The text side; that of the bundled encoder does without transformers."""
        with encoder_errors(self.name, ENCODER, self.folder):
            if self.folder == BUNDLED_FOLDER:
                return BertText(self.folder, self.device)
            text = TransformersText(self.model, self.tokenizer)
            _ = text.limit  # a damaged one is noticed here
            return text

    @cached_property
    def _network(self) -> tuple[Any, Any]:
        with loading_errors(self.name, ENCODER, self.folder):
            return load_encoder_network(self.name, ENCODER, self.folder, self.device)[:2]

    def encode_images(self, images: Sequence[Image]) -> Tensor:
        """Encode images of any size and mode as unit vectors (n, width), float32 on the CPU."""
        inputs = (
            self.image_processor(images=[image.convert("RGB") for image in batch], return_tensors="pt")
            for batch in batches(images, encoder_batch_size(self.device))
        )
        vectors = [self._unit(self._image_features, batch) for batch in inputs]
        return torch.cat(vectors) if vectors else torch.empty(0, self.width)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Encode texts as unit vectors (n, width), float32 on the CPU.

        A text with more than `text_limit` tokens is truncated by the tokenizer, with a `PromptCut` warning.

        Raises:
            CaptionlessError: a text is empty.
        """
        if isinstance(texts, str):
            raise TypeError("encode_texts expects a list of texts, not a single string")
        self._check_texts(texts)
        vectors = [self._unit(self.text.encode, batch) for batch in batches(texts)]
        return torch.cat(vectors) if vectors else torch.empty(0, self.width)

    @property
    def digest(self) -> str:
        """Content hash of the image side; it does not depend on the folder or on how the files are split."""
        return self._digests.image

    @property
    def digests(self) -> frozenset[str]:
        """All hashes by which models and caches may know the image side: `digest`, and those of earlier versions."""
        return self._digests.all

    @cached_property
    def width(self) -> int:
        """Dimension of the shared space (512 for CLIP ViT-B/32 and for the bundled encoder)."""
        # The name of this setting differs between architectures, but encoding a word always works.
        return int(self.encode_texts(["a"]).shape[1])

    @cached_property
    def image_size(self) -> int:
        """Side length in pixels of the encoder's square input images."""
        processor, model = self.image_processor, self.model
        with encoder_errors(self.name, ENCODER, self.folder), foreign():
            crops = getattr(processor, "do_center_crop", False) and getattr(processor, "crop_size", None)
            size = dict(crops or getattr(processor, "size", None) or {})
            vision = getattr(model.config, "vision_config", None)
            side = int(size.get("height") or size.get("shortest_edge") or getattr(vision, "image_size", None) or 224)
        return checked_side(self.name, side)

    @cached_property
    def logit_scale(self) -> float:
        """Inverse temperature of the encoder's contrastive training (100 for CLIP); 100 if the encoder has none."""
        scale = getattr(self.model, "logit_scale", None)
        return float(scale.detach().exp()) if scale is not None else 100.0

    @property
    def text_limit(self) -> int:
        """Maximum number of tokens per text, including start and end tokens (77 for CLIP)."""
        return self.text.limit

    @cached_property
    def vocabulary(self) -> EncoderVocabulary | None:
        """The vocabulary of a specialised encoder; None for general encoders, which do not provide one."""
        return read_vocabulary(self.folder)

    @cached_property
    def _digests(self) -> Digests:
        if self.folder == BUNDLED_FOLDER:
            return BUNDLED_DIGESTS
        processor, limit = self.image_processor, self.text_limit
        with encoder_errors(self.name, ENCODER, self.folder):
            return content_digests(self.folder, processor, limit)

    def _image_features(self, batch: Mapping[str, Tensor]) -> Tensor:
        found = self.model.get_image_features(**{name: value.to(self.device) for name, value in batch.items()})
        return found if isinstance(found, Tensor) else torch.as_tensor(found.pooler_output)

    def _unit(self, encode: Callable[[Any], Tensor], inputs: Any) -> Tensor:
        with torch.no_grad():
            vectors = encode(inputs).float().cpu()
        lengths = vectors.norm(dim=-1, keepdim=True)
        if vectors.ndim != 2 or not bool((lengths.isfinite() & (lengths > 0)).all()):
            raise CaptionlessError(
                f"the encoder {self.name} returned unusable vectors (shape {tuple(vectors.shape)}, zero or not "
                "finite). Its weights may be damaged, or it does not return one vector per input. Use another encoder."
            )
        unit: Tensor = vectors / lengths
        return unit

    def _check_texts(self, texts: Sequence[str]) -> None:
        for number, text in enumerate(texts, 1):
            try:
                text.encode()
            except UnicodeEncodeError as error:  # surrogates, from bytes that are not UTF-8
                raise CaptionlessError(f"text {number} is not valid UTF-8. Retype it or save it as UTF-8.") from error
            count = self.text.count(text)
            if not text.strip() or count <= self.text.special:
                raise CaptionlessError(f"text {number} is empty ({text!r}). Describe what the image should show.")
            if count > self.text_limit:
                shown = text if len(text) <= 60 else text[:57] + "..."
                warnings.warn(
                    f"the text {shown!r} has {count} tokens, but the encoder {self.name} reads at most "
                    f"{self.text_limit}; the rest is ignored",
                    PromptCut,
                    stacklevel=3,
                )


def checked_side(name: str, side: int) -> int:
    """Return the side of an encoder's input images in pixels, or raise a `CaptionlessError` if it is absurd."""
    if not 0 < side <= MAX_SIZE:
        raise CaptionlessError(f"the encoder {name} reads images of {side:,} pixels. Use another encoder.")
    return side


def load_encoder(name: str, device: str = "cpu", *, progress: Progress | None = None) -> Encoder:
    """Load an encoder: ``"bundled"``, a hub id (``"openai/clip-vit-base-patch32"``) or a local folder.

    Weights are read only from safetensors files and are converted to float32; no code from the repository is run. A
    model in the local hub cache is loaded without network access.

    Args:
        name: the encoder.
        device: the torch device to compute on.
        progress: receives a message with the download size before a download.

    Raises:
        CaptionlessError: the encoder is not found, damaged or not a dual encoder, or the hub cannot be reached.
    """
    folder = find_encoder_folder(name, ENCODER, progress)
    if is_name_encoder(folder):
        from captionless.encoders.name_encoder import NameEncoder

        with encoder_errors(name, ENCODER, folder):
            return NameEncoder(name, folder, device).checked()
    encoder = Encoder(name, folder, device)
    if folder != BUNDLED_FOLDER:  # its network is loaded when it is first needed, which is not for texts
        with loading_errors(name, ENCODER, encoder.folder):
            inputs, kind = model_inputs(encoder.folder)
            if inputs != {"images", "texts"}:
                raise CaptionlessError(f"{name} is not a dual encoder but a model of type {kind!r}. {ENCODER.advice}")
            _ = encoder.model
    _ = encoder.text
    return encoder


def check_same_encoder(recorded: Mapping[str, Any], encoder: Encoder) -> None:
    """Raise unless an encoder is the one that a model was trained with.

    Args:
        recorded: ``name``, ``digest`` and ``width`` in the model's config.
        encoder: the encoder to use.

    Raises:
        CaptionlessError: their image sides differ; names, folders and text sides may.
    """
    if recorded["digest"] in encoder.digests:
        return
    raise CaptionlessError(
        f"this model was trained with the encoder {recorded['name']} ({recorded['width']} features, digest "
        f"{recorded['digest'][:12]}), but the encoder {encoder.name} ({encoder.width} features, digest "
        f"{encoder.digest[:12]}) was passed. Use {recorded['name']}."
    )


def encoder_batch_size(device: str) -> int:
    """Return the batch size for encoding images: 64, or 8 on a CPU, where it fits the cache (measured 3x faster)."""
    return 8 if device == "cpu" else 64


def batches(items: Sequence[Any], size: int = 64) -> Iterator[Sequence[Any]]:
    """Split a sequence into batches of ``size`` items; the last batch may be smaller."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
