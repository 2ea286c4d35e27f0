"""Mapping a function over many files in several processes: in order, few at a time, surviving the worst file."""

from __future__ import annotations

import faulthandler
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future
from pathlib import Path
from typing import TypeVar

from joblib.externals.loky import ProcessPoolExecutor

T = TypeVar("T")

_CHUNK = 4
_AHEAD = 2  # chunks a process; loky hands out up to 2 * workers + 1 at once, see `_abandon`
# Several processes already keep the cores busy; threads of numerical libraries within each only add start-up.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def map_in_processes(
    function: Callable[[Path], T], files: Sequence[Path], *, workers: int, lost: Callable[[Path], T]
) -> Iterator[T]:
    """Yield ``function(file)`` for each file, in order.

    The processes are joblib's (loky), which need no ``if __name__ == "__main__"`` in the caller's script. At
    most ``workers * 8`` results exist at a time, however slowly they are taken: joblib's own generator would
    pile up the whole folder behind a slow reader. When a process dies (most often stopped by the operating
    system for want of memory) the files it may have been at are tried again one by one.

    Args:
        function: can be pickled; its own errors come out of the iterator.
        files: its arguments.
        workers: number of processes.
        lost: what to yield for a file that ends its process also when it is alone.
    """
    chunks = (files[i : i + _CHUNK] for i in range(0, len(files), _CHUNK))
    waiting: deque[Sequence[Path]] = deque()
    futures: deque[Future[list[T]]] = deque()
    pool = _start(workers)
    try:
        while True:
            try:
                while len(waiting) < workers * _AHEAD and (chunk := next(chunks, None)):
                    waiting.append(chunk)
                    futures.append(pool.submit(_call, function, chunk))
                if not waiting:
                    break
                results = futures.popleft().result()
                waiting.popleft()
            except BrokenExecutor:
                pool.shutdown(kill_workers=True)
                suspects = [file for chunk in waiting for file in chunk]
                waiting.clear()
                futures.clear()
                yield from _one_by_one(function, suspects, lost)
                pool = _start(workers)
            else:
                yield from results
    finally:
        _abandon(pool, futures)


def _one_by_one(function: Callable[[Path], T], files: Sequence[Path], lost: Callable[[Path], T]) -> Iterator[T]:
    pool = _start(1)
    try:
        for file in files:
            try:
                results = pool.submit(_call, function, [file]).result()
            except BrokenExecutor:
                pool.shutdown(kill_workers=True)
                pool = _start(1)
                results = [lost(file)]
            yield from results
    finally:
        pool.shutdown(kill_workers=True)


def _abandon(pool: ProcessPoolExecutor, futures: Sequence[Future[list[T]]]) -> None:
    """End the pool; at once, where results are outstanding (an interruption, or a reader that had enough)."""
    # Killing while a task is on its way to a process makes loky print a traceback. It is there in no time.
    for _ in range(200):
        if all(future.running() or future.done() for future in futures):
            break
        time.sleep(0.005)
    pool.shutdown(kill_workers=bool(futures))


def _start(workers: int) -> ProcessPoolExecutor:
    pool = ProcessPoolExecutor(workers, initializer=_ignore_interruption, env=_ONE_THREAD)
    if threading.current_thread() is threading.main_thread() and (before := signal.getsignal(signal.SIGINT)):
        # The first task starts the processes. Ignored here, Ctrl-C is ignored by them from their birth on.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            pool.submit(int)
        finally:
            signal.signal(signal.SIGINT, before)
    return pool


def _call(function: Callable[[Path], T], files: Sequence[Path]) -> list[T]:
    faulthandler.disable()  # loky enables it; a crash is told through `lost`, not by a traceback
    return [function(file) for file in files]


def _ignore_interruption() -> None:
    """Ctrl-C reaches every process of a terminal; the main one ends the others, in silence."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
