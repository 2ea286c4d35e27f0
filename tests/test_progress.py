"""The contract of progress: who receives the progress of long work, and the bar that is drawn of it."""

from __future__ import annotations

import io
import sys

import pytest
import tqdm

from captionless import progress
from captionless.progress import ProgressBar, Silent, choose_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_is_drawn_only_where_somebody_sees_it_or_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    silent, own = Silent(), Silent()
    assert choose_progress(own) is own
    assert isinstance(choose_progress(True), ProgressBar)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert type(choose_progress(None)) is type(silent)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert isinstance(choose_progress(None), ProgressBar)
    assert type(choose_progress(False)) is type(silent)
    monkeypatch.setattr(sys, "stderr", type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})())
    assert isinstance(choose_progress(None), ProgressBar)


def test_a_bar_shows_task_count_and_detail_and_disappears_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(tqdm.tqdm, "__init__", _at_once(tqdm.tqdm.__init__))
    bar = ProgressBar()
    bar.advance("Generating", 1, 4)
    bar.say("a remark")
    bar.advance("Generating", 3, 4, "loss 0.1")
    shown = terminal.getvalue()
    assert "Generating" in shown
    assert "3/4" in shown
    assert "loss 0.1" in shown
    assert "a remark\n" in shown
    bar.advance("Generating", 4, 4)
    assert terminal.getvalue().rsplit("\r", 2)[-2].strip() == ""


def _at_once(init: object) -> object:
    def start(self: object, *args: object, **named: object) -> None:
        init(self, *args, **named | {"delay": 0, "mininterval": 0})  # type: ignore[operator]

    return start


def test_a_log_file_gets_the_share_done_and_the_detail(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    bar = ProgressBar()
    bar.advance("Training", 120, 1000)
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    bar.advance("Training", 130, 1000, "64 images seen")
    assert log.getvalue() == "Training: 13%, 64 images seen\n"
