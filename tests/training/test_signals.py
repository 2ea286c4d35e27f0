"""Stopping a training between two steps."""

from __future__ import annotations

import signal
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from captionless.training.loop import StopTraining
from captionless.training.signals import StopOnSignal, StopRequest, stop_requests


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_does_not_stop_at_once(number: signal.Signals) -> None:
    with stop_requests() as stop:
        assert not stop.requested
        signal.raise_signal(number)
        assert stop.requested


def test_a_second_one_does_stop_at_once() -> None:
    with stop_requests():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_afterwards_signals_do_what_they_did_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stop_requests():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_is_left_alone() -> None:
    found: list[StopRequest] = []

    def work() -> None:
        with stop_requests() as stop:
            found.append(stop)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not found[0].requested


def test_the_training_is_stopped_after_the_step_in_which_a_signal_came() -> None:
    accelerator: Any = SimpleNamespace(num_processes=1)
    state: Any = None
    stop = StopRequest()
    callback = StopOnSignal(accelerator, stop)
    callback.on_step(state)
    stop.requested = True
    with pytest.raises(StopTraining):
        callback.on_step(state)
