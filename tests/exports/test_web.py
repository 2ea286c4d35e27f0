"""The contract of `captionless export --to web`: a static folder that generates the images of the command line."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
import pytest
from benchmarks.browser import CHROMIUM, KEPT, OPEN, OPEN_GRAPHICS, OPTIONS, READY, WEBGPU, ask, keep, serving
from PIL import Image

import export_models
import tiny
from captionless.config.export import ExportRequest
from captionless.errors import CaptionlessError
from captionless.exports import runtime
from captionless.exports.onnx import CONTENTS
from captionless.exports.web import HEADERS, export_web
from captionless.generation.editing import Edit
from captionless.generation.generator import Generator
from captionless.progress import Silent
from captionless.server.security import HEADERS as SERVED
from javascript import javascript, needs_node

pytest.importorskip("onnx", reason="onnx is not installed (pip install 'captionless[web]')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install 'captionless[web]')")
DIST = Path(os.environ.get("NODE_PATH", "node_modules"), "onnxruntime-web", "dist").resolve()
needs_runtime = pytest.mark.skipif(
    not all((DIST / name).is_file() for name in (*runtime.FILES, *runtime.GRAPHICS)),
    reason="the npm package onnxruntime-web is neither in NODE_PATH nor in node_modules",
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)")
TRIAL = f"""async () => {{{OPEN}{OPEN_GRAPHICS}
  const {{ moveStages }} = await load("generator/graphics.js");
  return moveStages(model, open);
}}"""
REFUSES = """Object.defineProperty(window, "sessionStorage", {
  get() { throw new DOMException("Access is denied for this document.", "SecurityError"); },
})"""
BLOCKED = "Service Worker registration blocked by Playwright"
ISOLATING = ("Cross-Origin-Embedder-Policy", "Cross-Origin-Opener-Policy")
REQUEST = {"prompt": "red rose", "seed": 3, "n": 1, "guidance": 2, "variety": 0.35, "steps": 4, "sampler": "unipc"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, traced_once: None) -> tuple[Generator, Path]:
    """A model of two stages, which takes long, and its page, two folders below that of the web server."""
    return export(export_models.cascade, tmp_path_factory)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, traced_once: None) -> Path:
    """The page of a model that is quickly exported."""
    return export(export_models.plain, tmp_path_factory)[1]


def export(make: Callable[[Path], Generator], tmp_path_factory: pytest.TempPathFactory) -> tuple[Generator, Path]:
    source, root = tmp_path_factory.mktemp("model"), tmp_path_factory.mktemp("web")
    generator, folder = make(source), root / "below" / "page"
    dist = DIST
    if not dist.is_dir():
        dist = tmp_path_factory.mktemp("dist")
        for name in (*runtime.FILES, *runtime.GRAPHICS):
            (dist / name).write_text("// a stand-in")
    folder.mkdir(parents=True)
    if generator.model.base:
        tiny.saved(generator.model.base, source / "base")
    tiny.saved(generator.model, source)
    request = ExportRequest(model=str(source), to="web", out=folder, runtime=dist, prompts=("red rose",))
    export_web(generator, request, folder, Silent())
    return generator, folder


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data))).astype(int)


def test_the_page_allows_what_the_servers_allows_and_webassembly(plain: Path) -> None:
    policy = "Content-Security-Policy"
    assert HEADERS[policy].replace("script-src 'self' 'wasm-unsafe-eval'; ", "") == SERVED[policy]
    html = (plain / "index.html").read_text(encoding="utf-8")
    given = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)
    assert given == [HEADERS[policy].removesuffix("; frame-ancestors 'none'")]
    assert html.index("http-equiv") < html.index("<script")


def test_the_service_worker_knows_every_file_of_the_page(plain: Path) -> None:
    build = json.loads((plain / "sw.js").read_text(encoding="utf-8").split(";\n", 1)[0].removeprefix("const BUILD = "))
    known = {*build["page"], *build["model"]}
    there = {path.relative_to(plain).as_posix() for path in plain.rglob("*") if path.is_file()}
    assert known <= there
    assert {path for path in there - known if path.endswith((".js", ".mjs", ".html", ".css", ".gzip"))} == {"sw.js"}
    imported = {name for path in plain.rglob("*.js") for name in re.findall(r'from "\./([\w.-]+)"', path.read_text())}
    assert not {name for name in imported if not any(path.endswith(name) for path in known)}
    assert not [
        path for path in build["page"] if path.startswith("runtime/graphics")
    ]  # not fetched before it is needed


def test_licences_and_credits_lie_beside_what_they_are_about(plain: Path) -> None:
    assert "Apache License" in (plain / "LICENSE").read_text(encoding="utf-8")
    assert f"ONNX Runtime Web {runtime.VERSION}" in (plain / "LICENSES.md").read_text(encoding="utf-8")
    assert (plain / "model" / "README.md").is_file()


def test_the_download_is_stated(plain: Path) -> None:
    content = json.loads((plain / "model" / CONTENTS).read_text(encoding="utf-8"))
    sizes = {path.relative_to(plain).as_posix(): path.stat().st_size for path in plain.rglob("*.gzip")}
    assert content["image"]["download"] == sizes.pop("model/image.onnx.gzip")  # for photographs as prompts only
    assert sizes.pop("runtime/graphics/ort-wasm-simd-threaded.jspi.wasm.gzip")  # where there is WebGPU only
    assert content["download"] == sum(sizes.values())


def test_a_runtime_that_lacks_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaptionlessError, match=r"has no ort\.wasm\.min\.mjs"):
        runtime.runtime_folder(tmp_path, Silent())


def test_a_download_that_is_not_what_it_was_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.tgz").write_bytes(b"other")
    monkeypatch.setenv("CAPTIONLESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(runtime, "ADDRESS", (tmp_path / "other.tgz").as_uri())
    with pytest.raises(CaptionlessError, match=r"ended after 5 of 33,106,585 bytes"):
        runtime.runtime_folder(None, Silent())
    monkeypatch.setattr(runtime, "SIZE", len(b"other"))
    with pytest.raises(CaptionlessError, match="its digest differs"):
        runtime.runtime_folder(None, Silent())
    monkeypatch.setattr(runtime, "ADDRESS", (tmp_path / "missing.tgz").as_uri())
    with pytest.raises(CaptionlessError, match="cannot be downloaded"):
        runtime.runtime_folder(None, Silent())
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
@needs_node
@needs_runtime
@pytest.mark.parametrize(
    "changes",
    [
        {"n": 2},
        {"sampler": "dpmpp-2m-sde", "negative_prompt": "white daisy", "guidance": -0.5},
        {"towards": "yellow tulip", "size": "8x8", "variety": 0},
        {"like": True, "like_share": 0.4},
        {"image": True, "mask": True, "strength": 1},
        {"image": True, "strength": 0.6, "guidance": 3, "prompt": "", "like": True, "like_share": 0.5},
    ],
)
def test_a_seed_gives_the_image_that_it_gives_in_python(
    exported: tuple[Generator, Path], tmp_path: Path, changes: dict[str, Any]
) -> None:
    generator, folder = exported
    for path in (folder / "model").glob("*.gzip"):
        (tmp_path / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    shutil.copy(folder / "model" / CONTENTS, tmp_path)
    request = REQUEST | changes
    photo, mask = export_models.photograph(64)
    given = export_models.rgba(photo, mask)
    sent = request | {name: given for name in ("like", "image", "mask") if name in request}
    (answer,) = javascript([("model", {"folder": str(tmp_path), "request": sent})], DIST)
    done = [base64.b64decode(data) for last, data in answer["images"] if last]
    edit = Edit(photo, request["strength"], mask if "mask" in request else None) if "image" in request else None
    wanted = export_models.generate(generator, request, photo if "like" in request else None, edit)
    assert len(done) == len(wanted) == request["n"]
    for data, image in zip(done, wanted, strict=True):
        assert np.abs(pixels(data) - np.asarray(image)).max() <= 1
        stored = Image.open(io.BytesIO(data)).text  # type: ignore[attr-defined]
        assert (stored["prompt"], stored["sampler"]) == (request["prompt"], request["sampler"])
        assert ("like" in stored, "init" in stored) == ("like" in request, "image" in request)


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    """Playwright, which can be started once only at a time."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def browser(driver: Any) -> Iterator[Any]:
    chromium = driver.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
    yield chromium
    chromium.close()


@contextmanager
def visiting(
    browser: Any, folder: Path, *, blocked: bool = False, sent: Sequence[str] = (), **options: Any
) -> Iterator[Any]:
    """Open the page from a static server that knows nothing of it; fail for errors and requests elsewhere.

    Args:
        browser: Chromium.
        folder: an export to web.
        blocked: whether the browser refuses to store site data.
        sent: which of the page's headers the server sends itself.
        **options: of the browser's context.
    """
    with serving(folder.parents[1], {name: HEADERS[name] for name in sent}) as address:
        context = browser.new_context(**options)
        context.set_default_timeout(60_000)
        page, faults = context.new_page(), []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
        page.on("request", lambda one: None if one.url.startswith((address, "blob:")) else faults.append(one.url))
        if blocked:
            page.add_init_script(REFUSES)
        page.goto(f"{address}/below/page/")
        page.wait_for_selector(READY)
        yield page
        context.close()
    assert not [fault for fault in faults if fault != BLOCKED]


def generate(page: Any) -> bytes:
    """Generate an image with the keyboard alone, and return the file that the viewer offers."""
    return keep(page, ask(page, "red rose"))


@pytest.mark.slow
@needs_runtime
@needs_chromium
def test_the_page_generates_without_a_network_after_the_first_visit(
    browser: Any, exported: tuple[Generator, Path]
) -> None:
    generator, folder = exported
    with visiting(browser, folder, accept_downloads=True) as page:
        assert page.evaluate("crossOriginIsolated")  # so there are threads
        page.context.set_offline(True)
        page.reload()
        page.wait_for_selector(READY)
        data = generate(page)
    stored = Image.open(io.BytesIO(data)).text  # type: ignore[attr-defined]
    assert (stored["prompt"], stored["model"], stored["steps"]) == ("red rose", "tiny", "15")
    request = {**REQUEST, "seed": int(stored["seed"]), "guidance": 3, "steps": 15, "sampler": "dpmpp-2m"}
    (wanted,) = export_models.generate(generator, request)
    assert np.abs(pixels(data) - np.asarray(wanted)).max() <= 1


@pytest.mark.slow
@needs_runtime
@needs_chromium
@pytest.mark.parametrize("slowly", [False, True])
def test_a_host_that_sends_the_headers_itself_has_a_page_that_works_offline(
    browser: Any, plain: Path, tmp_path: Path, slowly: bool
) -> None:
    folder = shutil.copytree(plain, tmp_path / "below" / "page")
    if slowly:  # the service worker takes charge a while after it is ready
        text = (folder / "sw.js").read_text(encoding="utf-8")
        assert "await clients.claim()" in text
        late = "await new Promise((resolve) => setTimeout(resolve, 1000));\n    await clients.claim()"
        (folder / "sw.js").write_text(text.replace("await clients.claim()", late), encoding="utf-8")
    with visiting(browser, folder, sent=ISOLATING) as page:
        page.wait_for_selector('#status:has-text("works without a network")')
        kept = {unquote(urlparse(address).path).removeprefix("/below/page/") for address in page.evaluate(KEPT)}
        large = {path.relative_to(folder).as_posix() for path in folder.rglob("*.gzip")}
        assert {name for name in large if "graphics" not in name} - kept <= {"model/image.onnx.gzip"}
        page.context.set_offline(True)
        page.reload()
        page.wait_for_selector(READY)
        assert page.evaluate("crossOriginIsolated")


@pytest.mark.slow
@needs_runtime
@needs_chromium
def test_the_page_generates_in_one_thread_on_a_phone(browser: Any, exported: tuple[Generator, Path]) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "service_workers": "block"}
    with visiting(browser, exported[1], accept_downloads=True, **phone) as page:
        assert not page.evaluate("crossOriginIsolated")
        assert generate(page).startswith(b"\x89PNG")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.slow
@needs_runtime
@needs_chromium
def test_a_browser_that_blocks_site_data_has_the_page_in_one_thread(browser: Any, plain: Path) -> None:
    with visiting(browser, plain, blocked=True) as page:
        assert not page.evaluate("crossOriginIsolated")


@pytest.mark.slow
@needs_runtime
@needs_chromium
def test_webgpu_computes_what_the_cpu_does(driver: Any, plain: Path) -> None:
    options = [option for option in OPTIONS if option != "--disable-gpu"] + WEBGPU
    chromium = driver.chromium.launch(executable_path=CHROMIUM, args=options)
    with visiting(chromium, plain, accept_downloads=True) as page:
        if not page.evaluate("async () => Boolean(await navigator.gpu?.requestAdapter())"):
            pytest.skip("Chromium has no WebGPU here")
        generate(page)  # the trial would be before it
        kept = page.evaluate(KEPT)
        assert [name for name in kept if name.endswith("model/base.onnx.gzip")]
        assert not [name for name in kept if "runtime/graphics" in name]  # for the CPU imitates it
        (result,) = page.evaluate(TRIAL)
    chromium.close()
    assert "failure" not in result
    assert result["deviation"] < 1e-4
