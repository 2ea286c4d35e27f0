"""Export a model as a web page that generates images in the browser: a static folder, which any web server serves.

The page is that of ``captionless serve``, with another backend (``browser/``):

    index.html *.js style.css …    the page
    backend.js generator/          the backend; ``generator/worker.js`` runs the model beside the page
    runtime/                       ONNX Runtime Web; in ``graphics/``, its build for WebGPU
    model/                         the files of ``captionless.exports.onnx``, with weights in 8 bits, compressed
    sw.js                          the service worker
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from collections.abc import Sequence
from importlib import metadata, resources
from pathlib import Path

from captionless.config.export import ExportRequest
from captionless.config.page import content_policy, page_headers
from captionless.exports.card import write_card
from captionless.exports.encoder import IMAGE
from captionless.exports.onnx import CONTENTS, write_contents, write_files
from captionless.exports.runtime import FILES, GRAPHICS, VERSION, runtime_folder
from captionless.generation.generator import Generator
from captionless.progress import Progress
from captionless.text_files import write_text

POLICY = content_policy("'wasm-unsafe-eval'")
"""What the page may load, as the server's page, and WebAssembly."""
HEADERS = page_headers(POLICY) | {
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""What the service worker adds to every file; the last two are what threads need."""
PACKED = ".gzip"
"""Suffix of files that the page unpacks itself, because not every host compresses what it sends."""
LARGE = (".onnx", ".json", ".safetensors")
"""Suffixes of the files of a model that are packed."""
SMALL = (".html", ".js", ".mjs", ".css", ".svg", ".json")
"""Suffixes of the files that make the page itself."""
USE = "These files are part of a web page that generates images: `../index.html`."
_CHARSET = '<meta charset="utf-8">'
_NOT_OURS = ("server.js", "backend.js", "index.html")


def export_web(generator: Generator, request: ExportRequest, folder: Path, progress: Progress) -> None:
    """Write a model as a folder of web pages.

    Raises:
        CaptionlessError: the encoder of the model cannot be exported, or ONNX Runtime Web cannot be had.
        ModuleNotFoundError: a package is missing.
    """
    runtime = runtime_folder(request.runtime, progress)
    _copy_runtime(runtime, FILES, folder / "runtime")
    _copy_runtime(runtime, GRAPHICS, folder / "runtime" / "graphics")
    (folder / "model").mkdir()
    _write_model(generator, folder / "model", progress)
    write_card(generator, request, folder / "model", USE, progress)
    _copy_page(folder)
    _write_licences(folder)
    _write_service_worker(folder)


def _write_model(generator: Generator, folder: Path, progress: Progress) -> None:
    content = write_files(generator, folder, progress, packed=True)
    for path in [path for path in folder.iterdir() if path.suffix in LARGE and path.name != CONTENTS]:
        _pack(path, folder)
        path.unlink()
    files = [*folder.glob(f"*{PACKED}"), *(folder.parent / "runtime").glob(f"*{PACKED}")]
    sizes = {path.name: path.stat().st_size for path in files}  # bytes
    if content["image"]:
        content["image"]["download"] = sizes.pop(f"{IMAGE}{PACKED}")
    content["download"] = sum(sizes.values())
    write_contents(folder, content)


def _pack(path: Path, folder: Path) -> None:
    packed = gzip.compress(path.read_bytes(), compresslevel=9, mtime=0)
    (folder / f"{path.name}{PACKED}").write_bytes(packed)


def _copy_page(folder: Path) -> None:
    """Copy the page of the server and the backend that takes the server's place."""
    package = resources.files("captionless")
    page, browser = (Path(str(package / place)) for place in ("server/page", "exports/browser"))
    shutil.copytree(page, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*_NOT_OURS))
    shutil.copytree(browser, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("sw.js"))
    policy = f'{_CHARSET}\n  <meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    html = (page / "index.html").read_text(encoding="utf-8")
    write_text(folder / "index.html", html.replace(_CHARSET, policy, 1))


def _copy_runtime(source: Path, names: Sequence[str], folder: Path) -> None:
    folder.mkdir()
    for name in names:
        if name.endswith(".wasm"):
            _pack(source / name, folder)
        else:
            shutil.copyfile(source / name, folder / name)


def _write_licences(folder: Path) -> None:
    """Write ``LICENSES.md``, and the texts that it names."""
    browser = Path(str(resources.files("captionless") / "exports"))
    text = (browser / "licenses.md").read_text(encoding="utf-8").replace("VERSION", VERSION)
    write_text(folder / "LICENSES.md", text)
    own = next(file for file in metadata.files("captionless") or [] if file.name == "LICENSE")
    write_text(folder / "LICENSE", own.read_text(encoding="utf-8"))


def _write_service_worker(folder: Path) -> None:
    """Write ``sw.js``, which knows all files of the page, and by a digest of them whether they are new."""
    digest = hashlib.sha256()
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    for name in names:
        digest.update(f"{name}\0".encode() + hashlib.sha256((folder / name).read_bytes()).digest())
    large = [name for name in names if name.endswith(PACKED) or name.startswith("runtime/graphics/")]
    page = [name for name in names if name.endswith(SMALL) and name not in large]
    build = {"version": digest.hexdigest()[:16], "headers": HEADERS, "page": page, "model": large}
    script = resources.files("captionless") / "exports" / "browser" / "sw.js"
    text = f"const BUILD = {json.dumps(build)};\n\n{script.read_text(encoding='utf-8')}"
    write_text(folder / "sw.js", text)
