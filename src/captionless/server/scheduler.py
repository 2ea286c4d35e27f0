"""Sample the images of all requests together: at every network call, the images that wait for one share it.

A sampler asks for predictions, and the network takes a time and a condition per row, so images in one call may differ
in everything: sampler, step, settings, and how long they have been there. This is the continuous batching of Orca
(Yu et al., OSDI 2022), with denoising steps in place of tokens.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import torch
from starlette.requests import ClientDisconnect
from torch import Tensor

from captionless.data.arrays import denormalise
from captionless.device import autocast, exact_convolutions
from captionless.diffusion.sampler_run import Step, advance
from captionless.generation.sample import BatchRun, Stage
from captionless.models.unet import Denoiser
from captionless.server.errors import ApiError, stopping
from captionless.server.metrics import Metrics

log = logging.getLogger(__name__)

MOST_SECONDS = 120
"""Upper limit of ``Retry-After``; clients give up at once if it is longer."""


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
    def network(self) -> Denoiser:
        """The network of the next prediction."""
        return (self.run.stage if self.run else self.stages[0]).denoiser

    def started(self) -> BatchRun:
        """Return the run, which starts now if it has not."""
        self.run = self.run or self.start()
        return self.run


class Job:
    """The images of one request, as a context: leaving it gives up those that are not finished."""

    def __init__(self, scheduler: Scheduler, owner: str) -> None:
        self.owner, self.images, self.closed = owner, 0, False
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


@dataclass
class Scheduler:
    """Samples the images of all jobs in a thread of its own.

    Images take part in the order of their arrival, except that those of different owners alternate: however many one
    owner has in the queue, the first of another is among the next. The stages of a cascade, and different models, have
    network calls of their own, in turn.

    Args:
        rows: number of rows per network call.
        places: number of images that may be waiting or in progress.
        precision: the number format, ``float32`` or ``bf16``.
        device: the device of all models.
        metrics: counts what is done.
    """

    rows: int
    places: int
    precision: str
    device: torch.device
    metrics: Metrics
    stopped: bool = False
    _taken: int = 0
    _images: list[QueuedImage] = field(default_factory=list)
    _jobs: set[Job] = field(default_factory=set)
    _served: dict[Denoiser, int] = field(default_factory=dict)
    _calls: Iterator[int] = field(default_factory=itertools.count)
    _pace: float = 1.0  # seconds of network calls per image
    _spent: float = 0.0  # seconds of network calls since an image was finished

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="sampling", daemon=True)
        self._thread.start()
        self.metrics.watch(lambda: self._taken)

    def admit(self, owner: str) -> Job:
        """Return a job with a place for one image, or raise ``ApiError`` (429) if there is none."""
        job = Job(self, owner)
        self.extend(job, 1)
        return job

    def extend(self, job: Job, images: int) -> None:
        """Give a job places for more images, or raise ``ApiError`` (429)."""
        with self._changed:
            if self.stopped:
                raise stopping()
            if self._taken + images > self.places:
                seconds = str(min(MOST_SECONDS, max(1, math.ceil(self._pace * self._taken / 2))))
                raise ApiError(
                    429,
                    f"the server has {self._taken} images to make. Try again in {seconds} seconds.",
                    kind="rate_limit_error",
                    code="rate_limit_exceeded",
                    headers={"Retry-After": seconds},
                )
            self._taken += images
            job.images += images
            self._jobs.add(job)

    def submit(self, images: list[QueuedImage]) -> None:
        """Start sampling images, for which their job has places."""
        with self._changed:
            self._images += images
            self._changed.notify()

    def release(self, job: Job) -> None:
        """Give up what is left of a job; its rows are free at the next network call."""
        with self._changed:
            if not job.closed:
                job.closed = True
                self._taken -= job.images
                self._jobs.discard(job)

    def abandon(self) -> None:
        """Answer all requests that are not finished with status 503, and accept no others."""
        with self._changed:
            self.stopped = True
            for job in self._jobs:
                job.tell(stopping())

    def close(self) -> None:
        """Stop after the network call in progress."""
        self.abandon()
        with self._changed:
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self.stopped or self._images)
                if self.stopped:
                    return
                self._images = [image for image in self._images if not image.job.closed]
                waiting = list(self._images)
            if waiting:
                self._call(waiting)

    @torch.inference_mode()
    def _call(self, waiting: list[QueuedImage]) -> None:
        """Make one network call for some of the images that wait, and continue with these."""
        began = time.monotonic()
        network = min((image.network for image in waiting), key=lambda one: self._served.get(one, -1))
        self._served[network] = next(self._calls)
        with autocast(self.precision, self.device), exact_convolutions(self.precision, self.device):
            chosen = self._chosen(in_turn([image for image in waiting if image.network is network]))
            try:
                # Not the captured network of a stage: the number of rows changes from call to call.
                steps = advance([image.started() for image in chosen], network) if chosen else []
                finished = [image for image, step in zip(chosen, steps, strict=True) if self._report(image, step)]
            except Exception:
                self._fail(chosen)
                return
        self._remove(finished)
        self._spent += time.monotonic() - began
        if finished:
            self._pace += (self._spent / len(finished) - self._pace) / 5
            self._spent = 0.0

    def _chosen(self, waiting: list[QueuedImage]) -> list[QueuedImage]:
        """Return the first images, as many as have room in a network call, and start those that have not."""
        chosen, rows = list[QueuedImage](), 0
        for image in waiting:
            if rows >= self.rows:
                break
            try:
                own = image.started().row_count
            except Exception:
                self._fail([image])
                continue
            if chosen and rows + own > self.rows:
                break
            rows += own
            chosen.append(image)
        self.metrics.rows.observe(rows)
        return chosen

    def _fail(self, images: list[QueuedImage]) -> None:
        log.exception("images could not be sampled")
        for job in {image.job for image in images}:
            job.tell(ApiError(500, "the image could not be sampled. The server's log says why.", kind="server_error"))
        self._remove(images)

    def _report(self, image: QueuedImage, step: Step | None) -> bool:
        """Tell the job of an image what the last network call gave; return whether the image is finished."""
        job, run = image.job, image.started()
        if job.begun is None:
            job.begun = time.monotonic()
            self.metrics.first_step.observe(job.begun - job.arrived)
        if run.images is not None:
            self.metrics.images.inc()
            job.tell(Sampled(image.index, denormalise(run.images)))
        elif step and step.number in image.partials:
            job.tell(Sampled(image.index, denormalise(step.x0), image.partials.index(step.number)))
        return run.images is not None

    def _remove(self, images: list[QueuedImage]) -> None:
        with self._changed:
            self._images = [image for image in self._images if image not in images]


def in_turn(images: list[QueuedImage]) -> list[QueuedImage]:
    """Sort images so that those of different owners alternate; those of one owner stay in their order."""
    before: Counter[str] = Counter()
    turns = []
    for image in images:
        turns.append(before[image.job.owner])
        before[image.job.owner] += 1
    return [image for _, image in sorted(zip(turns, images, strict=True), key=lambda pair: pair[0])]
