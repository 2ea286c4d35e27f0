"""The server under load: does it use the machine, how long does one request wait among others, is an image ever lost?

    python -m benchmarks.serve_load                                                # 13 minutes on two idle CPU cores
    python -m benchmarks.serve_load --steps 1 --seconds 3 --sweep 1 2 --requests 2                    # does it run?

The parts, in this order; each appends a line per case to ``benchmarks/results/serve.jsonl``:

- ``sweep``: throughput of the library without a server, with batches of 1 to 32 images.
- ``closed``: ``captionless serve``, in a process of its own, under 32 clients and then under nine. Each client is a
  user, and sends its next request when the last is answered.
- ``one``: the latency of one user's requests, sent one at a time: alone; while eight requests of one other user run;
  and while eight other users have one request each. In the last case the one pauses between its requests, because
  without a pause it would be one of nine equal users (``closed``).
- ``poisson``: requests that arrive at random, at 50, 80 and 120% of the throughput of ``closed`` with 32 clients.

In ``closed`` and ``poisson``, ``/healthz`` is asked ten times a second, to see that the server answers at once, and its
memory is read before and after. Every image is compared with that of its seed, and every status is counted, so that an
image that was lost, or given to another client, is noticed. ``benchmarks/results/serve.md`` has the forecast, and what
was measured.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from PIL import Image

from benchmarks.record import RESULTS, measured

OUT = RESULTS / "serve.jsonl"
PROMPT = "a red rose bud"
SEEDS = 8
"""Different images that are asked for."""
OTHERS = 8
"""Requests beside the one whose latency is measured."""
SHARES = (0.5, 0.8, 1.2)
"""Rates of arrival, as shares of the throughput of ``closed``."""
MOST_REPEATS, FEWEST_IMAGES = 3, 16
"""Repeats of a batch of the sweep: until this many images are made, or so often."""
FIRST_STEP, MEMORY = "captionless_first_step_seconds", "process_resident_memory_bytes"
TOLERANCE = 1
"""Levels by which an image may differ from the same image in another batch, in float32."""


@dataclass
class Load:
    """What came of the requests of one measurement."""

    expected: list[np.ndarray]
    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: int = 0

    async def ask(self, client: httpx2.AsyncClient, seed: int, user: str) -> None:
        """Send a request, and note how it was answered and how long that took."""
        began = time.perf_counter()
        fields = {"prompt": PROMPT, "seed": seed, "user": user}
        answer = await client.post("/v1/images/generations", json=fields)
        self.statuses[answer.status_code] += 1
        if answer.status_code == 200:
            self.seconds.append(time.perf_counter() - began)
            self.wrong += np.abs(_pixels(answer) - self.expected[seed]).max() > TOLERANCE

    def figures(self, seconds: float) -> dict[str, Any]:
        """Return throughput, latency and failures."""
        return {
            "images_per_second": len(self.seconds) / seconds,
            "p50": _quantile(self.seconds, 0.5),
            "p95": _quantile(self.seconds, 0.95),
            "statuses": dict(self.statuses),
            "wrong_images": int(self.wrong),
        }


@asynccontextmanager
async def watched(client: httpx2.AsyncClient, figures: dict[str, Any]) -> AsyncIterator[None]:
    """Add figures of the server: its memory before and after, the time to the first step, how soon it answers."""

    async def metrics() -> dict[str, float]:
        lines = (await client.get("/metrics")).text.splitlines()
        return {line.split()[0]: float(line.split()[1]) for line in lines if not line.startswith("#")}

    async def ask() -> None:
        while True:
            began = time.perf_counter()
            await client.get("/healthz")
            seconds.append(time.perf_counter() - began)
            await asyncio.sleep(0.1)

    seconds: list[float] = []
    before, asking = await metrics(), asyncio.create_task(ask())
    yield
    asking.cancel()
    after = await metrics()
    total, count = (after[f"{FIRST_STEP}_{end}"] - before[f"{FIRST_STEP}_{end}"] for end in ("sum", "count"))
    figures["mean_seconds_to_first_step"] = total / max(count, 1)
    figures["megabytes"] = [round(each[MEMORY] / 1e6) for each in (before, after)]
    figures["health_p50"], figures["health_p99"] = _quantile(seconds, 0.5), _quantile(seconds, 0.99)


def main() -> None:
    """Measure everything."""
    options = _options()
    random.seed(0)
    best = sweep(options.sweep, options.steps)
    with server(options) as client:
        asyncio.run(loads(client, options, best))


def sweep(batches: list[int], steps: int) -> float:
    """Measure the library's throughput by batch; return the best, in images per second."""
    import captionless

    generator, best = captionless.load("bundled"), 0.0
    sampling = captionless.SamplingConfig(steps=steps, upsample_steps=(steps + 1) // 2)
    generator.generate(PROMPT, progress=False, sampling=sampling)
    for batch in batches:
        with measured(OUT, "serve", part="sweep", batch=batch, steps=steps) as figures:
            times = []
            for _ in range(min(MOST_REPEATS, max(1, FEWEST_IMAGES // batch))):
                began = time.perf_counter()
                generator.generate(PROMPT, n=batch, sampling=sampling, batch=batch, progress=False)
                times.append(time.perf_counter() - began)
            figures["images_per_second"] = batch / statistics.median(times)
        best = max(best, figures["images_per_second"])
        print(f"sweep, batch {batch}: {figures['images_per_second']:.3f} images/s", flush=True)
    return best


@contextmanager
def server(options: argparse.Namespace) -> Iterator[str]:
    """Start the server; yield its address."""
    words = [sys.executable, "-m", "captionless", "serve", "--port", "0", "--batch", str(options.rows)]
    words += ["--steps", str(options.steps), "--upsample-steps", str((options.steps + 1) // 2)]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("w") as file:
            process = subprocess.Popen(words, stderr=file)
        try:
            while not (found := re.search(r"http://\S+", log.read_text())):
                if process.poll() is not None:
                    sys.exit(f"the server did not start: {log.read_text()}")
                time.sleep(0.1)
            yield found[0]
        finally:
            process.terminate()
            process.wait()


async def loads(address: str, options: argparse.Namespace, best: float) -> None:
    """Measure the server, and compare its throughput with the best of the library."""
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=address, timeout=None, limits=limits) as client:
        expected = []
        for seed in range(SEEDS):
            answer = await client.post("/v1/images/generations", json={"prompt": PROMPT, "seed": seed})
            expected.append(_pixels(answer))
        rate = await closed(client, expected, options, options.clients, best)
        await closed(client, expected, options, OTHERS + 1, best)
        for others, users, pause in ((0, 0, 0.0), (OTHERS, 1, 0.0), (OTHERS, OTHERS, options.pause)):
            await one(client, expected, options, others, users, pause)
        for share in SHARES:
            await poisson(client, expected, options.seconds, share, rate)


async def closed(
    client: httpx2.AsyncClient, expected: list[np.ndarray], options: argparse.Namespace, clients: int, best: float
) -> float:
    """Measure clients that always have one request; return images per second."""
    load, began = Load(expected), time.perf_counter()

    async def ask(number: int) -> None:
        while time.perf_counter() - began < options.seconds:
            await load.ask(client, random.randrange(SEEDS), str(number))

    with measured(OUT, "serve", part="closed", clients=clients, rows=options.rows) as figures:
        async with watched(client, figures):
            await asyncio.gather(*map(ask, range(clients)))
        figures |= load.figures(time.perf_counter() - began)
        figures["of_best_sweep"] = figures["images_per_second"] / best
    print(f"closed, {clients}:", figures, flush=True)
    return float(figures["images_per_second"])


async def one(
    client: httpx2.AsyncClient,
    expected: list[np.ndarray],
    options: argparse.Namespace,
    others: int,
    users: int,
    pause: float,
) -> None:
    """Measure one request at a time, while others run; ``pause`` is the mean time before the next."""
    load, rest = Load(expected), Load(expected)
    case = {"others": others, "users": users, "pause": pause, "rows": options.rows}
    with measured(OUT, "serve", part="one", **case) as figures:

        async def run(number: int) -> None:
            while True:
                await rest.ask(client, random.randrange(SEEDS), f"other {number % users}")

        tasks = [asyncio.create_task(run(number)) for number in range(others)]
        await asyncio.sleep(options.seconds / 4 if others else 0)  # until they are out of step
        began = time.perf_counter()
        for _ in range(options.requests):
            await asyncio.sleep(random.expovariate(1 / pause) if pause else 0)
            await load.ask(client, random.randrange(SEEDS), "one")
        figures |= load.figures(time.perf_counter() - began)
        figures["images_of_others"], figures["wrong_images_of_others"] = len(rest.seconds), int(rest.wrong)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    print(f"one among {others} of {users}:", figures, flush=True)


async def poisson(
    client: httpx2.AsyncClient, expected: list[np.ndarray], seconds: float, share: float, capacity: float
) -> None:
    """Measure requests that arrive at random."""
    load, tasks, began = Load(expected), list[asyncio.Task[None]](), time.perf_counter()
    with measured(OUT, "serve", part="poisson", share=share, rate=share * capacity) as figures:
        async with watched(client, figures):
            while time.perf_counter() - began < seconds:
                await asyncio.sleep(random.expovariate(share * capacity))
                tasks.append(asyncio.create_task(load.ask(client, random.randrange(SEEDS), str(len(tasks)))))
            await asyncio.gather(*tasks)
        figures |= load.figures(time.perf_counter() - began)
        figures["sent"] = len(tasks)
    print(f"poisson, {share:.0%}:", figures, flush=True)


def _pixels(answer: httpx2.Response) -> np.ndarray:
    data = base64.b64decode(answer.raise_for_status().json()["data"][0]["b64_json"])
    return np.asarray(Image.open(io.BytesIO(data))).astype(int)


def _quantile(seconds: list[float], share: float) -> float:
    return float(np.quantile(seconds or [np.nan], share))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="duration of each load")
    parser.add_argument("--clients", type=int, default=32, help="clients of the closed loop")
    parser.add_argument("--requests", type=int, default=12, help="requests whose latency is measured one by one")
    parser.add_argument(
        "--pause", type=float, default=10, help="mean seconds between requests of who does not always ask"
    )
    parser.add_argument("--rows", type=int, default=16, help="rows per network call (--batch of the server)")
    parser.add_argument("--steps", type=int, default=15, help="denoising steps; half as many of super-resolution")
    parser.add_argument("--sweep", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32], help="batches of the sweep")
    return parser.parse_args()


if __name__ == "__main__":
    main()
