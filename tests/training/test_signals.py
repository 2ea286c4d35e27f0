"""Stopping a training between two steps."""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytest

from captionless.signals import TERMINATION
from captionless.training.loop import StopTraining
from captionless.training.processes import Processes
from captionless.training.signals import StopOnSignal

HANGUP = TERMINATION[-1]
"""What closing a terminal sends: SIGHUP, or SIGBREAK on Windows."""


def stopper(said: list[str] | None = None) -> StopOnSignal:
    return StopOnSignal(Processes(), (said if said is not None else []).append)


@pytest.mark.parametrize("number", [signal.SIGINT, *TERMINATION])
def test_the_training_is_stopped_after_the_step_in_which_a_signal_came(number: signal.Signals) -> None:
    state: Any = None
    said: list[str] = []
    with stopper(said) as stop:
        stop.on_step(state)
        signal.raise_signal(number)
        assert len(said) == 1
        with pytest.raises(StopTraining):
            stop.on_step(state)


def test_a_signal_abandons_what_may_be_abandoned_and_nothing_more_is_begun() -> None:
    state: Any = None
    done: list[str] = []

    def draw() -> None:
        signal.raise_signal(signal.SIGTERM)
        done.append("drawn to the end")

    with stopper() as stop:
        stop.attempt(lambda: done.append("before"))
        stop.attempt(draw)
        stop.attempt(lambda: done.append("after"))
        assert done == ["before"]
        signal.raise_signal(HANGUP)  # they come in pairs
        with pytest.raises(StopTraining):
            stop.on_step(state)


def test_a_second_one_does_stop_at_once() -> None:
    with stopper():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_signals_that_come_in_pairs_stop_it_once() -> None:
    state: Any = None
    with stopper() as stop:
        for number in (HANGUP, HANGUP, signal.SIGTERM):
            signal.raise_signal(number)
        with pytest.raises(StopTraining):
            stop.on_step(state)


def test_an_ignored_hangup_stays_ignored() -> None:
    state: Any = None
    before = signal.signal(HANGUP, signal.SIG_IGN)
    try:
        with stopper() as stop:
            signal.raise_signal(HANGUP)
            stop.on_step(state)
        assert signal.getsignal(HANGUP) == signal.SIG_IGN
    finally:
        signal.signal(HANGUP, before)


def test_a_signal_during_a_print_only_costs_the_remark() -> None:
    state: Any = None

    def busy(_: str) -> None:
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    with StopOnSignal(Processes(), busy) as stop:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(StopTraining):
            stop.on_step(state)


def test_afterwards_signals_do_what_they_did_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stopper():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_is_left_alone() -> None:
    found: list[bool] = []

    def work() -> None:
        with stopper() as stop:
            found.append(stop.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
