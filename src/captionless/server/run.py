"""Run the server in this process, until a signal stops it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from captionless.config.sampling import SamplingConfig
from captionless.config.serve import ServeConfig
from captionless.errors import CaptionlessError
from captionless.generation.generator import Generator, load
from captionless.paths import kind_of
from captionless.server.app import create_app
from captionless.server.arrivals import Connection
from captionless.server.gate import JsonLines
from captionless.server.security import Access
from captionless.server.service import ImageService
from captionless.signals import TERMINATION

KEY = "CAPTIONLESS_API_KEY"
"""The environment variable of the API key; other users of a computer can read command lines."""
LAST_SECONDS = 3.0
"""Seconds for the answers to requests that could not be completed when the server stops."""


def serve(config: ServeConfig, sampling: SamplingConfig, say: Callable[[str], None]) -> None:
    """Load the models and serve them, until a signal stops the server.

    The API key is the value of the environment variable ``CAPTIONLESS_API_KEY``.

    Args:
        config: models, address and limits.
        sampling: the sampling settings of requests that do not give their own.
        say: receives the address, when the server is ready.

    Raises:
        CaptionlessError: a model cannot be loaded, the address cannot be used, or a key or folder is missing.
    """
    key = os.environ.get(KEY) or None
    Access(config, key)  # raises before anything is loaded
    if (images := config.training_images) and (kind := kind_of(images)) != "a folder":
        problem = "does not exist" if kind == "nothing" else f"is {kind}, not a folder"
        raise CaptionlessError(f"`training_images={images}` {problem}. Pass the folder of the training images.")
    listener = listen(config.host, config.port)
    with ThreadPoolExecutor(1) as loading:  # a thread that ends, and its helpers with it: see ``ImageService``
        generators = loading.submit(load_models, config.models, sampling).result()
    service = ImageService(generators, config, sampling)
    app = create_app(service, config, key)
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(JsonLines())
    for name in ("captionless.server", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [lines], False
        logger.setLevel(logging.INFO if name.startswith("captionless") else logging.WARNING)
    host, port = listener.getsockname()[:2]
    place = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    say(f"Serving {', '.join(service.generators)} at {place} (API clients: base_url {place}/v1)")
    settings = uvicorn.Config(app, http=Connection, log_config=None, access_log=False, server_header=False, ws="none")
    GracefulServer(settings, service, config.grace).run(sockets=[listener])


class GracefulServer(uvicorn.Server):
    """A server that, when it is stopped, completes its requests or answers them with status 503."""

    def __init__(self, settings: uvicorn.Config, service: ImageService, grace: float) -> None:
        super().__init__(settings)
        self._service, self._grace = service, grace

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at SIGHUP as at SIGTERM, unless it is ignored."""
        with super().capture_signals():
            main = threading.current_thread() is threading.main_thread()
            numbers = [one for one in TERMINATION if main and signal.getsignal(one) != signal.SIG_IGN]
            before = {number: signal.signal(number, self.handle_exit) for number in numbers}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, and wait for the requests in progress, for ``grace`` seconds at most, and for the answers."""
        loop = asyncio.get_running_loop()
        give_up = loop.call_later(self._grace, self._service.abandon)
        cut = loop.call_later(self._grace + LAST_SECONDS, self._abort)
        await super().shutdown(sockets)
        give_up.cancel()
        cut.cancel()

    def _abort(self) -> None:
        """End the connections of those who do not read their answers."""
        for connection in self.server_state.connections:
            connection.transport.abort()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address.

    Raises:
        CaptionlessError: the address does not exist here, or is in use.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise CaptionlessError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}. Choose another `port` or `host`.",
            parameter="port",
            value=port,
        ) from error


def load_models(models: Sequence[str], sampling: SamplingConfig) -> dict[str, Generator]:
    """Load models, each with its encoder, and generate an image with each; return them by the names of their folders.

    Raises:
        CaptionlessError: a model cannot be loaded, or two have the same name.
    """
    names = [Path(model).resolve().name for model in models]
    if twice := [name for name in names if names.count(name) > 1]:
        raise CaptionlessError(f"two models are called {twice[0]}. Rename a folder: clients name models by it.")
    generators: dict[str, Generator] = {}
    for name, model in zip(names, models, strict=True):
        generators[name] = load(model)
        prompt = (generators[name].classes or ("an image",))[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the prompt is unfamiliar
            generators[name].generate(prompt, sampling=sampling.replace(steps=1, upsample_steps=1), progress=False)
    return generators
