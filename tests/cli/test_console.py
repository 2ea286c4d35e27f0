"""What the command line prints about long work."""

from __future__ import annotations

import pytest

from captionless.cli import console


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "less than a minute left"),
        (29, "less than a minute left"),
        (80, "about 1 minute left"),
        (130, "about 2 minutes left"),
    ],
)
def test_the_time_left_is_a_sentence_that_reads_well(seconds: float, words: str) -> None:
    assert console.time_left(seconds) == words


def test_a_log_file_gets_the_share_done_and_the_detail(capsys: pytest.CaptureFixture[str]) -> None:
    with console.working() as bar:
        bar.logged = float("-inf")
        bar.advance("Training", 130, 1000, "64 images seen")
    assert "Training: 13%, 64 images seen" in capsys.readouterr().err
