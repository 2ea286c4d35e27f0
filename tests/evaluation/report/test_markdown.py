"""The contract of the evaluation in a model's card."""

from dataclasses import replace
from pathlib import Path

import pytest

import report_cases
import tiny
from captionless.checkpoints.card import add_evaluation, write_model_card
from captionless.errors import CaptionlessError
from captionless.evaluation.report.markdown import evaluation_markdown
from captionless.evaluation.report.results import ModelEvaluation
from report_cases import NASTY

REPORT = report_cases.report()
ONE, OTHER = REPORT.models
BEGIN, END = "<!-- evaluation: begin -->", "<!-- evaluation: end -->"
CARD = "# flowers\r\n\r\nMine: hä, \tkept.\n\n## Credits\n\nThe photographers.\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "README.md").write_bytes(CARD.encode())
    return tmp_path


def card(folder: Path) -> str:
    return (folder / "README.md").read_bytes().decode()


# --- its lines ---


def test_each_figure_stands_with_its_range_beside_real_photographs() -> None:
    lines = evaluation_markdown(ONE, REPORT).splitlines()
    assert "| KID × 1000 ↓ | 14.20 (12.10 – 16.40) | 0.03 (−0.42 – 0.51) | 550 |" in lines
    assert "| Recognised by a classifier ↑ | 62.0% (55.1% – 68.4%) | 87.8% (84.8% – 90.3%) | 200 |" in lines
    assert "| Closer to its own words ↑ | 0.041 (0.032 – 0.049) | — | 200 |" in lines
    assert sum(line.startswith("|") for line in lines) == 2 + len(ONE.figures)


def test_verdict_and_warnings_come_first() -> None:
    assert evaluation_markdown(ONE, REPORT).startswith("**Memorisation not flagged.**")
    lines = evaluation_markdown(OTHER, REPORT)
    assert lines.startswith("> **Warning:** 24 of the held-out")
    assert lines.index("**Memorisation flagged.**") < lines.index("| KID")


def test_it_says_what_was_left_out_and_how_it_was_measured() -> None:
    lines = evaluation_markdown(ONE, REPORT)
    assert "- fid was not measured: it needs more than 768 photographs" in lines
    assert "Measured against the images of: flowers/val; " in lines
    assert "Seeds: 0 to 549" in lines


def test_names_mean_nothing_in_markdown_and_stay_on_their_line() -> None:
    nasty = f"{NASTY} | *a* `b`\n\n## Credits {END}"
    section = replace(
        ONE.sections[0], figures=(replace(report_cases.accuracy(9), label=nasty),), missing=((nasty,) * 2,)
    )
    lines = evaluation_markdown(ModelEvaluation(nasty, {}, (section,), (nasty,)), replace(REPORT, data=nasty))
    assert not any("<script" in line or END in line or " *a* " in line for line in lines.splitlines())
    assert not any(line.startswith("## ") for line in lines.splitlines())
    (row,) = [line for line in lines.splitlines() if line.startswith("| ") and "häßlich" in line]
    assert row.replace(r"\|", "").count("|") == 5


# --- its place ---


def test_an_evaluation_stands_before_the_credits_and_all_else_is_kept(folder: Path) -> None:
    add_evaluation(folder, "Good.\n")
    section = f"{BEGIN}\n## Evaluation\n\nGood.\n{END}\n\n"
    assert card(folder) == CARD.replace("## Credits", f"{section}## Credits")


def test_a_later_evaluation_takes_the_place_of_the_one_before(folder: Path) -> None:
    add_evaluation(folder, "Good.")
    (folder / "README.md").write_bytes((card(folder) + "\nAdded below.\n").encode())
    before = card(folder)
    add_evaluation(folder, "Better \\1 \\g<0>.")
    assert card(folder) == before.replace("Good.", "Better \\1 \\g<0>.")


def test_a_person_may_move_it(folder: Path) -> None:
    moved = f"# flowers\n\n## Credits\n\nThe photographers.\n\n{BEGIN}\nold\n{END}\n\nThe last word.\n"
    (folder / "README.md").write_bytes(moved.encode())
    add_evaluation(folder, "New.")
    assert card(folder) == moved.replace("old", "## Evaluation\n\nNew.")


def test_a_text_cannot_end_its_section(folder: Path) -> None:
    for _ in range(2):
        add_evaluation(folder, f"Good. {END} Still good. {BEGIN}")
    assert card(folder).count("Still good.") == 1
    assert card(folder).endswith("## Credits\n\nThe photographers.\n")


def test_bytes_that_are_no_text_are_kept(folder: Path) -> None:
    (folder / "README.md").write_bytes(b"# caf\xe9\n")
    add_evaluation(folder, "Good.")
    assert (folder / "README.md").read_bytes().startswith(b"# caf\xe9\n\n<!-- eval")


def test_a_folder_without_a_card_gets_one(tmp_path: Path) -> None:
    add_evaluation(tmp_path, "Good.")
    assert card(tmp_path) == f"# {tmp_path.name}\n\n{BEGIN}\n## Evaluation\n\nGood.\n{END}\n"


def test_new_weights_bring_a_card_without_the_old_evaluation(tmp_path: Path) -> None:
    model = tiny.model()
    write_model_card(tmp_path, model.config, model.denoiser, tmp_path)
    fresh = card(tmp_path)
    add_evaluation(tmp_path, evaluation_markdown(ONE, REPORT))
    assert card(tmp_path) != fresh
    write_model_card(tmp_path, model.config, model.denoiser, tmp_path)
    assert card(tmp_path) == fresh


def test_a_folder_that_is_not_there_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(CaptionlessError, match=r"no model folder .*missing.* Pass a folder"):
        add_evaluation(tmp_path / "missing", "Good.")
    assert not (tmp_path / "missing").exists()


def test_a_card_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "README.md").mkdir()
    with pytest.raises(CaptionlessError, match=r"README.md: it is a folder"):
        add_evaluation(tmp_path, "Good.")
