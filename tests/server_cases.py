"""Servers for tests: tiny models, a real port, the official client."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import torch
import uvicorn
from PIL import Image

import tiny
from captionless.checkpoints.image_list import TRAIN, write_image_list
from captionless.checkpoints.model import BANK, BANK_ROWS, Model
from captionless.config.sampling import SamplingConfig
from captionless.config.serve import ServeConfig
from captionless.generation.generator import Generator
from captionless.server.app import create_app
from captionless.server.arrivals import Connection
from captionless.server.run import listen
from captionless.server.service import ImageService
from captionless.tensor_files import save_tensors

SAMPLING = SamplingConfig(steps=3, precision="float32")


def generator(**changes: Any) -> Generator:
    return Generator(tiny.model(**changes), encoder=tiny.FakeEncoder(), device="cpu")  # type: ignore[arg-type]


def cascade(size: int = 8) -> Generator:
    """A generator whose base model has images of this size, and its second stage twice as large ones."""
    base = tiny.model()
    base = replace(base, config=replace(base.config, size=size))
    network = tiny.denoiser(low_res_channels=4, seed=3)
    config = replace(base.config, size=2 * size, base_size=size, denoiser=network.config)
    return Generator(Model("cascade", config, network, base.bank, base), encoder=tiny.FakeEncoder(), device="cpu")  # type: ignore[arg-type]


def failing_generator(failures: int, message: str = "a bug") -> Generator:
    """A generator whose first network calls fail."""
    one, left = generator(), iter(range(failures))

    def fail(*_: Any) -> None:
        if next(left, None) is not None:
            raise RuntimeError(message)

    one.stages[0].denoiser.register_forward_pre_hook(fail)
    return one


def trained_on(folder: Path) -> tuple[Path, Generator]:
    """Write 12 training images and a model that holds the vectors of all but two; return their folder and the model."""
    photos, place = folder / "photos", folder / "model"
    photos.mkdir()
    names = [f"{i}.png" for i in range(12)]
    for i, name in enumerate(names):
        (photos / name).write_bytes(png(seed=i))
    model = tiny.model()
    tiny.saved(model, place)
    rows = torch.tensor([i for i in range(12) if i not in (2, 5)])
    vectors = tiny.FakeEncoder().encode_images([Image.open(photos / name).convert("RGB") for name in names])[rows]
    save_tensors(place / BANK, {"vectors": vectors, BANK_ROWS: rows})
    digests = [hashlib.sha256((photos / name).read_bytes()).hexdigest() for name in names]
    write_image_list(place, [(name, digest, TRAIN) for name, digest in zip(names, digests, strict=True)])
    lines = [f"photos/{i}.png,<b>Painter {i}</b>,https://example.org/{i},CC-BY" for i in range(12)]
    lines[3] = "photos/3.png,Painter 3,javascript:alert(1),CC-BY"
    (place / "CREDITS.csv").write_text("\n".join(["file,artist,page,licence", *lines]))
    record = replace(model.config.training, folder="photos", train_images=12)
    config = replace(model.config, training=record)
    model = replace(model, name=str(place), config=config, bank=vectors)
    return photos, Generator(model, encoder=tiny.FakeEncoder(), device="cpu")  # type: ignore[arg-type]


class Steps:
    """Lets a network make one call at a time, and notes the rows of each."""

    def __init__(self, *generators: Generator) -> None:
        self.rows: list[int] = []
        self._permits, self._made, self._free = threading.Semaphore(0), threading.Semaphore(0), False
        for one in generators:
            for stage in one.stages:
                stage.denoiser.register_forward_pre_hook(self._before)
                stage.denoiser.register_forward_hook(self._after)

    def _before(self, network: Any, inputs: tuple[Any, ...]) -> None:
        assert self._free or self._permits.acquire(timeout=30)
        self.rows.append(len(inputs[0]))

    def _after(self, *_: Any) -> None:
        self._made.release()

    def make(self, calls: int = 1) -> None:
        """Let the network make some calls, and wait until they are made."""
        for _ in range(calls):
            self._permits.release()
            assert self._made.acquire(timeout=30)

    def free(self) -> None:
        """Let the network make all calls from now on."""
        self._free = True
        self._permits.release()


class Served:
    """A server in this process, on a free port of localhost."""

    def __init__(
        self, generators: dict[str, Generator], config: ServeConfig, sampling: SamplingConfig, key: str | None
    ):
        self.service = ImageService(generators, config, sampling)
        self.gate = create_app(self.service, config, key)
        self.socket = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.key = key or "sk-any"
        self.server = uvicorn.Server(
            uvicorn.Config(self.gate, http=Connection, log_config=None, access_log=False, ws="none")
        )
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})

    @cache  # noqa: B019
    def client(self, **options: Any) -> openai.OpenAI:
        """Return the official client; making one takes longer than an image."""
        return openai.OpenAI(**{"base_url": f"{self.url}/v1", "api_key": self.key, "max_retries": 0, **options})

    @property
    def places(self) -> int:
        """The places in the queue that are taken."""
        return self.service.scheduler._taken

    @property
    def images(self) -> int:
        """The images that the scheduler knows of."""
        return len(self.service.scheduler._images)

    def post(self, route: str, timeout: float = 60, **fields: Any) -> httpx2.Response:
        """Send JSON to a route of the images API."""
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx2.post(f"{self.url}/v1/images/{route}", json=fields, headers=headers, timeout=timeout)

    def wait(self, *, images: int | None = None, places: int | None = None) -> None:
        """Wait until this many images are with the scheduler, or this many places are taken."""
        until = time.monotonic() + 20
        while images not in (None, self.images) or places not in (None, self.places):
            assert time.monotonic() < until, f"{self.images} images, {self.places} places"
            time.sleep(0.01)


@contextmanager
def serving(
    generators: dict[str, Generator] | None = None,
    sampling: SamplingConfig = SAMPLING,
    key: str | None = None,
    **config: Any,
) -> Iterator[Served]:
    served = Served(generators or {"tiny": generator()}, ServeConfig(**config), sampling, key)
    served.thread.start()
    try:
        while not served.server.started:
            assert served.thread.is_alive()
            time.sleep(0.005)
        yield served
    finally:
        served.server.should_exit = True
        served.thread.join(30)
        assert not served.thread.is_alive()


def unread(url: str, **fields: Any) -> socket.socket:
    """Ask a server for ten large images in a stream, and read nothing of it."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", int(url.rsplit(":", 1)[1])))
    sent = {"prompt": "rose", "n": 10, "stream": True, "size": "2048x2048", "steps": 1, **fields}
    body = json.dumps(sent).encode()
    head = ["POST /v1/images/generations HTTP/1.1", "host: localhost", "content-type: application/json"]
    connection.sendall("\r\n".join([*head, f"content-length: {len(body)}", "", ""]).encode() + body)
    return connection


def pixels(data: bytes | str) -> np.ndarray:
    """The pixels of an image file, given as bytes or base64."""
    data = base64.b64decode(data) if isinstance(data, str) else data
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def png(size: tuple[int, int] = (12, 12), mode: str = "RGB", seed: int = 0) -> bytes:
    """A PNG file of random pixels; with alpha, the left half is transparent."""
    channels = {"RGB": 3, "RGBA": 4, "L": 1}[mode]
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    if mode == "RGBA":
        values[..., 3] = 255
        values[:, : size[0] // 2, 3] = 0
    file = io.BytesIO()
    Image.fromarray(values.squeeze()).save(file, "PNG")
    return file.getvalue()
