"""What pictures are compared by: vectors of the model's own encoder, or of one that had no part in its training.

A model that was taught by an encoder pleases that encoder; only features from elsewhere are an independent witness.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from captionless.device import to_device
from captionless.encoders.dual_encoder import Encoder, load_encoder
from captionless.encoders.hub import BUNDLED, find_encoder, quiet, weight_files
from captionless.errors import CaptionlessError
from captionless.models.blocks import scaled

if TYPE_CHECKING:
    from PIL.Image import Image

_BATCH = 64
# On a CPU a few pictures at a time stay in its cache, as with encoders.
_CPU_BATCH = 8
_CONFIG = "config.json"
_PREPROCESSING = ("preprocessor_config.json", "processor_config.json")
_PIXELS = "pixel_values"
_POOLER = "pooler."
_EXPECTED = "Name a model of transformers for pictures, such as facebook/dinov2-small, or a folder that holds one."


@dataclass(frozen=True)
class Features:
    """What turns pictures, and for a dual encoder words, into vectors.

    Args:
        name: as the person named it.
        independent: whether it had no part in the training of the model that is judged.
        encode_images: pictures of any size and mode → float32 (n, d) on the CPU.
        encode_texts: texts → vectors of the same space, (n, d); None where only pictures are understood.
    """

    name: str
    independent: bool
    encode_images: Callable[[Sequence[Image]], Tensor] = field(repr=False)
    encode_texts: Callable[[Sequence[str]], Tensor] | None = field(default=None, repr=False)


def own_features(encoder: Encoder) -> Features:
    """Return the features of the encoder that the judged model was trained with; they are not independent."""
    return _of_encoder(encoder, encoder.name, independent=False)


def load_features(
    name: str | Path,
    device: str = "cpu",
    *,
    own: Collection[str] = (),
    announce: Callable[[str], None] | None = None,
) -> Features:
    """Load a model of ``transformers`` for pictures as features; weights from safetensors only, no foreign code.

    A dual encoder gives its vectors of both sides, at length ``sqrt(d)``. Any other model for pictures gives, as they
    are, what it pools (``pooler_output``), or where it pools nothing or its file lacks the pooler's weights, the mean
    over all tokens or places of its last hidden state.

    Args:
        name: a hub id (``"facebook/dinov2-small"``), a local folder, or ``"bundled"``.
        device: a torch device to compute on.
        own: content hashes of the encoders that the judged model was trained with; under any name, they do not count as
            independent.
        announce: is given one line naming the size before anything is downloaded.

    Raises:
        CaptionlessError: not found, out of reach, damaged, without image preparation, not for pictures, or with
            features that are not finite or not the same each time.
    """
    name = str(name)
    folder = _find(name, announce)
    _check_folder(folder, name)
    if _reads(folder, name) == "both":
        encoder = load_encoder(str(folder), device)
        independent = encoder.digest not in own
        return _of_encoder(encoder, name, independent)
    return Features(name, True, _load_model(folder, name, device).encode)


def _of_encoder(encoder: Encoder, name: str, independent: bool) -> Features:
    """Return a dual encoder's vectors, scaled: of unit length, KID's kernel ``(x . y / d + 1)^3`` would see next to
    nothing of them; at the length ``sqrt(d)``, their elements are about 1, as it expects, and x . y / d is the cosine.
    """
    return Features(
        name,
        independent,
        lambda images: scaled(encoder.encode_images(images)),
        lambda texts: scaled(encoder.encode_texts(texts)),
    )


def _find(name: str, announce: Callable[[str], None] | None) -> Path:
    """Return the model's folder; the hub is asked for what neither is a folder nor lies in its local cache."""
    folder = os.path.expanduser(name)
    if name != BUNDLED and name.strip() and os.path.exists(folder):
        return Path(folder).absolute()
    # `find_encoder` takes from the cache only what has a tokenizer, and a model for pictures has none.
    cached = None if name == BUNDLED else _cached(name)
    return cached or find_encoder(name, announce, "--features")


def _cached(name: str) -> Path | None:
    """Look the hub id up in the local cache, without any network; None where it is not there as a whole."""
    import huggingface_hub as hub

    try:
        folder = Path(hub.snapshot_download(name, local_files_only=True))
    except (OSError, ValueError):  # not there, or no hub id
        return None
    return None if _missing(folder) else folder


def _check_folder(folder: Path, name: str) -> None:
    if not folder.is_dir():
        raise CaptionlessError(f"{name} is a file, not the folder of a model. {_EXPECTED}")
    if missing := _missing(folder):
        raise CaptionlessError(f"{name} holds no whole model for pictures: there is no {missing} in it. {_EXPECTED}")


def _missing(folder: Path) -> str | None:
    """Name the first file that loading needs and the folder has not; None where all are there."""
    if not (folder / _CONFIG).is_file():
        return _CONFIG
    weights = weight_files(folder)
    if not weights:
        return "model.safetensors (no other weights are read)"
    if absent := [file.name for file in weights if not file.is_file()]:
        return absent[0]
    return None if any((folder / file).is_file() for file in _PREPROCESSING) else _PREPROCESSING[0]


def _reads(folder: Path, name: str) -> str:
    """Tell from its configuration what a model reads: ``both`` pictures and words, or ``pictures``; refuse others."""
    from transformers import MODEL_MAPPING, AutoConfig

    with quiet():
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # each kind of damage comes as an exception of another library
            raise _unloadable(name, folder, error) from error
    found = MODEL_MAPPING.get(type(config), None)
    kinds = found if isinstance(found, list | tuple) else [found]
    if any(hasattr(kind, "get_image_features") and hasattr(kind, "get_text_features") for kind in kinds):
        return "both"
    if any(getattr(kind, "main_input_name", None) == _PIXELS for kind in kinds):
        return "pictures"
    raise CaptionlessError(f"{name} is a model of type {config.model_type!r}, which reads no pictures. {_EXPECTED}")


def _load_model(folder: Path, name: str, device: str) -> _ImageModel:
    from transformers import AutoModel

    # From its own module: several transformers 5 releases hide the public name where torchvision is missing.
    from transformers.models.auto.image_processing_auto import AutoImageProcessor

    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with quiet():
        try:
            network, report = AutoModel.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **local
            )
            # The Pillow backend, wherever torchvision happens to be installed: the same pixels on every machine.
            processor = AutoImageProcessor.from_pretrained(folder, backend="pil", **local)
            network = to_device(network.eval().requires_grad_(False), torch.device(device))
        except Exception as error:  # each kind of damage comes as an exception of another library
            raise _unloadable(name, folder, error) from error
    missing = sorted(report["missing_keys"])
    # A classifier's file has no weights for the pooler, and transformers makes up random ones.
    pools = not any(key.startswith(_POOLER) for key in missing)
    if lost := [key for key in missing if not key.startswith(_POOLER)]:
        raise CaptionlessError(
            f"{name} is not whole: {len(lost)} tensors are missing from its weights, such as {lost[0]}. Fetch it "
            "again, or use another."
        )
    model = _ImageModel(name, network, processor, device, pools)
    model.check()
    return model


def _unloadable(name: str, folder: Path, error: Exception) -> CaptionlessError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return CaptionlessError(f"{name} in {folder} cannot be loaded ({reason}). Fetch it again. {_EXPECTED}")


@dataclass(frozen=True, eq=False)
class _ImageModel:
    """A transformers model that reads pictures alone.

    Args:
        name: as the person named it.
        network: the model, float32, in eval mode.
        processor: its image processor.
        device: where it computes.
        pools: whether its own pooled output is to be believed.
    """

    name: str
    network: Any
    processor: Any
    device: str
    pools: bool

    @torch.no_grad()
    def encode(self, images: Sequence[Image]) -> Tensor:
        """Encode pictures of any size and mode; return float32 (n, d) on the CPU, not normalised."""
        size = _CPU_BATCH if self.device == "cpu" else _BATCH
        if not images:
            return self.encode([_probe()])[:0]
        return torch.cat([self._encode(images[start : start + size]) for start in range(0, len(images), size)])

    def check(self) -> None:
        """Refuse a model that cannot read a picture, or answers differently each time (ViT-MAE hides a random part)."""
        try:
            first, second = (self.encode([_probe()]) for _ in range(2))
        except CaptionlessError:
            raise
        except Exception as error:  # what it needs besides pictures, or how it prepares them, is its own
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise CaptionlessError(f"{self.name} cannot read a picture ({reason}). {_EXPECTED}") from error
        if not torch.allclose(first, second, rtol=1e-3, atol=1e-5):
            raise CaptionlessError(
                f"{self.name} gives the same picture other features each time, so nothing can be compared by it. "
                f"{_EXPECTED}"
            )

    def _encode(self, images: Sequence[Image]) -> Tensor:
        inputs = self.processor(images=[image.convert("RGB") for image in images], return_tensors="pt")
        outputs = self.network(pixel_values=inputs[_PIXELS].to(self.device))
        vectors = _pooled(outputs, self.pools)
        if vectors is None:
            raise CaptionlessError(f"{self.name} gives no features of a picture but {', '.join(outputs)}. {_EXPECTED}")
        vectors = vectors.float().cpu()
        if len(vectors) != len(images) or not bool(vectors.isfinite().all()):
            raise CaptionlessError(
                f"{self.name} gave unusable features (shape {tuple(vectors.shape)}, or not finite). Its weights may be "
                "damaged: fetch it again, or use another."
            )
        return vectors


def _pooled(outputs: Mapping[str, Any], pools: bool) -> Tensor | None:
    """One vector a picture, (n, d), of what a model gives; None where there is neither of the two outputs."""
    pooled, hidden = outputs.get("pooler_output"), outputs.get("last_hidden_state")
    if pools and pooled is not None:
        return torch.as_tensor(pooled).flatten(1)
    if hidden is None or hidden.ndim not in (3, 4):
        return None
    return torch.as_tensor(hidden).mean(1 if hidden.ndim == 3 else (2, 3))


def _probe() -> Image:
    """Return a picture to try a model with: colours that run across it, so that every part of it differs."""
    from PIL import Image

    ramp = Image.linear_gradient("L")
    return Image.merge("RGB", (ramp, ramp.rotate(90), ramp.rotate(180))).resize((64, 64))
