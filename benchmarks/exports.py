"""How close the exports of the bundled model are to PyTorch, and how long the web page takes for an image.

    python -m benchmarks.exports --page page --onnx flowers-onnx    # some 15 minutes on two idle CPU cores
    python -m benchmarks.exports --table                            # the tables of the results

``page`` and ``flowers-onnx`` are written by ``captionless export bundled --to web`` and ``--to onnx``. The parts:

- ``onnx``: largest deviation of each graph at batches of 1, 2 and 5, of both folders, in ONNX Runtime;
- ``diffusers``: deviation of images from those of our own samplers, for schedulers of diffusers;
- ``javascript``: deviation of the page's own code (noise, draws, conditions) in Chromium;
- ``page``: the page as a user drives it, with the keyboard: what the first visit downloads and, with the network cut
  afterwards, the seconds for an image, and its deviation from that of the same seed in Python;
- ``webgpu``: deviation of a graph on a graphics processor that the CPU imitates, which takes minutes.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer
from torch.nn.utils.rnn import pad_sequence

import captionless
from benchmarks.browser import CHROMIUM, KEPT, OPEN, OPEN_GRAPHICS, OPTIONS, READY, WEBGPU, ask, keep, serving
from benchmarks.record import RESULTS, ROOT, measured, read
from captionless.conditioning import bridge
from captionless.config.sampling import SamplingConfig
from captionless.data.images import sample_images
from captionless.exports.encoder import PixelVectors, TokenVectors
from captionless.exports.onnx import GRAPHS, denoiser_inputs
from captionless.generation.generator import Generator

OUT = RESULTS / "exports.jsonl"
BATCHES = (1, 2, 5)
PROMPTS = ("a red rose", "a daisy", "two yellow tulips in the grass", "a sunflower", "a dandelion before a blue sky")
FOLDERS = {
    "onnx": ("page", "onnx"),
    "diffusers": (),
    "javascript": ("page",),
    "page": ("page",),
    "webgpu": ("page",),
}
"""The parts, and the options of the folders that they read."""
SEED, DRAWS, VARIETY = 7, 12_288, 0.35
TIMED = 3
"""Images that are timed with each number of threads."""
SCHEDULERS = (
    ("the pipeline's own", "dpmpp-2m", 128, 15),
    ("DDIMScheduler", "ddim", 64, 20),
    ("DPMSolverMultistepScheduler", "dpmpp-2m", 64, 20),
)
PARTS = """async ({ seed, draws, entropy, shares, prompts, variety }) => {
  OPEN
  const { NumpyGenerator, TorchNormal } = await load("generator/random.js");
  const conditions = [];
  for (const prompt of prompts) {
    const { name, type, data } = model.text.inputs(prompt);
    const { vectors } = await model.sessions["text.onnx"].run({ [name]: new cpu.Tensor(type, data, [1, data.length]) });
    conditions.push([...model.bridge.draw(model.bridge.nearest(vectors.data), variety, seed)]);
  }
  const mixture = new NumpyGenerator(entropy).dirichlet(shares);
  return { noise: [...new TorchNormal(seed).draw(draws)], mixture, conditions };
}""".replace("OPEN", OPEN)
TRIAL = """async (number) => {
  OPEN
  const stage = model.about.stages[number];
  const feeds = model.example(stage);
  const wanted = (await model.sessions[stage.graph].run(feeds)).prediction.data;
  const found = (await (await open(stage.graph)).run(feeds)).prediction.data;
  return [[...wanted], [...found]];
}""".replace("OPEN", OPEN + OPEN_GRAPHICS)

Rows = Callable[[int], tuple[dict[str, Any], Any]]
"""Inputs of a graph with so many rows, and the outputs of PyTorch."""


@torch.no_grad()
def compare_graphs(generator: Generator, folder: Path, where: str) -> None:
    """Measure the deviation of every graph of a folder, packed or not."""
    import onnxruntime

    for graph, rows in _graphs(generator).items():
        packed = folder / f"{graph}.gzip"
        data = gzip.decompress(packed.read_bytes()) if packed.is_file() else (folder / graph).read_bytes()
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        with measured(OUT, "exports", part="onnx", where=where, graph=graph) as figures:
            for n in BATCHES:
                inputs, wanted = rows(n)
                found = session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]
                figures[f"batch {n}"] = largest(found, wanted)
            figures["largest"] = largest(wanted)
        print(where, graph, figures, flush=True)


def _graphs(generator: Generator) -> dict[str, Rows]:
    """Return what the graphs are compared with, by the names of their files."""
    encoder = generator.encoder
    photographs = sample_images(ROOT / "examples" / "flowers", max(BATCHES))
    tokenizer = Tokenizer.from_file(str(encoder.folder / "tokenizer.json"))
    text, image = TokenVectors(encoder.text.vectors), PixelVectors(encoder.model)

    def texts(n: int) -> tuple[dict[str, Any], Any]:
        ids = [torch.tensor(one.ids) for one in tokenizer.encode_batch(list(PROMPTS[:n]))]
        padded = pad_sequence(ids, batch_first=True, padding_value=-1)
        return {"ids": padded}, text(padded)

    def images(n: int) -> tuple[dict[str, Any], Any]:
        pixels = encoder.image_processor(images=photographs[:n], return_tensors="pt")["pixel_values"]
        return {"pixels": pixels}, image(pixels)

    def denoiser(stage: Any) -> Rows:
        return lambda n: (inputs := denoiser_inputs(stage, n), stage.denoiser(*inputs.values()))

    stages = zip(GRAPHS, generator.stages, strict=True)
    return {"text.onnx": texts, "image.onnx": images} | {graph: denoiser(stage) for graph, stage in stages}


def compare_schedulers(generator: Generator) -> None:
    """Measure the deviation of the images of diffusers' schedulers, in levels of 255."""
    import diffusers

    from captionless.exports.diffusers import make_pipeline

    for name, sampler, size, steps in SCHEDULERS:
        pipe = make_pipeline(generator)
        pipe.set_progress_bar_config(disable=True)
        if hasattr(diffusers, name):
            pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config)
        with measured(
            OUT, "exports", SEED, part="diffusers", scheduler=name, sampler=sampler, size=size, steps=steps
        ) as figures:
            given: dict[str, Any] = {"size": size, "precision": "float32"}
            ours = generator.generate(PROMPTS[0], BATCHES[-1], seed=SEED, steps=steps, sampler=sampler, **given)
            for n in BATCHES:
                seeded = torch.Generator().manual_seed(SEED)
                theirs = pipe(PROMPTS[0], n, steps, generator=seeded, **given).images
                levels = np.abs(_levels(theirs) - _levels([one.image for one in ours[:n]]))
                figures |= {f"batch {n}": float(levels.max()), f"mean of {n}": float(levels.mean())}
        print(name, figures, flush=True)


def compare_javascript(generator: Generator, page: Any) -> None:
    """Measure the deviation of the page's random streams, and of the conditions of prompts."""
    shares = np.random.default_rng(SEED).dirichlet(np.full(30, 0.3)) + 1e-12
    entropy, config = [bridge.DRAWS, SEED], SamplingConfig(variety=VARIETY)
    given = {"seed": SEED, "draws": DRAWS, "entropy": entropy, "shares": shares.tolist(), "prompts": list(PROMPTS)}
    with measured(OUT, "exports", SEED, part="javascript") as figures:
        found = page.evaluate(PARTS, given | {"variety": VARIETY})
        noise = torch.randn(DRAWS, generator=torch.Generator().manual_seed(SEED))
        mixture = np.random.default_rng(entropy).dirichlet(shares)
        conditions = generator.conditions(PROMPTS, config, [SEED] * len(PROMPTS))
        figures |= {"noise": largest(found["noise"], noise), "mixture": largest(found["mixture"], mixture)}
        figures["conditions"] = largest(found["conditions"], conditions)
    print(figures, flush=True)


def time_page(generator: Generator, browser: Any, folder: Path, threads: bool) -> None:
    """Measure the first visit, and images after it without a network, with several threads or in one."""
    with (
        visiting(browser, folder, accept_downloads=True, service_workers="allow" if threads else "block") as page,
        measured(OUT, "exports", part="page", threads="several" if threads else "one") as figures,
    ):
        page.context.set_offline(True)
        if threads:  # the service worker has all that the page needs
            kept = [unquote(urlparse(address).path).lstrip("/") or "index.html" for address in page.evaluate(KEPT)]
            figures["megabytes"] = sum((folder / name).stat().st_size for name in kept) / 1e6
            page.reload()
            page.wait_for_selector(READY)
        figures["isolated"] = page.evaluate("crossOriginIsolated")
        figures["seconds"] = []
        for number in range(TIMED):
            page.fill("#prompts", "")
            started = time.perf_counter()
            tile = ask(page, PROMPTS[0], number)
            figures["seconds"].append(time.perf_counter() - started)
        image = Image.open(io.BytesIO(keep(page, tile)))
        given: Any = image.text  # type: ignore[attr-defined]
        config = SamplingConfig(steps=int(given["steps"]), precision="float32")
        (ours,) = generator.generate(given["prompt"], seed=int(given["seed"]), sampling=config)
        figures["levels"] = largest(_levels([image]), _levels([ours.image]))
    print(figures, flush=True)


def try_graphics(driver: Any, folder: Path, stages: int) -> None:
    """Measure the deviation of each stage on a graphics processor, as a share of its largest value."""
    options = [option for option in OPTIONS if option != "--disable-gpu"] + WEBGPU
    browser = driver.chromium.launch(executable_path=CHROMIUM, args=options)
    with visiting(browser, folder) as page:
        for number in range(stages):
            with measured(OUT, "exports", part="webgpu", graph=GRAPHS[number]) as figures:
                wanted, found = page.evaluate(TRIAL, number)
                figures["deviation"] = largest(found, wanted) / largest(wanted)
            print(GRAPHS[number], figures, flush=True)
    browser.close()


@contextmanager
def visiting(browser: Any, folder: Path, **options: Any) -> Iterator[Any]:
    """Open the page from a static server, and wait until it is ready."""
    with serving(folder) as address:
        context = browser.new_context(**options)
        context.set_default_timeout(600_000)
        page = context.new_page()
        page.goto(address)
        page.wait_for_selector(READY)
        yield page
        context.close()


def largest(found: Any, wanted: Any = 0.0) -> float:
    """Return the largest absolute deviation of some values from others."""
    return float(np.abs(np.asarray(found, float) - np.asarray(wanted, float)).max())


def _levels(images: Sequence[Any]) -> np.ndarray:
    return np.stack([np.asarray(one, float) for one in images])


def tables() -> str:
    """Return the results as Markdown tables, the newest of each case."""
    newest = {json.dumps(line["case"]): line for line in read(OUT)}
    lines = [(line["case"], line["figures"]) for line in newest.values()]
    heads = "| batch 1 | batch 2 | batch 5 |"
    rows = ["| output | of | largest value " + heads, "|---" * 6 + "|"]
    for case, values in (pair for pair in lines if pair[0]["part"] == "onnx"):
        cells = " | ".join(f"{values[f'batch {n}']:.0e}" for n in BATCHES)
        rows.append(f"| `{case['graph']}` | {case['where']} | {values['largest']:.2g} | {cells} |")
    rows += ["", "| scheduler | our sampler | size, steps " + heads, "|---" * 6 + "|"]
    for case, values in (pair for pair in lines if pair[0]["part"] == "diffusers"):
        cells = " | ".join(f"{values[f'batch {n}']:.0f} ({values[f'mean of {n}']:.2f})" for n in BATCHES)
        rows.append(f"| {case['scheduler']} | `{case['sampler']}` | {case['size']}, {case['steps']} | {cells} |")
    rows += ["", "| other | figures |", "|---|---|"]
    for case, values in (pair for pair in lines if pair[0]["part"] not in ("onnx", "diffusers")):
        cells = ", ".join(f"{name} {_short(value)}" for name, value in values.items())
        rows.append(f"| {' '.join(case.values())} | {cells} |")
    return "\n".join(rows)


def _short(value: Any) -> str:
    if isinstance(value, list):
        return " / ".join(f"{one:.1f}" for one in value)
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Measure the parts, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(FOLDERS))
    parser.add_argument("--page", type=Path, help="the folder of an export to web")
    parser.add_argument("--onnx", type=Path, help="the folder of an export to onnx")
    parser.add_argument("--table", action="store_true", help="print the tables of the results")
    options = parser.parse_args()
    if not options.table:
        _check(parser, options)
        _measure(options, captionless.load("bundled", device="cpu"))
    print(tables())


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with a line if a part is unknown, or a folder that a part reads is not given."""
    if unknown := set(options.parts) - set(FOLDERS):
        parser.error(f"there is no part {min(unknown)}. Choose from: {', '.join(FOLDERS)}.")
    for name in ("page", "onnx"):
        folder = getattr(options, name)
        needing = [part for part in options.parts if name in FOLDERS[part]]
        if needing and (folder is None or not folder.is_dir()):
            parser.error(f"{needing[0]} needs --{name}, the folder of an export to {'web' if name == 'page' else name}")


def _measure(options: argparse.Namespace, generator: Generator) -> None:
    from playwright.sync_api import sync_playwright

    if "onnx" in options.parts:
        compare_graphs(generator, options.onnx, "ONNX export")
        compare_graphs(generator, options.page / "model", "web page")
    if "diffusers" in options.parts:
        compare_schedulers(generator)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        if "javascript" in options.parts:
            with visiting(browser, options.page) as page:
                compare_javascript(generator, page)
        if "page" in options.parts:
            for threads in (True, False):
                time_page(generator, browser, options.page, threads)
        browser.close()
        if "webgpu" in options.parts:
            try_graphics(driver, options.page, len(generator.stages))


if __name__ == "__main__":
    main()
