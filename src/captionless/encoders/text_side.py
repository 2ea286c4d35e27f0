"""The text side of an encoder: texts to vectors of the shared space, by transformers or by PyTorch alone.

Loading transformers takes longer than generating an image, so the bundled encoder reads texts without it.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from captionless.encoders.digest import BUNDLED_DIGESTS
from captionless.encoders.model_errors import foreign, read_settings
from captionless.tensor_files import read_tensors


class TextSide(Protocol):
    """Encodes texts; ``limit`` is the maximum number of tokens per text, of which ``special`` carry no text."""

    @property
    def limit(self) -> int: ...  # noqa: D102

    @property
    def special(self) -> int: ...  # noqa: D102

    def count(self, text: str) -> int:
        """Return the number of tokens of a text, before truncation and including the special tokens."""

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return the vectors of texts, (n, width), not normalised. Longer texts are truncated."""


@dataclass(frozen=True, eq=False)
class TransformersText:
    """The text side of any dual encoder of transformers."""

    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)

    @cached_property
    def limit(self) -> int:
        """The model's number of positions, or the tokenizer's own limit if that is smaller."""
        text = getattr(self.model.config, "text_config", self.model.config)
        with foreign():  # tokenizers without a limit report 1e30
            return int(min(getattr(text, "max_position_embeddings", 512), self.tokenizer.model_max_length))

    @property
    def special(self) -> int:
        """The number of special tokens, such as start and end."""
        return int(self.tokenizer.num_special_tokens_to_add())

    def count(self, text: str) -> int:
        """Return the number of tokens of a text; see ``TextSide``."""
        return len(self.tokenizer(text, verbose=False)["input_ids"])

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Tokenize as in training; SigLIP was trained on texts padded to the maximum length, without attention mask."""
        siglip = str(self.model.config.model_type).startswith("siglip")
        tokens = self.tokenizer(
            list(texts),
            truncation=True,
            max_length=self.limit,
            padding="max_length" if siglip else True,
            return_tensors="pt",
        )
        accepted = set(inspect.signature(self.model.get_text_features).parameters)
        accepted -= {"attention_mask"} if siglip else set()
        inputs = {name: value.to(self.model.device) for name, value in tokens.items() if name in accepted}
        found = self.model.get_text_features(**inputs)
        return found if isinstance(found, Tensor) else torch.as_tensor(found.pooler_output)


class BertText:
    """The text side of the bundled encoder: BERT (arXiv:1810.04805), its pooler, and the projection.

    The vectors equal those of transformers' ``VisionTextDualEncoderModel`` up to rounding; a test compares them.

    Args:
        folder: the encoder's folder, with ``config.json``, ``tokenizer.json`` and ``model.safetensors``.
        device: the torch device to compute on.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        from tokenizers import Tokenizer

        config = read_settings(folder / "config.json")
        with foreign():
            self._config = config["text_config"]
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self.limit = int(self._config["max_position_embeddings"])
            self.special = int(self._tokenizer.num_special_tokens_to_add(False))
        tensors = read_tensors(folder / "model.safetensors", BUNDLED_DIGESTS.image)
        self._weights = {
            name.removeprefix("text_model."): tensor.to(device).float()
            for name, tensor in tensors.items()
            if name.startswith("text_")
        }

    def count(self, text: str) -> int:
        """Return the number of tokens of a text; see ``TextSide``."""
        return len(self._tokenizer.encode(text).ids)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return the vectors of texts; see ``TextSide``."""
        tokens = [torch.tensor(self._truncated(text)) for text in texts]
        ids = pad_sequence(tokens, batch_first=True, padding_value=-1)
        return self.vectors(ids.to(self._weights["text_projection.weight"].device))

    def vectors(self, ids: Tensor) -> Tensor:
        """Return the vectors of token ids, (n, length) with -1 behind the end of a text, (n, width), not normalised."""
        word, position, kind = (
            self._weights[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")
        )
        h = self._norm("embeddings", word[ids.clamp(min=0)] + position[: ids.shape[1]] + kind[0])
        mask = (ids >= 0)[:, None, None]
        for layer in range(self._config["num_hidden_layers"]):
            h = self._layer(f"encoder.layer.{layer}", h, mask)
        pooled = torch.tanh(self._linear("pooler.dense", h[:, 0]))
        return F.linear(pooled, self._weights["text_projection.weight"])

    def _truncated(self, text: str) -> list[int]:
        ids = self._tokenizer.encode(text).ids
        return ids if len(ids) <= self.limit else [*ids[: self.limit - 1], ids[-1]]  # the end token stays

    def _layer(self, name: str, h: Tensor, mask: Tensor) -> Tensor:
        """Apply a layer of the transformer encoder, with normalisation after each residual connection."""
        parts = (self._linear(f"{name}.attention.self.{part}", h) for part in ("query", "key", "value"))
        heads = self._config["num_attention_heads"]
        q, k, v = (part.view(*part.shape[:2], heads, -1).transpose(1, 2) for part in parts)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
        h = self._norm(f"{name}.attention.output", h + self._linear(f"{name}.attention.output.dense", seen))
        wide = F.gelu(self._linear(f"{name}.intermediate.dense", h))
        return self._norm(f"{name}.output", h + self._linear(f"{name}.output.dense", wide))

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = (self._weights[f"{name}.LayerNorm.{part}"] for part in ("weight", "bias"))
        return F.layer_norm(x, weight.shape, weight, bias, self._config["layer_norm_eps"])
