"""Sample the images of all requests together: at every network call, the images that wait for one share it.

A sampler asks for predictions, and the network takes a time and a condition per row, so images in one call may differ
in everything: sampler, step, settings, and how long they have been there. This is the continuous batching of Orca
(Yu et al., OSDI 2022), with denoising steps in place of tokens.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass, field

import torch

from captionless.data.arrays import denormalise
from captionless.device import autocast, exact_convolutions, use_threads_here
from captionless.diffusion.sampler_run import advance
from captionless.generation.stage import ImageStep
from captionless.server.errors import ApiError, failure, stopping
from captionless.server.jobs import Job, QueuedImage, Sampled, in_turn
from captionless.server.metrics import Metrics

log = logging.getLogger(__name__)

MOST_SECONDS = 120
"""Upper limit of ``Retry-After``; clients give up at once if it is longer."""
HALF_LIFE = 30.0
"""Seconds after which half of what an owner has used is forgotten."""
NEGLIGIBLE = 0.01
"""Seconds that are forgotten at once."""
BEHIND = 0.75
"""An owner who has used less than this share of what the one who has used the most has is behind the others."""
MOST_SHARE = 2
"""On a CPU, images of others that take part in a network call for each of those who are behind. There, every row makes
a call longer."""


@dataclass
class Scheduler:
    """Samples the images of all jobs in a thread of its own.

    The machine is shared by owners, not by images: the next network call is that of the owner who has used the least
    time lately, and of each owner the oldest images come first (decayed usage, as in Kay & Lauder, "A fair share
    scheduler", CACM 1988). Who asks now and then is therefore served before those who always ask, but gains little if
    these are many owners: each of them has used hardly more, and a call shared with their images takes longer. The
    others' images that wait for the same network fill the batch; the stages of a cascade, and different models, have
    network calls of their own.

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
    _used: dict[str, float] = field(default_factory=dict)  # seconds of network calls, by owner, as far as not forgotten
    _faded: float = field(default_factory=time.monotonic)  # when the seconds in ``_used`` were last made less
    _pace: float = 1.0  # seconds of network calls per image
    _spent: float = 0.0  # seconds of network calls since an image was finished

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        arguments = (torch.get_num_threads(),)
        self._thread = threading.Thread(target=self._work, args=arguments, name="sampling", daemon=True)
        self._thread.start()
        self.metrics.watch(lambda: self._taken)

    @property
    def working(self) -> bool:
        """Whether images are taken on and sampled."""
        return not self.stopped and self._thread.is_alive()

    def admit(self, owner: str) -> Job:
        """Return a job without images, or raise ``ApiError`` (429) if there is no place for any."""
        self.check(1)
        return Job(self, owner)

    def check(self, images: int) -> None:
        """Raise ``ApiError`` unless there are places for so many images (429), and the server goes on (503)."""
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

    def reserve(self, job: Job, images: int) -> None:
        """Give a job places for its images, or raise ``ApiError``."""
        with self._changed:
            self.check(images)
            self._taken += images
            job.images = job.places = images
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
                self._taken -= job.places
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

    def _work(self, threads: int) -> None:
        use_threads_here(threads)
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
        line = self._line(waiting, began)
        network = line[0].network
        with autocast(self.precision, self.device), exact_convolutions(self.precision, self.device):
            chosen = self._chosen(line)
            try:
                steps = advance([image.started() for image in chosen], network) if chosen else []
                finished = [image for image, step in zip(chosen, steps, strict=True) if self._report(image, step)]
            except Exception as error:  # whatever it is, the images of other requests are still to be made
                self._fail(chosen, error)
                return
        self._remove(finished)
        seconds = time.monotonic() - began
        for image in chosen:
            self._used[image.job.owner] += seconds / len(chosen)
        self._spent += seconds
        if finished:
            self._pace += (self._spent / len(finished) - self._pace) / 5
            self._spent = 0.0

    def _line(self, waiting: list[QueuedImage], now: float) -> list[QueuedImage]:
        """Return the images that are first in line for a network call, all for the same network."""
        left = 0.5 ** ((now - self._faded) / HALF_LIFE)
        self._faded = now
        owners = {image.job.owner: 0.0 for image in waiting}
        self._used = owners | {
            owner: used * left for owner, used in self._used.items() if owner in owners or used > NEGLIGIBLE
        }
        waiting = sorted(waiting, key=lambda image: self._used[image.job.owner])
        line = in_turn([image for image in waiting if image.network is waiting[0].network])
        enough = BEHIND * max(self._used[owner] for owner in owners)
        behind = sum(self._used[image.job.owner] < enough for image in line)
        return line[: behind * (1 + MOST_SHARE)] if behind and self.device.type == "cpu" else line

    def _chosen(self, waiting: list[QueuedImage]) -> list[QueuedImage]:
        """Return the first images, as many as have room in a network call, and start those that have not."""
        chosen, rows = list[QueuedImage](), 0
        for image in waiting:
            if rows >= self.rows:
                break
            try:
                own = image.started().row_count
            except Exception as error:  # as in `_call`
                self._fail([image], error)
                continue
            if chosen and rows + own > self.rows:
                break
            rows += own
            chosen.append(image)
        self.metrics.rows.observe(rows)
        return chosen

    def _fail(self, images: list[QueuedImage], error: Exception) -> None:
        answer = failure(error, "the image")
        log.error(f"images could not be sampled: {error}", exc_info=answer.status == 500)
        for job in {image.job for image in images}:
            job.tell(answer)
        self._remove(images)

    def _report(self, image: QueuedImage, step: ImageStep | None) -> bool:
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
        """Forget images, and free their places: a client that is slow to read what it asked for holds none."""
        with self._changed:
            self._images = [image for image in self._images if image not in images]
            for job in (image.job for image in images if not image.job.closed):
                job.places -= 1
                self._taken -= 1
