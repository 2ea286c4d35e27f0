"""The recipe that measures captionless with CLIP: its stand-in, its downloads, and the whole of it on few images."""

from __future__ import annotations

import functools
import http.server
import importlib
import io
import json
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import jupytext
import numpy as np
import pytest
import torch
from PIL import Image

from captionless.config.evaluation import ClassifierConfig

ROOT = Path(__file__).parents[1]
RECIPE, FLOWERS = ROOT / "recipes" / "clip", ROOT / "examples" / "flowers"
KINDS = ("daisy", "rose", "sunflower")
NAMES = ("folders", "standin", "present", "measure")


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    monkeypatch.syspath_prepend(RECIPE)
    yield {name: importlib.import_module(name) for name in NAMES}
    for name in NAMES:  # other recipes have modules of the same names
        del sys.modules[name]


def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def tar_of(names: list[str]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for seed, name in enumerate(names):
            member = tarfile.TarInfo(name)
            member.size = len(jpeg(seed))
            tar.addfile(member, io.BytesIO(jpeg(seed)))
    return file.getvalue()


def test_the_stand_in_has_the_geometry_of_clip(recipe: dict[str, ModuleType]) -> None:
    encoder = recipe["standin"].load_stand_in()
    paths = [sorted((FLOWERS / kind).iterdir())[:6] for kind in KINDS]
    images = encoder.encode_images([Image.open(path) for own in paths for path in own])
    texts = encoder.encode_texts([f"a photo of a {kind}" for kind in KINDS])
    right = torch.eye(len(KINDS), dtype=torch.bool).repeat_interleave(6, dim=1)
    cosines, pairs = texts @ images.T, (images @ images.T)[~torch.eye(len(images), dtype=torch.bool)]
    assert images.shape[1] == texts.shape[1] == encoder.width == 512
    assert encoder.logit_scale == 100
    assert 0.2 < cosines[right].mean() < 0.28
    assert 0.16 < cosines[~right].mean() < 0.21
    assert pairs.min() > 0.5
    assert pairs.quantile(0.95) < 0.9


def test_the_map_to_the_geometry_of_clip_keeps_the_order_of_cosines(recipe: dict[str, ModuleType]) -> None:
    move, a, b, c = (getattr(recipe["standin"], name) for name in ("clip_geometry", "A", "B", "C"))
    image = torch.eye(512)[:1]
    for cosine, expected in ((0.65, 0.25), (0.1, 0.19)):
        text = torch.zeros(1, 512)
        text[0, :2] = torch.tensor([cosine, (1 - cosine**2) ** 0.5])
        moved = move(image, a, 0.0) @ move(text, b * c, b * (1 - c**2) ** 0.5).T
        assert float(moved) == pytest.approx(expected, abs=0.005)


def test_retrieval_counts_what_is_found(recipe: dict[str, ModuleType]) -> None:
    cosines, right = torch.tensor([[0.9, 0.1, 0.2], [0.9, 0.5, 0.1]]), torch.tensor([[1, 0, 0], [0, 1, 1]]).bool()
    found = recipe["measure"].retrieval(cosines, right)
    assert found == {"recall_at_1": 0.5, "recall_at_10": 1.0, "precision_at_10": 0.5}


def test_prompts_are_sentences(recipe: dict[str, ModuleType]) -> None:
    assert recipe["measure"].prompt_about("car_side") == "a photo of a car side"
    assert recipe["measure"].prompt_about("orchard", "a satellite photo of {}") == "a satellite photo of an orchard"


def test_archives_become_a_folder_for_each_kind(
    recipe: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = recipe["folders"]
    inner = tar_of(["set/One/a.jpg", "set/One/b.jpg", "../../One/c.jpg", "set/Two/d.jpg", "set/Two/._d.jpg"])
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr("set/images.tar.gz", inner)
        file.writestr("/One/e.jpg", jpeg(9))
        file.writestr("set/Other/f.jpg", jpeg(9))
    public = folders.Public("page", "licence", "address", "x.zip", 1, {"One": "one thing", "Two": "two"})
    monkeypatch.setitem(folders.PUBLIC, "x", public)
    found = folders.public_folder("x", tmp_path, most=3)
    names = sorted(str(path.relative_to(found)) for path in found.rglob("*.jpg"))
    assert names == ["one thing/0001.jpg", "one thing/0002.jpg", "one thing/0003.jpg", "two/0001.jpg"]
    assert (found / "two" / "0001.jpg").read_bytes() == jpeg(3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "x.zip"]


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Serves the end of a file where that is asked for, as the servers of the data sets do."""

    content = bytes(range(256)) * 40

    def do_GET(self) -> None:
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        self.send_response(416 if start >= len(self.content) else 206 if start else 200)
        self.send_header("Content-Length", str(len(self.content[start:])))
        self.end_headers()
        self.wfile.write(self.content[start:])

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("there", [0, 1000, len(Ranges.content)])
def test_a_download_goes_on_where_it_stopped(recipe: dict[str, ModuleType], tmp_path: Path, there: int) -> None:
    (tmp_path / "a.zip.part").write_bytes(Ranges.content[:there])
    with http.server.HTTPServer(("127.0.0.1", 0), functools.partial(Ranges, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        file = recipe["folders"].download(f"http://127.0.0.1:{server.server_port}/a.zip", tmp_path / "a.zip")
        server.shutdown()
    assert file.read_bytes() == Ranges.content
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_every_public_folder_states_address_and_licence(recipe: dict[str, ModuleType]) -> None:
    about = (RECIPE / "README.md").read_text(encoding="utf-8")
    for public in recipe["folders"].PUBLIC.values():
        assert public.address.startswith("https://")
        assert public.licence in about
        assert public.page in about
        assert len(set(public.kinds.values())) == len(public.kinds)


@pytest.mark.slow
def test_one_command_measures_a_folder(
    recipe: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPTIONLESS_CACHE", str(tmp_path / "cache"))
    photos = tmp_path / "photos"
    for kind in KINDS[:2]:
        (photos / kind).mkdir(parents=True)
        for i, path in enumerate(sorted((FLOWERS / kind).iterdir())[:15]):
            Image.open(path).resize((32, 32)).save(photos / kind / f"{i}.png")
    monkeypatch.setattr(recipe["measure"], "JUDGE", ClassifierConfig(size=16, passes=1, images_seen=(64, 64)))
    command = f"--out {tmp_path / 'out'} --folders mine={photos} --encoder stand-in --minutes 0.001 --size 8"
    for _ in range(2):  # the second time everything is there
        recipe["measure"].main([*command.split(), "--images-per-class", "2"])
    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").open(encoding="utf-8")]
    assert [line["row"] for line in lines] == ["encoder", *recipe["present"].ROWS]
    assert all(line["folder"] == "mine" and line["versions"]["torch"] for line in lines)
    assert Image.open(tmp_path / "out" / "mine.png").width > 6 * 64
    table = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert table.count("| nearest, variety") == 3
    assert "real held-out images" in table


def test_the_notebook_holds_its_source() -> None:
    cells = [
        [(cell.cell_type, cell.source) for cell in jupytext.read(RECIPE / f"notebook.{end}").cells]
        for end in ("py", "ipynb")
    ]
    assert cells[0] == cells[1]
