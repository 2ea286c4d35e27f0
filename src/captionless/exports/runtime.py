"""Get ONNX Runtime Web, which runs ONNX models in browsers, from npm's registry or from a folder."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import tarfile
import urllib.request
from pathlib import Path
from typing import IO, cast

from captionless.data.cache import cache_folder
from captionless.errors import CaptionlessError
from captionless.files import atomic_folder
from captionless.progress import Progress

VERSION = "1.30.0"
ADDRESS = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""The digest of the package, as npm's registry states it (``dist.integrity``)."""
SIZE = 33_106_585
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""What every visitor loads."""
GRAPHICS = ("ort.jspi.min.mjs", "ort-wasm-simd-threaded.jspi.mjs", "ort-wasm-simd-threaded.jspi.wasm")
"""What is loaded besides where there is WebGPU."""
TIMEOUT = 30.0
REMEDY = (
    f"Try again, or run `npm pack onnxruntime-web@{VERSION}` where there is a network, unpack the file, and pass its "
    "folder `package/dist` as `runtime`."
)


def runtime_folder(given: Path | None, progress: Progress) -> Path:
    """Return a folder with ``FILES`` and ``GRAPHICS``: the one given, or the cache, which a download fills.

    Raises:
        CaptionlessError: the folder lacks a file, the download fails, or its content is not what it should be.
    """
    if given is not None:
        if missing := [name for name in (*FILES, *GRAPHICS) if not (given / name).is_file()]:
            raise CaptionlessError(
                f"`runtime={given}` has no {missing[0]}. Pass the folder `dist` of the npm package onnxruntime-web.",
                parameter="runtime",
                value=given,
            )
        return given
    folder = cache_folder() / f"onnxruntime-web-{VERSION}"
    if not all((folder / name).is_file() for name in (*FILES, *GRAPHICS)):
        package = _download(progress)
        with atomic_folder(folder) as temporary, tarfile.open(fileobj=io.BytesIO(package)) as archive:
            for name in (*FILES, *GRAPHICS):
                with cast(IO[bytes], archive.extractfile(f"package/dist/{name}")) as content:
                    (temporary / name).write_bytes(content.read())
    return folder


def _download(progress: Progress) -> bytes:
    """Return npm's package, whose digest is checked."""
    progress.say(f"Downloading ONNX Runtime Web {VERSION} ({SIZE / 1e6:.0f} MB), once.")
    content = bytearray()
    try:
        with urllib.request.urlopen(ADDRESS, timeout=TIMEOUT) as answer:
            while part := answer.read(2**18):
                content += part
                progress.advance("Downloading", len(content), SIZE)
    except (OSError, http.client.HTTPException) as error:
        raise CaptionlessError(f"{ADDRESS} cannot be downloaded ({error}). {REMEDY}") from error
    if len(content) != SIZE:
        raise CaptionlessError(f"the download of {ADDRESS} ended after {len(content):,} of {SIZE:,} bytes. {REMEDY}")
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != SHA512:
        raise CaptionlessError(f"{ADDRESS} is not the file that it was: its digest differs. {REMEDY}")
    return bytes(content)
