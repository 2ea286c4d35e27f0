"""Map a function over files in parallel processes, in order and with bounded memory, tolerating crashes of a worker."""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future
from itertools import islice
from typing import TypeVar

from loky import ProcessPoolExecutor

from captionless.signals import TERMINATION

T = TypeVar("T")
Item = TypeVar("Item")

_CHUNK = 4
_AHEAD = 2  # chunks per process
# The worker processes already use all cores; additional threads of numerical libraries only add start-up time.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def map_in_processes(
    function: Callable[[Item], T], files: Iterable[Item], workers: int, lost: Callable[[Item], T]
) -> Iterator[T]:
    """Yield ``function(file)`` for each file, in order.

    Workers are started by loky, so the caller's script needs no ``if __name__ == "__main__"`` guard. At most
    ``workers * 8`` results are held in memory, however slowly they are consumed. If a worker dies (usually killed by
    the operating system for lack of memory), the files that it may have been processing are retried one at a time.

    Args:
        function: a picklable function; its exceptions propagate.
        files: the files to pass to ``function``.
        workers: number of worker processes.
        lost: returns the result for a file that crashes its worker even when it is processed alone.
    """
    files = iter(files)
    chunks = iter(lambda: list(islice(files, _CHUNK)), [])
    waiting: deque[tuple[Sequence[Item], Future[list[T]]]] = deque()
    pool = _start(workers)
    try:
        while True:
            try:
                while len(waiting) < workers * _AHEAD and (chunk := next(chunks, None)):
                    waiting.append((chunk, pool.submit(_call, function, chunk)))
                if not waiting:
                    break
                results = waiting[0][1].result()
                waiting.popleft()
            except BrokenExecutor:
                pool.shutdown(kill_workers=True)
                unfinished = [file for chunk, _ in waiting for file in chunk]
                waiting.clear()
                for file in unfinished:
                    yield _call_alone(function, file, lost)
                pool = _start(workers)
            else:
                yield from results
    finally:
        _stop(pool, [future for _, future in waiting])


def _call_alone(function: Callable[[Item], T], file: Item, lost: Callable[[Item], T]) -> T:
    """Return ``function(file)``, computed in a separate process."""
    pool = _start(1)
    try:
        results: list[T] = pool.submit(_call, function, [file]).result()
        return results[0]
    except BrokenExecutor:
        return lost(file)
    finally:
        pool.shutdown(kill_workers=True)


def _start(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, initializer=_begin, initargs=(os.getpid(),), env=_ONE_THREAD)


def _stop(pool: ProcessPoolExecutor, futures: Sequence[Future[list[T]]]) -> None:
    """Shut down the pool, killing its workers if results are outstanding (interruption, or the consumer stopped)."""
    # Killing a process while a task is being sent to it makes loky print a traceback. Sending takes milliseconds.
    for _ in range(200):
        if all(future.running() or future.done() for future in futures):
            break
        time.sleep(0.005)
    pool.shutdown(kill_workers=bool(futures))


def _call(function: Callable[[Item], T], files: Sequence[Item]) -> list[T]:
    faulthandler.disable()  # loky enables it; a crash is reported through `lost`, not by a traceback
    return [function(file) for file in files]


def _begin(parent: int) -> None:
    """Ignore the signals that end the main process, which are often sent to every process, and end with it."""
    for number in (signal.SIGINT, *TERMINATION):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process soon after its parent, which may have been killed; on Windows, loky sees to that."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
