"""The contract of generation.fonts: labels can be read, whatever language they are in."""

from __future__ import annotations

import warnings

import pytest

from captionless.generation import fonts
from captionless.generation.fonts import lettering
from captionless.generation.grids import _wrap


@pytest.mark.parametrize("text", ["a red rose, 2 x 3", ""])
def test_plain_text_is_written_in_pillows_own_font(text: str) -> None:
    font, spelled = lettering(text, 11)
    assert spelled == text
    assert font is fonts._font("", 11)


@pytest.mark.skipif(
    fonts._font("DejaVuSans.ttf", 11) is None, reason="needs a font of the system with Cyrillic letters"
)
def test_other_letters_are_those_of_a_font_of_the_system() -> None:
    font, spelled = lettering("красная роза", 11)
    assert spelled == "красная роза"
    assert all(fonts._has(font, letter) for letter in spelled)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\N{ROSE} a rose", "(rose) a rose"),
        ("\u2764\ufe0f", "(heavy black heart)"),
        ("\N{WOMAN}\U0001f3fd\u200d\N{EAR OF RICE}", "(woman)(ear of rice)"),
        ("Gänseblümchen – weiß", r"Ganseblumchen (en dash) wei\xdf"),
        ("红 rose", "\\u7ea2 rose"),
        ("\ufffe", "\\ufffe"),
    ],
)
def test_what_no_font_has_is_spelled_out_and_told_once(
    text: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fonts, "SYSTEM_FONTS", ())
    with pytest.warns(UserWarning, match="has no font for") as remarks:
        assert [lettering(text, 11)[1] for _ in range(3)] == [expected] * 3
    assert len(remarks) == 1


def test_wide_letters_are_broken_into_more_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        font, spelled = lettering("Щ" * 40, 11)
        lines = _wrap("Щ" * 40, 96)
    assert "".join(lines).startswith(spelled[:20])
    assert all(font.getlength(line) <= 96 for line in lines)
