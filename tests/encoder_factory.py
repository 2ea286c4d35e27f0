"""Small dual encoders with random weights, saved as people save theirs, for the tests.

CLIP's vocabulary lies in `clip_vocabulary`: `bpe_simple_vocab_16e6.txt.gz` of OpenAI's CLIP, as the package
open_clip_torch 3.3.0 carries it, with that package's licence.
"""

import gzip
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    EfficientNetConfig,
    EfficientNetImageProcessorPil,
    EfficientNetModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
)

VOCABULARY = Path(__file__).parent / "clip_vocabulary" / "bpe_simple_vocab_16e6.txt.gz"
WORDS = ["a", "an", "of", "photo", "round", "white", "red", "yellow", "daisy", "rose", "cat", "with", "center"]


@cache
def clip_tokenizer(merged: int = 49152 - 256 - 2) -> CLIPTokenizer:
    """CLIP's true tokenizer (Radford et al. 2021): byte-pair encoding with 49,408 entries, or fewer."""
    lines = gzip.decompress(VOCABULARY.read_bytes()).decode("utf-8").split("\n")
    merges = [tuple(line.split()) for line in lines[1 : merged + 1]]
    symbols = list(_byte_symbols().values())
    names = [*symbols, *(symbol + "</w>" for symbol in symbols), *("".join(pair) for pair in merges)]
    names += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={name: number for number, name in enumerate(names)}, merges=merges, model_max_length=77)


def _byte_symbols() -> dict[int, str]:
    """GPT-2's printable stand-in for every byte, in the order in which CLIP numbers them."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def small_clip(folder: Path, *, seed: int = 0, width: int = 24) -> Path:
    """A two-layer CLIP with the first of CLIP's vocabulary, the whole takes a second to load; 32-pixel pictures."""
    torch.manual_seed(seed)
    tokenizer = clip_tokenizer(4000)
    end = len(tokenizer) - 1
    words = {"vocab_size": end + 1, "eos_token_id": end, "bos_token_id": end - 1, "pad_token_id": end}
    layers = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**layers, **words},
        vision_config={**layers, "image_size": 32, "patch_size": 8},
        projection_dim=width,
    )
    return save(folder, CLIPModel(config), tokenizer, clip_image_processor(32))


def clip_image_processor(side: int) -> CLIPImageProcessorPil:
    crop = {"height": side, "width": side}
    return CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=crop)


def small_siglip(folder: Path) -> Path:
    """A two-layer SigLIP that reads 16 tokens, with a tokenizer that knows no limit."""
    torch.manual_seed(0)
    layers = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = SiglipConfig(
        text_config={**layers, "vocab_size": 64, "max_position_embeddings": 16},
        vision_config={**layers, "image_size": 32, "patch_size": 8},
    )
    size = {"height": 32, "width": 32}
    return save(folder, SiglipModel(config), word_tokenizer(), SiglipImageProcessorPil(size=size))


def small_pair(folder: Path) -> Path:
    """The bundled encoder's classes, tiny: EfficientNet for pictures, BERT for words."""
    torch.manual_seed(0)
    vision = EfficientNetConfig(
        image_size=32,
        width_coefficient=0.25,
        in_channels=[32, 16],
        out_channels=[16, 24],
        kernel_sizes=[3, 3],
        strides=[1, 2],
        num_block_repeats=[1, 1],
        expand_ratios=[1, 6],
        depthwise_padding=[],
        initializer_range=0.5,  # else the features of random weights fade to nothing
        hidden_dim=320,
        hidden_size=320,  # what 1,280 channels are at a width of 0.25
    )
    text = BertConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=24,
    )
    config = VisionTextDualEncoderConfig.from_vision_text_configs(vision, text, projection_dim=24)
    model = VisionTextDualEncoderModel(config, EfficientNetModel(vision), BertModel(text))
    return save(folder, model, bert_tokenizer(), EfficientNetImageProcessorPil(size={"height": 32, "width": 32}))


def small_bert(folder: Path) -> Path:
    """A text-only model: what is not a dual encoder."""
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    return save(folder, BertModel(BertConfig(vocab_size=64, **size)), bert_tokenizer(), clip_image_processor(32))


def word_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, and no limit of its own: ``model_max_length`` is 1e30."""
    numbers = {name: number for number, name in enumerate(["<pad>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")


def bert_tokenizer() -> BertTokenizer:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    return BertTokenizer(vocab={name: number for number, name in enumerate(names)})


def save(folder: Path, model: Any, tokenizer: Any, image_processor: Any, dtype: torch.dtype | None = None) -> Path:
    (model if dtype is None else model.to(dtype)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    image_processor.save_pretrained(folder)
    return folder


def pictures(count: int, side: int = 40, seed: int = 0) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 256, (side, side + 9, 3), dtype=np.uint8)) for _ in range(count)]


def edit_json(path: Path, **changes: object) -> None:
    """Change entries of a JSON file; a dict is merged into the one that is there."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for key, value in changes.items():
        content[key] = (content.get(key) or {}) | value if isinstance(value, dict) else value
    path.write_text(json.dumps(content), encoding="utf-8")


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Let ``change`` work on the tensors of a model folder, in place."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def copy(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to))
