"""Map a function over many files in several processes: in order, a few at a time, tolerating files that crash it."""

from __future__ import annotations

import faulthandler
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future
from pathlib import Path
from typing import TypeVar

from loky import ProcessPoolExecutor

T = TypeVar("T")

_CHUNK = 4
_AHEAD = 2  # chunks per process
# Several processes already keep the cores busy; threads of numerical libraries in each only add start-up time.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def map_in_processes(
    function: Callable[[Path], T], files: Sequence[Path], workers: int, lost: Callable[[Path], T]
) -> Iterator[T]:
    """Yield ``function(file)`` for each file, in order.

    The processes are loky's, which need no ``if __name__ == "__main__"`` in the caller's script. At most
    ``workers * 8`` results exist at a time, however slowly they are consumed. When a process dies (usually stopped by
    the operating system for lack of memory), the files that it may have been reading are tried again one by one.

    Args:
        function: can be pickled; its own exceptions propagate.
        files: its arguments.
        workers: number of processes.
        lost: result for a file that ends its process even when it is alone.
    """
    chunks = (files[i : i + _CHUNK] for i in range(0, len(files), _CHUNK))
    waiting: deque[tuple[Sequence[Path], Future[list[T]]]] = deque()
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


def _call_alone(function: Callable[[Path], T], file: Path, lost: Callable[[Path], T]) -> T:
    """Return ``function(file)``, computed in a process of its own."""
    pool = _start(1)
    try:
        results: list[T] = pool.submit(_call, function, [file]).result()
        return results[0]
    except BrokenExecutor:
        return lost(file)
    finally:
        pool.shutdown(kill_workers=True)


def _start(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, initializer=_ignore_interruption, env=_ONE_THREAD)


def _stop(pool: ProcessPoolExecutor, futures: Sequence[Future[list[T]]]) -> None:
    """Shut the pool down; without delay if results are outstanding (an interruption, or a consumer that stopped)."""
    # Killing a process while a task is being sent to it makes loky print a traceback. Sending takes milliseconds.
    for _ in range(200):
        if all(future.running() or future.done() for future in futures):
            break
        time.sleep(0.005)
    pool.shutdown(kill_workers=bool(futures))


def _call(function: Callable[[Path], T], files: Sequence[Path]) -> list[T]:
    faulthandler.disable()  # loky enables it; a crash is reported through `lost`, not by a traceback
    return [function(file) for file in files]


def _ignore_interruption() -> None:
    """Ignore Ctrl-C, which reaches every process of a terminal: the main process shuts the others down."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
