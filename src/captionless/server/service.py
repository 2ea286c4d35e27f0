"""What the server does with a request for images, from its body to its answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from fastapi import Request
from fastapi.responses import Response

from captionless.config.sampling import SamplingConfig
from captionless.config.serve import ServeConfig
from captionless.device import resolve_precision, use_threads_here
from captionless.generation.generator import Generator
from captionless.server.answer import Answer
from captionless.server.arrivals import Arrivals
from captionless.server.images import choose_model, prepare_request
from captionless.server.links import Links
from captionless.server.metrics import Metrics
from captionless.server.nearest import NearestImages
from captionless.server.protocol import ImageRequest, parse, request_model
from captionless.server.scheduler import Scheduler
from captionless.server.uploads import Body, read_body, read_photo

Result = TypeVar("Result")


class ImageService:
    """Answers requests for images from the models of a server.

    Args:
        generators: the models by name.
        config: the settings of the server.
        sampling: the sampling settings of requests that do not give their own.
    """

    def __init__(
        self,
        generators: Mapping[str, Generator],
        config: ServeConfig | None = None,
        sampling: SamplingConfig | None = None,
    ) -> None:
        config, sampling = config or ServeConfig(), sampling or SamplingConfig()
        self.generators, self.sampling = generators, sampling
        self.request_type = request_model(config, sampling)
        self._nearest = {name: NearestImages(one, config.training_images) for name, one in generators.items()}
        self.metrics, self.links, self.started = Metrics(), Links(), int(time.time())
        device = next(iter(generators.values())).device
        precision = resolve_precision(sampling.precision, device)
        self.scheduler = Scheduler(config.batch, config.queue, precision, device, self.metrics)
        self._arrivals = Arrivals(config.queue)
        # One thread decodes uploads and encodes prompts, while that of the scheduler samples. It has no helpers: where
        # two threads have some, those of PyTorch no longer wait for work in a loop, and every network call is slower.
        self._preparing = ThreadPoolExecutor(1, "preparing", use_threads_here, (1,))
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def abandon(self) -> None:
        """Answer all requests that are not finished with status 503, and accept no others; from the event loop."""
        self.scheduler.abandon()
        self._arrivals.abandon()

    def close(self) -> None:
        """End all threads."""
        self.scheduler.close()
        self._preparing.shutdown(cancel_futures=True)

    async def answer(self, http: Request, route: str) -> Response:
        """Answer a request for images; ``route`` is ``generations``, ``edits`` or ``variations``."""
        address = http.client.host if http.client else ""
        with ExitStack() as stack:
            job = stack.enter_context(self.scheduler.admit(address))
            request, body = await self._read(http, address)
            model = choose_model(self.generators, request.model)
            job.owner = request.owner or address
            self.scheduler.reserve(job, request.n)
            http.state.logged = {"model": model, "images": request.n, "route": route}
            arguments = (model, self.generators[model], request, body, self.sampling, route)
            prepared = await self._prepare(address, partial(prepare_request, *arguments))
            self.scheduler.submit(prepared.queue(job))
            answer = Answer(prepared, job, self.links, str(http.base_url), route)
            if not request.stream:
                return await answer.complete(http.receive)
            answer.stack = stack.pop_all()
            return answer

    async def nearest(self, http: Request) -> dict[str, Any]:
        """Return the training images nearest to an image."""
        address = http.client.host if http.client else ""
        with self.scheduler.admit(address) as job:
            request, body = await self._read(http, address)
            self.scheduler.reserve(job, 1)
            nearest = self._nearest[choose_model(self.generators, request.model)]
            return await self._prepare(address, lambda: nearest.find(read_photo(body.photo)))

    async def _prepare(self, address: str, work: Callable[[], Result]) -> Result:
        """Return what a function returns. Those of one address take turns, so that they hold up no others for long."""
        turn = self._turns.setdefault(address, asyncio.Lock())
        async with turn:
            return await asyncio.get_running_loop().run_in_executor(self._preparing, work)

    async def _read(self, http: Request, address: str) -> tuple[ImageRequest, Body]:
        async with self._arrivals.receiving(address):
            body = await read_body(http)
        return parse(self.request_type, body.fields), body

    def describe(self, name: str) -> dict[str, Any]:
        """Return what ``/v1/models`` says about a model."""
        generator = self.generators[name]
        can = {"blend": True, "edit": True, "like": not generator.classes, "nearest": bool(self._nearest[name].known)}
        own = {
            "sizes": [stage.config.size for stage in generator.stages],
            "channels": generator.model.config.image_channels,
            "classes": generator.classes,
            "can": [what for what, possible in can.items() if possible],
        }
        return {"id": name, "object": "model", "created": self.started, "owned_by": "captionless", "captionless": own}
