"""Inputs at random, for the parsers of files that people give: whatever is in them, the answer is a value or one line.

``pytest -m slow tests/test_fuzz.py`` tries some of them; ``python tools/fuzz.py`` goes on for as long as it is told."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

import image_zoo as zoo
import tiny
from captionless.checkpoints.config import CONFIG, load_config, save_config
from captionless.data.decode import decode_quietly
from captionless.data.folder import match_names
from captionless.data.images import read_images
from captionless.data.labels import read_label_table
from captionless.encoders.vector_csv import read_vectors
from captionless.errors import CaptionlessError
from captionless.generation.prompts import check_prompts, read_prompts
from captionless.models.unet import Denoiser
from captionless.tensor_files import read_tensors, save_tensors

_SMALL = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8))
_GREY16 = Image.fromarray(np.arange(480, dtype=np.uint16).reshape(20, 24))
_SAMPLES = np.random.default_rng(0).random((6, 8, 3), np.float32)
_IMAGES = [
    *(zoo.encoded(_SMALL, kind) for kind in ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "TIFF", "GIF", "PPM", "JPEG2000")),
    *(zoo.encoded(_SMALL, kind, icc_profile=zoo.linear_profile()) for kind in ("JPEG", "PNG", "TIFF")),
    *(zoo.encoded(_SMALL.convert(mode), "TIFF", compression=None) for mode in ("RGBA", "CMYK", "L", "1", "F", "LAB")),
    *(zoo.encoded(_SMALL, "TIFF", compression=kind) for kind in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")),
    *(zoo.encoded(_SMALL.convert(mode), "PNG") for mode in ("RGBA", "LA", "P", "1")),
    zoo.encoded(_GREY16, "PNG"),
    zoo.encoded(_GREY16, "TIFF"),
    zoo.float_tiff(_SAMPLES),
    zoo.float_tiff(_SAMPLES, ">", 3, planar=True),
    zoo.with_chunks(zoo.encoded(_SMALL, "PNG"), zoo.chunk(b"cICP", b"\1\x08\0\1"), zoo.chunk(b"gAMA", b"\0\1\0\0")),
    b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf\0\0\0\x08meta",
]
_EDITS = st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 8), st.binary(max_size=8)), max_size=6)


@st.composite
def _images(draw: Any) -> bytes:
    """An image of which some bytes are replaced, taken out or put in, most of them in its header."""
    data = draw(st.sampled_from(_IMAGES))
    for at, gone, new in draw(_EDITS):
        at %= max(1, len(data) if at % 3 else min(len(data), 200))
        data = data[:at] + new + data[at + gone :]
    return data[: draw(st.integers(0, 2 * len(data)))] if draw(st.integers(0, 9)) == 0 else data


@st.composite
def _parts(draw: Any) -> bytes:
    """A PNG or a TIFF whose parts are sound and contradict each other."""
    number = st.one_of(st.integers(0, 40), st.integers(0, 2**32 - 1))
    if draw(st.booleans()):
        tags = draw(
            st.dictionaries(st.sampled_from([254, 256, 257, 258, 259, 262, 274, 277, 278, 284, 317, 322]), number)
        )
        return zoo.float_tiff(_SAMPLES, **{f"t{tag}": value for tag, value in tags.items()})
    names = st.sampled_from([b"iCCP", b"gAMA", b"cICP", b"sRGB", b"eXIf", b"tRNS", b"acTL", b"zTXt", b"PLTE", b"sBIT"])
    chunks = [zoo.chunk(draw(names), draw(st.binary(max_size=40)), sound=draw(st.booleans())) for _ in range(3)]
    bits, kind = draw(st.sampled_from([1, 2, 4, 8, 16])), draw(st.sampled_from([0, 2, 3, 4, 6]))
    width, height = draw(st.integers(0, 9)), draw(st.integers(0, 9))
    return zoo.with_chunks(zoo.png(width, height, bits, kind, draw(st.binary(max_size=99))), *chunks)


def _check_image(data: bytes) -> None:
    found, notes = decode_quietly(data)
    assert isinstance(found, str) or (found.mode in ("RGB", "RGBA") and min(found.size) > 0)
    assert all(isinstance(note, str) and "\n" not in note for note in notes)


def _one_line(error: CaptionlessError) -> None:
    assert "\n" not in str(error)


def _answers(read: Callable[[Path], object], content: bytes) -> None:
    """Read a file with this content; an error must be one line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        try:
            read(path)
        except CaptionlessError as error:
            _one_line(error)


_CELLS = st.one_of(st.text(max_size=8), st.sampled_from(["a.jpg", "rose/a.jpg", "nan", "1e999", "'=1", '"', "-0", " "]))
_TABLES = st.one_of(
    st.binary(max_size=200),
    st.lists(st.lists(_CELLS, max_size=4).map(",".join), max_size=6).map(lambda rows: _utf8("file,label\n", rows)),
    st.lists(st.lists(_CELLS, max_size=4).map(",".join), max_size=6).map(lambda rows: _utf8("", rows)),
)


def _utf8(head: str, rows: list[str]) -> bytes:
    return (head + "\n".join(rows)).encode("utf-8", "surrogatepass")


def _check_table(content: bytes) -> None:
    def labels(path: Path) -> None:
        match_names(["a.jpg", "rose/a.jpg"], read_label_table(path), "/photos")

    _answers(labels, content)
    _answers(lambda path: read_vectors(path, 2), content)


_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
_KEYS = st.sampled_from(["prompt", "text", "label", "negative", "n", "seed", "guidance", "other"])
_LINES = st.one_of(
    st.dictionaries(_KEYS, _VALUES).map(json.dumps),
    st.text(max_size=30),
    st.sampled_from(
        ["[" * 100_000, '{"prompt": "a", "seed": ' + "9" * 5000 + "}", '{"prompt": "\\ud800"}', "{}", "\0"]
    ),
)
_PROMPTS = st.one_of(st.binary(max_size=200), st.lists(_LINES, max_size=4).map(lambda lines: _utf8("", lines)))


def _check_prompts(content: bytes) -> None:
    def read(path: Path) -> None:
        prompts = read_prompts(path)
        for prompt in prompts:
            check_prompts([prompt.text], 1 if prompt.n is None else prompt.n, prompt.seed or 0)
            prompt.text.encode()  # as every tokenizer does

    _answers(read, content)


def _check_folder(names: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in names.items():
            (Path(folder) / name).write_bytes(content)
        try:
            assert len(list(read_images(folder))) == len(names)
        except CaptionlessError as error:
            _one_line(error)


_NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda name: not name.startswith(".")
)

_ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "F16", "BF16", "F64", "I8", "BOOL", "F4", "F8_E4M3", "C64", "?"]) | _VALUES,
        "shape": st.lists(st.integers(0, 2**64), max_size=4) | _VALUES,
        "data_offsets": st.lists(st.integers(0, 64), min_size=2, max_size=2) | _VALUES,
    },
)
_METADATA = st.one_of(_VALUES, _VALUES.map(lambda value: {"captionless": json.dumps(value)}), st.just({}))


@st.composite
def _headers(draw: Any) -> bytes:
    """A safetensors file with a header that may say anything, or a sound one of which some bytes are changed."""
    if draw(st.booleans()):
        with tempfile.TemporaryDirectory() as folder:
            save_tensors(Path(folder) / "x", {"a": torch.ones(3), "b": torch.ones(2, 2).half()}, {"model": "m"})
            data = (Path(folder) / "x").read_bytes()
        for at, gone, new in draw(_EDITS):
            at %= len(data)
            data = data[:at] + new + data[at + gone :]
        return data
    header = draw(st.dictionaries(st.text(max_size=8), _ENTRIES | _VALUES, max_size=3))
    text = json.dumps(header | {"__metadata__": draw(_METADATA)}).encode()
    length = draw(st.just(len(text)) | st.integers(0, 2**64 - 1))
    return length.to_bytes(8, "little") + text + draw(st.binary(max_size=64))


def _check_tensors(content: bytes) -> None:
    _answers(read_tensors, content)
    _answers(lambda path: read_tensors(path, "m"), content)


_NUMBERS = st.sampled_from([-1, 0, 1, 3, 16, 2**31, 10**9, 2**70, 0.5, -0.0, 1e308])


@st.composite
def _configs(draw: Any) -> bytes:
    """A ``config.json`` of which some values are replaced or left out."""
    with tempfile.TemporaryDirectory() as folder:
        save_config(Path(folder), draw(st.sampled_from([tiny.model().config, tiny.class_model().config])))
        values = json.loads((Path(folder) / CONFIG).read_bytes())
    for _ in range(draw(st.integers(0, 4))):
        place = values
        while isinstance(inner := place[key := draw(st.sampled_from(sorted(place)))], dict) and inner:
            place = inner
        if draw(st.integers(0, 4)):
            place[key] = draw(_NUMBERS | _VALUES)
        elif len(place) > 1:
            del place[key]
    return json.dumps(values).encode()


def _check_config(content: bytes) -> None:
    def read(path: Path) -> None:
        path.rename(path.parent / CONFIG)
        config = load_config(path.parent)
        assert load_config(path.parent) == config
        with torch.device("meta"):
            Denoiser(config.denoiser)

    _answers(read, content)


TARGETS: dict[str, tuple[Callable[[Any], None], st.SearchStrategy[Any]]] = {
    "images": (_check_image, st.one_of(_images(), _parts())),
    "tables": (_check_table, _TABLES),
    "prompts": (_check_prompts, _PROMPTS),
    "tensors": (_check_tensors, _headers()),
    "configs": (_check_config, _configs() | st.binary(max_size=200)),
    "folders": (_check_folder, st.dictionaries(_NAMES, st.sampled_from([b"", *_IMAGES[:9]]), max_size=4)),
}
"""By name, what is tried: a function that fails where the product does, and the inputs it is given."""


def fuzz(target: str, examples: int, number: int = 0) -> None:
    """Try a number of inputs; another ``number`` tries others."""
    check, inputs = TARGETS[target]
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    phases = [Phase.generate, Phase.shrink]

    @seed(number)
    @settings(max_examples=examples, deadline=None, database=None, phases=phases, suppress_health_check=quiet)
    @given(inputs)
    def run(value: Any) -> None:
        check(value)

    run()
