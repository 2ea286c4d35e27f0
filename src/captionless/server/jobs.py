"""The images of a request on their way through the scheduler, and what a request is told about them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from starlette.requests import ClientDisconnect
from torch import Tensor

from captionless.diffusion.objective import Network
from captionless.generation.sample import BatchRun, Stage
from captionless.server.errors import stopping

if TYPE_CHECKING:
    from captionless.server.scheduler import Scheduler


@dataclass(frozen=True)
class Sampled:
    """News of an image: a prediction on the way, or the image itself if ``partial`` is None."""

    index: int
    pixels: Tensor  # uint8, (1, channels, size, size)
    partial: int | None = None


@dataclass(eq=False)
class QueuedImage:
    """An image of a job, from its arrival to its last step.

    Args:
        job: the request that it belongs to.
        index: its place in the request.
        stages: the stages of its model.
        start: starts sampling, when the first network call has room for it.
        partials: the numbers of the steps whose predictions are to be shown.
    """

    job: Job
    index: int
    stages: list[Stage]
    start: Callable[[], BatchRun]
    partials: list[int]
    run: BatchRun | None = None

    @property
    def network(self) -> Network:
        """The network of the next prediction."""
        return (self.run.stage if self.run else self.stages[0]).network

    def started(self) -> BatchRun:
        """Return the run, which starts now if it has not."""
        self.run = self.run or self.start()
        return self.run


class Job:
    """The images of one request, as a context: leaving it gives up those that are not finished."""

    def __init__(self, scheduler: Scheduler, owner: str) -> None:
        self.owner, self.images, self.closed = owner, 0, False
        self.places = 0  # those in the queue that its images hold: each until it is sampled
        self.begun: float | None = None  # time of the first step
        self.arrived = time.monotonic()
        self._scheduler, self._loop = scheduler, asyncio.get_running_loop()
        self._news: asyncio.Queue[Sampled | Exception] = asyncio.Queue()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._scheduler.release(self)

    def tell(self, news: Sampled | Exception) -> None:
        """Pass on what happened, from any thread."""
        self._loop.call_soon_threadsafe(self._news.put_nowait, news)

    async def news(self, gone: asyncio.Task[None], patience: float) -> AsyncIterator[Sampled | None]:
        """Yield what happens until all images are finished, and None whenever nothing has for ``patience`` seconds.

        Raises:
            ClientDisconnect: the task ``gone``, which waits for the client to disconnect, has ended.
            ApiError: the images cannot be finished.
        """
        gone.add_done_callback(lambda _: self._news.put_nowait(ClientDisconnect()))
        left = self.images
        while left:
            # Before the news that wait for a client who is slow to take them.
            if gone.done():
                raise ClientDisconnect
            if self._scheduler.stopped:
                raise stopping()
            try:
                async with asyncio.timeout(patience):
                    what = await self._news.get()
            except TimeoutError:
                yield None
                continue
            if isinstance(what, Exception):
                raise what
            left -= what.partial is None
            yield what


def in_turn(images: list[QueuedImage]) -> list[QueuedImage]:
    """Sort images so that those of different owners alternate; those of one owner stay in their order."""
    before: Counter[str] = Counter()
    turns = []
    for image in images:
        turns.append(before[image.job.owner])
        before[image.job.owner] += 1
    return [image for _, image in sorted(zip(turns, images, strict=True), key=lambda pair: pair[0])]
