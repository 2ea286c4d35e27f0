"""Words and pictures into unit vectors of one space: any transformers dual encoder.

A dual encoder (CLIP, Radford et al. 2021, arXiv:2103.00020) maps a picture and the words for it to nearby
vectors. Training needs only the picture side; the text side is what lets a model paint from words later.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionless.encoders.digest import content_digest
from captionless.encoders.domain import read_domain
from captionless.encoders.hub import BUNDLED, CLIP, find_encoder, quiet
from captionless.encoders.loading import load_parts
from captionless.errors import CaptionlessError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

__all__ = [
    "BUNDLED",
    "CLIP",
    "Encoder",
    "PromptCut",
    "check_same",
    "choose_encoder",
    "in_domain_score",
    "load_encoder",
]

_BATCH = 64
# On a CPU a few pictures at a time stay in its cache: measured 3 times faster than 64 with the bundled encoder.
_CPU_BATCH = 8
_AUTO = "auto"
# These number positions from the padding token on, so that many fewer tokens fit than positions are there.
_OFFSET_POSITIONS = {"roberta", "xlm-roberta", "camembert", "altclip_text_model"}


class PromptCut(UserWarning):
    """A text was longer than the encoder reads; its end was left out."""


@dataclass(frozen=True, eq=False)
class Encoder:
    """A loaded dual encoder. Get one from `load_encoder` or `choose_encoder`.

    Attributes:
        name: as the person named it: ``"bundled"``, a hub id or a folder.
        folder: where its files lie on this machine.
        model: the transformers model, float32, in eval mode.
        tokenizer: its tokenizer.
        image_processor: its image processor (Pillow backend).
        device: where it computes.
    """

    name: str
    folder: Path
    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    image_processor: Any = field(repr=False)
    device: str = "cpu"

    def encode_images(self, images: Sequence[Image]) -> Tensor:
        """Encode pictures of any size and mode; return (n, width) float32 on the CPU, each of length 1."""
        import torch

        inputs = (
            self.image_processor(images=[image.convert("RGB") for image in batch], return_tensors="pt")
            for batch in _batches(images, _CPU_BATCH if self.device == "cpu" else _BATCH)
        )
        found = [self._unit(self.model.get_image_features, dict(batch)) for batch in inputs]
        vectors = torch.cat(found) if found else torch.empty(0, self.width)
        if vectors.shape[1] != self.width:
            raise CaptionlessError(
                f"the encoder {self.name} gives pictures {vectors.shape[1]} features and words {self.width}: "
                "they share no space. Use another encoder."
            )
        return vectors

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Encode texts; return (n, width) float32 on the CPU, each of length 1.

        A text longer than `text_limit` is cut where the tokenizer cuts, with a `PromptCut` warning.

        Raises:
            CaptionlessError: a text is empty.
        """
        import torch

        if isinstance(texts, str):
            raise TypeError("encode_texts takes a list of texts, not one text")
        self._check_texts(texts)
        vectors = [self._unit(self.model.get_text_features, self._tokens(batch)) for batch in _batches(texts, _BATCH)]
        return torch.cat(vectors) if vectors else torch.empty(0, self.width)

    @cached_property
    def digest(self) -> str:
        """Content hash, 64 hex digits: the same wherever the encoder lies and however its files are split."""
        return content_digest(self.folder, self.image_processor, self.text_limit)

    @cached_property
    def width(self) -> int:
        """Number of features of the shared space (512 for CLIP ViT-B/32 and for the bundled encoder)."""
        # Encoding a word is the one way that holds for every kind: configurations name this differently.
        return int(self.encode_texts(["a"]).shape[1])

    @cached_property
    def image_size(self) -> int:
        """Side in pixels of the square that the encoder sees."""
        processor = self.image_processor
        crops = getattr(processor, "do_center_crop", False) and getattr(processor, "crop_size", None)
        size = dict(crops or getattr(processor, "size", None) or {})
        vision = getattr(self.model.config, "vision_config", None)
        side = size.get("height") or size.get("shortest_edge") or getattr(vision, "image_size", None)
        return int(side or 224)

    @cached_property
    def logit_scale(self) -> float:
        """Inverse temperature of the encoder's own contrastive training (100 for CLIP); 100 if it has none."""
        scale = getattr(self.model, "logit_scale", None)
        return float(scale.detach().exp()) if scale is not None else 100.0

    @cached_property
    def text_limit(self) -> int:
        """Most tokens of a text that are read, start and end tokens included (77 for CLIP)."""
        text = getattr(self.model.config, "text_config", self.model.config)
        positions = int(getattr(text, "max_position_embeddings", 512))
        if text.model_type in _OFFSET_POSITIONS:
            positions -= int(text.pad_token_id or 0) + 1
        # Tokenizers that know no limit say 1e30.
        return int(min(positions, self.tokenizer.model_max_length))

    def _unit(self, features: Callable[..., Any], inputs: Mapping[str, Any]) -> Tensor:
        import torch

        with torch.no_grad():
            found = features(**{name: value.to(self.device) for name, value in inputs.items()})
            vectors = found if isinstance(found, torch.Tensor) else found.pooler_output
            vectors = vectors.float().cpu()
        lengths = vectors.norm(dim=-1, keepdim=True)
        if vectors.ndim != 2 or not bool((lengths.isfinite() & (lengths > 0)).all()):
            raise CaptionlessError(
                f"the encoder {self.name} gave no usable vectors (shape {tuple(vectors.shape)}, zero or not "
                "finite). Its weights may be damaged, or it is not one vector a picture: use another."
            )
        unit: Tensor = vectors / lengths
        return unit

    def _tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Tokenize as the encoder was taught: SigLIP saw every text padded to its full length, unmasked."""
        siglip = str(self.model.config.model_type).startswith("siglip")
        tokens = self.tokenizer(
            list(texts),
            truncation=True,
            max_length=self.text_limit,
            padding="max_length" if siglip else True,
            return_tensors="pt",
        )
        accepted = set(inspect.signature(self.model.get_text_features).parameters)
        accepted -= {"attention_mask"} if siglip else set()
        return {name: value for name, value in tokens.items() if name in accepted}

    def _check_texts(self, texts: Sequence[str]) -> None:
        special = self.tokenizer.num_special_tokens_to_add()
        for number, text in enumerate(texts, 1):
            try:
                text.encode()
            except UnicodeEncodeError as error:  # what Python makes of bytes that are no UTF-8
                raise CaptionlessError(f"text {number} is not valid UTF-8. Type or save it again.") from error
            count = len(self.tokenizer(text, verbose=False)["input_ids"])
            if not text.strip() or count <= special:
                raise CaptionlessError(f"text {number} is empty ({text!r}). Write what it should show.")
            if count > self.text_limit:
                shown = text if len(text) <= 60 else text[:57] + "..."
                warnings.warn(
                    f"the text {shown!r} has {count} tokens and the encoder {self.name} reads "
                    f"{self.text_limit}: the rest is left out",
                    PromptCut,
                    stacklevel=3,
                )


def load_encoder(name: str, device: str = "cpu", *, announce: Callable[[str], None] | None = None) -> Encoder:
    """Load ``"bundled"``, a hub id (``"openai/clip-vit-base-patch32"``) or a local folder.

    Weights come from safetensors only, whatever their stored format they compute in float32, and no code of
    the repository is run. A hub id that is in the local hub cache needs no network.

    Args:
        name: which encoder.
        device: a torch device to compute on.
        announce: is given one line naming the size before anything is downloaded.

    Raises:
        CaptionlessError: not found, out of reach, damaged, or not a dual encoder.
    """
    folder = find_encoder(name, announce)
    with quiet():
        try:
            return Encoder(name, folder, *load_parts(name, folder, device), device)
        except CaptionlessError:
            raise
        except Exception as error:  # each kind of damage comes as an exception of another library
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise CaptionlessError(
                f"the encoder {name} in {folder} cannot be loaded ({reason}). Fetch it again or use another."
            ) from error


def choose_encoder(
    name: str,
    images: Sequence[Image],
    *,
    device: str = "cpu",
    announce: Callable[[str], None] | None = None,
) -> tuple[Encoder, str]:
    """Load the encoder ``name``; for ``"auto"``, the one that knows what ``images`` show.

    ``auto`` takes the bundled encoder when `in_domain_score` of the pictures reaches its threshold, else
    `CLIP`. A few dozen pictures of a folder are enough to tell.

    Returns:
        The encoder, and one sentence with the reason, to print and to record.

    Raises:
        CaptionlessError: see `load_encoder`; or ``auto`` without pictures.
    """
    if name != _AUTO:
        return load_encoder(name, device, announce=announce), f"{name}: asked for"
    if not images:
        raise CaptionlessError("no picture to choose an encoder by. Name one with --encoder.")
    bundled = load_encoder(BUNDLED, device)
    score, threshold = in_domain_score(bundled, images), read_domain(bundled.folder).threshold
    figures = f"in-domain score {score:.2f}, threshold {threshold:.2f}"
    if score >= threshold:
        return bundled, f"bundled: chosen because it knows what these pictures show ({figures})"
    reason = f"the bundled encoder does not know what these pictures show ({figures})"
    try:
        return load_encoder(CLIP, device, announce=announce), f"{CLIP}: chosen because {reason}"
    except CaptionlessError as error:
        raise CaptionlessError(f"{reason}, and {error}") from error


def in_domain_score(encoder: Encoder, images: Sequence[Image]) -> float:
    """Score how well an encoder knows pictures like these, in -1..1; see `encoder_domain.Domain.score`.

    Raises:
        CaptionlessError: the encoder does not say what it knows (only the bundled one does).
    """
    return read_domain(encoder.folder).score(encoder.encode_images(images))


def check_same(recorded: Mapping[str, Any], encoder: Encoder) -> None:
    """Refuse an encoder other than the one a model was trained with.

    Args:
        recorded: ``name``, ``digest`` and ``width``, as a model folder keeps them.
        encoder: the one about to be used.

    Raises:
        CaptionlessError: names both. The digest decides; a name or a place may change.
    """
    if recorded["digest"] == encoder.digest:
        return
    raise CaptionlessError(
        f"this model was trained with the encoder {recorded['name']} ({recorded['width']} features, digest "
        f"{recorded['digest'][:12]}) and was given {encoder.name} ({encoder.width} features, digest "
        f"{encoder.digest[:12]}). Use the one it was trained with."
    )


def _batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
