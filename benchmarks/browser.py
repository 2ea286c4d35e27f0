"""Drive an exported web page in Chromium, for the benchmark of exports and for the tests."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

CHROMIUM = shutil.which("chromium")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
OPTIONS += ["--disable-component-update", "--disable-sync"]
WEBGPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]
"""What lets the CPU stand in for a graphics processor."""
READY = '#status:has-text("Ready")'
OPEN = """
  const place = (name) => new URL(name, location.href).href;
  const load = (name) => import(place(name));
  const file = async (name) => {
    const { body } = await fetch(`${name}.gzip`);
    return new Uint8Array(await new Response(body.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());
  };
  const about = async () => new Uint8Array(await (await fetch("model/captionless.json")).arrayBuffer());
  const read = (name) => (name === "captionless.json" ? about() : file(`model/${name}`));
  const prepare = async (runtime, folder, name) => {
    const wasmBinary = await file(`${folder}/ort-wasm-simd-threaded${name}.wasm`);
    Object.assign(runtime.env.wasm, { numThreads: 1, wasmPaths: place(`${folder}/`), wasmBinary });
    return runtime;
  };
  const cpu = await prepare(await load("runtime/ort.wasm.min.mjs"), "runtime", "");
  const { Model } = await load("generator/model.js");
  const model = await Model.load(read, cpu);
"""
"""Begins JavaScript that is evaluated in the page: loads its model, beside that of the page."""
OPEN_GRAPHICS = """
  const graphics = await prepare(await load("runtime/graphics/ort.jspi.min.mjs"), "runtime/graphics", ".jspi");
  const options = { executionProviders: ["webgpu"], logSeverityLevel: 3 };
  const open = async (graph) => graphics.InferenceSession.create(await read(graph), options);
"""
"""Goes on with a function that opens a graph of the model on the graphics processor."""
KEPT = """async () => {
  const cache = await caches.open((await caches.keys())[0]);
  return (await cache.keys()).map(({ url }) => url);
}"""
"""JavaScript that returns the addresses of the files that the service worker has kept."""


@contextmanager
def serving(folder: Path, headers: Mapping[str, str] = MappingProxyType({})) -> Iterator[str]:
    """Serve a folder with Python's static server, and some headers of a host's own; yield the address."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

        def end_headers(self) -> None:
            for name, value in headers.items():
                self.send_header(name, value)
            super().end_headers()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def ask(page: Any, prompt: str, others: int = 0) -> Any:
    """Generate an image with the keyboard alone, where there are some others, and return a tile that can be opened."""
    page.keyboard.type(prompt)  # the focus is on the prompt
    page.keyboard.press("Enter")
    return page.wait_for_selector(f".tile:enabled >> nth={others}")


def keep(page: Any, tile: Any) -> bytes:
    """Open an image with the keyboard, and return the file that the viewer offers."""
    tile.focus()
    page.keyboard.press("Enter")
    with page.expect_download() as download:
        page.keyboard.press("Enter")  # the focus is on the download
    return Path(download.value.path()).read_bytes()
