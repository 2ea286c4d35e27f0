"""The contract of `captionless export --to onnx`: the graphs compute what PyTorch computes, at any batch size."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import CLIPImageProcessorPil

import encoder_factory
import export_models
import tiny
from captionless.config.sampling import SamplingConfig
from captionless.diffusion.guidance import Guidance
from captionless.encoders.dual_encoder import PromptCut, load_encoder
from captionless.errors import CaptionlessError
from captionless.exports.encoder import write_image, write_text_side
from captionless.exports.graphs import quantise
from captionless.exports.onnx import CONTENTS, GRAPHS, denoiser_inputs, write_files
from captionless.generation.generator import Generator
from captionless.generation.sample import guidance_of
from captionless.progress import Silent

onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install 'captionless[onnx]')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install 'captionless[onnx]')")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
TOLERANCE = 2e-5
PAGE = Path(__file__).parents[2] / "docs" / "export.md"
IDS = re.compile(r"^ids, limit = .*\n^ids = .*\n^vector = .*\n", re.MULTILINE)
"""The lines of the documented code that encode a prompt with the library tokenizers."""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, traced_once: None) -> tuple[Generator, Path]:
    """Two stages and all that a network may have, which takes long."""
    return export(export_models.cascade, tmp_path_factory)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, traced_once: None) -> tuple[Generator, Path]:
    return export(export_models.plain, tmp_path_factory)


def export(make: Callable[[Path], Generator], tmp_path_factory: pytest.TempPathFactory) -> tuple[Generator, Path]:
    folder = tmp_path_factory.mktemp("onnx")
    generator = make(tmp_path_factory.mktemp("encoder"))
    write_files(generator, folder, Silent())
    return generator, folder


def call(path: Path, **inputs: Tensor) -> Any:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_denoiser_computes_the_same_at_any_batch_size(plain: tuple[Generator, Path], n: int) -> None:
    same(*plain, 0, n)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("stage", [0, 1])
def test_the_stages_of_a_cascade_compute_the_same(exported: tuple[Generator, Path], stage: int, n: int) -> None:
    same(*exported, stage, n)


def same(generator: Generator, folder: Path, stage: int, n: int) -> None:
    inputs = denoiser_inputs(generator.stages[stage], n)
    with torch.no_grad():
        wanted = generator.stages[stage].denoiser(*inputs.values())
    assert np.abs(call(folder / GRAPHS[stage], **inputs) - wanted.numpy()).max() < TOLERANCE


@pytest.mark.parametrize("n", [1, 2, 5])
def test_texts_get_the_same_vectors(plain: tuple[Generator, Path], n: int) -> None:
    generator, folder = plain
    texts = list(export_models.NAMES[:n])
    pieces = generator.encoder.text.pieces  # type: ignore[union-attr]
    found = call(folder / "text.onnx", pieces=export_models.piece_matrix(texts, pieces))
    assert np.abs(found - generator.encoder.encode_texts(texts).numpy()).max() < TOLERANCE
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    assert tokenizer["pieces"] == [list(pair) for pair in pieces.items()]  # the columns of `pieces`


@pytest.mark.parametrize("prompt", ["a red rose", "Überrote Röschen und rosebuds", "the banananana porsche 911", "!"])
def test_the_documented_code_samples_from_an_encoder_learned_from_names(
    prompt: str, plain: tuple[Generator, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, folder = plain
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.+?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (whole,) = (block for block in blocks if "onnxruntime" in block)
    (text,) = (block for block in blocks if "pieces = " in block)
    code, lines = IDS.subn(lambda _: text, whole)
    assert lines == 1
    values: dict[str, Any] = {}
    exec(code.replace("flowers-onnx/", f"{folder.as_posix()}/").replace("a red rose", prompt), values)
    wanted = generator.encoder.encode_texts([prompt])[0].numpy()
    assert np.abs(values["vector"] - wanted).max() < TOLERANCE
    assert Image.open("rose.png").size == (8, 8)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_images_get_the_same_vectors(plain: tuple[Generator, Path], n: int) -> None:
    generator, folder = plain
    pixels = tiny.random(n, 3, 16, 16)
    wanted = F.normalize(generator.encoder.model.get_image_features(pixels), dim=1)
    assert np.abs(call(folder / "image.onnx", pixels=pixels) - wanted.numpy()).max() < TOLERANCE
    content = json.loads((folder / CONTENTS).read_text(encoding="utf-8"))
    assert (content["image"]["size"], content["image"]["filter"]) == (16, "bicubic")


def test_the_image_side_is_left_out_where_it_reads_no_squares(tmp_path: Path) -> None:
    encoder = export_models.cascade(tmp_path).encoder
    stretched = CLIPImageProcessorPil(size={"height": 16, "width": 16}, do_center_crop=False)
    assert write_image(replace(encoder, image_processor=stretched), tmp_path, packed=False) is None


@pytest.mark.slow
@pytest.mark.parametrize("legacy", [False, True])
def test_clip_gives_texts_the_same_vectors(tmp_path: Path, legacy: bool) -> None:
    source = encoder_factory.small_clip(tmp_path / "clip", seed=int(legacy))
    if legacy:  # as OpenAI's models on the Hub
        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
        config["text_config"]["eos_token_id"] = 2
        (source / "config.json").write_text(json.dumps(config), encoding="utf-8")
    encoder = load_encoder(str(source))
    about = write_text_side(encoder, tmp_path, packed=False)
    assert (about["kind"], about["limit"]) == ("bytes", 77)
    tokenizer = Tokenizer.from_file(str(tmp_path / about["tokenizer"]))
    texts = ["a red rose", "b", "two big daisies on the eastern side", "c d", "rose " * 90]
    for chosen in (texts[:1], texts[1:3], texts):
        ids = [
            one if len(one) <= 77 else [*one[:76], one[-1]] for one in (tokenizer.encode(text).ids for text in chosen)
        ]
        padded = pad_sequence([torch.tensor(one) for one in ids], batch_first=True, padding_value=-1)
        with warnings.catch_warnings(action="ignore", category=PromptCut):
            wanted = encoder.encode_texts(chosen).numpy()
        assert np.abs(call(tmp_path / about["graph"], ids=padded) - wanted).max() < TOLERANCE
    (code,) = IDS.findall(PAGE.read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(str(tmp_path / about["graph"]), providers=["CPUExecutionProvider"])
    for text, vector in zip(texts, wanted, strict=True):
        values: dict[str, Any] = {"about": {"text": about}, "folder": f"{tmp_path.as_posix()}/", "text": session}
        values |= {"np": np, "Tokenizer": Tokenizer}
        exec(code.replace("a red rose", text), values)
        assert np.abs(values["vector"] - vector).max() < TOLERANCE


@pytest.mark.slow
def test_perturbed_attention_is_an_input_of_the_graph(exported: tuple[Generator, Path]) -> None:
    generator, folder = exported
    inputs = denoiser_inputs(generator.stages[0])
    rows = [call(folder / GRAPHS[0], **inputs | {"identity": torch.full((2,), share)}) for share in (0.0, 1.0)]
    assert np.abs(rows[0] - rows[1]).max() > 0.01


@pytest.mark.slow
def test_the_folder_says_what_sampling_needs(exported: tuple[Generator, Path]) -> None:
    generator, folder = exported
    content = json.loads((folder / CONTENTS).read_text(encoding="utf-8"))
    base, upsampler = content["stages"]
    assert [stage["size"] for stage in (base, upsampler)] == [8, 16]
    assert base["inputs"] == ["xt", "t", "condition", "identity"]
    assert upsampler["low_res"]["size"] == 8
    guidance = guidance_of(SamplingConfig(), generator.stages[0].config.schedule)
    assert isinstance(guidance, Guidance)
    assert base["guidance_interval"] == list(guidance.interval)
    assert base["perturbed_above"] == guidance.perturbed_above
    assert content["settings"]["steps"]["default"] == SamplingConfig().steps
    vectors = load_file(folder / content["text"]["bridge"]["bank"])["vectors"]
    assert torch.equal(vectors.float(), generator.model.bank.half().float())


def test_weights_that_have_8_bits_keep_their_values(plain: tuple[Generator, Path], tmp_path: Path) -> None:
    generator, folder = plain
    model, path = onnx.load(folder / GRAPHS[0]), tmp_path / "packed.onnx"
    quantise(model)
    onnx.save(model, path)
    assert [one for one in model.graph.initializer if one.data_type == onnx.TensorProto.INT8]
    inputs = denoiser_inputs(generator.stages[0])
    assert np.array_equal(call(path, **inputs), call(folder / GRAPHS[0], **inputs))


def test_an_encoder_that_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    generator = export_models.cascade(tmp_path)
    generator.encoder = replace(generator.encoder, text=None)  # type: ignore[type-var]
    with pytest.raises(CaptionlessError, match="cannot be exported"):
        write_files(generator, tmp_path, Silent())


@pytest.mark.slow
def test_the_command_exports_a_model_with_classes(run: Callable[..., int], tmp_path: Path) -> None:
    tiny.saved(tiny.class_model(), tmp_path / "model")
    assert run("export", "model", "--to", "onnx", "--out", "out") == 0
    content = json.loads((tmp_path / "out" / CONTENTS).read_text(encoding="utf-8"))
    assert (content["text"], content["classes"]) == (None, ["daisy", "rose"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", GRAPHS[0], CONTENTS, "examples"]
