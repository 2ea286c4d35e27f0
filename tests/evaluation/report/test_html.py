"""The contract of captionless.evaluation.report.html: a page that stands alone, and figures for programs."""

import base64
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

import report_cases
from captionless.errors import CaptionlessError
from captionless.evaluation.metrics import Estimate, share
from captionless.evaluation.report.format import number, span
from captionless.evaluation.report.html import as_json, data_uri, render, write
from captionless.evaluation.report.page import Block, parts
from captionless.evaluation.report.results import Figure, ImageGrid, ModelEvaluation, Report, Section, Table
from report_cases import NASTY

REPORT = report_cases.report()
HTML = render(REPORT)
ALONE = replace(REPORT, models=REPORT.models[:1])
VOID = {"meta", "col", "img", "br", "link", "input", "hr"}


class Reader(HTMLParser):
    """Reads a page and fails where its tags do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def of(self, tag: str) -> Iterator[dict[str, str]]:
        return (attributes for name, attributes in self.tags if name == tag)


PAGE = Reader(HTML)


def with_figures(*figures: Figure) -> Report:
    return Report("data", (), (ModelEvaluation("model", (), (Section("fidelity", figures),)),))


def in_order(text: str, *words: str) -> bool:
    places = [text.index(word) for word in words]
    return places == sorted(places)


# --- the page ---


def block_of(key: str, report: Report = REPORT) -> Block:
    (block,) = [block for part in parts(report) for block in part.blocks if block.figure.key == key]
    return block


def test_the_page_stands_alone(tmp_path: Path) -> None:
    assert write(tmp_path / "new" / "report", REPORT) == tmp_path / "new" / "report" / "index.html"
    assert sorted(path.name for path in (tmp_path / "new" / "report").iterdir()) == ["index.html", "report.json"]
    sources = [attributes["src"] for attributes in PAGE.of("img")]
    assert len(sources) == 4
    assert all(source.startswith("data:image/") for source in sources)
    assert not [tag for tag, _ in PAGE.tags if tag in ("script", "link", "iframe", "object", "base")]
    assert not re.search(r"https?://|url\(|@import", HTML)


def test_the_page_is_well_formed_and_links_only_to_what_it_has() -> None:
    anchors = Counter(attributes["id"] for _, attributes in PAGE.tags if "id" in attributes)
    assert max(anchors.values()) == 1
    links = [attributes["href"] for attributes in PAGE.of("a")]
    assert len(links) == 7 + 4  # the figures at a glance, and the images
    assert all(link[0] == "#" and link[1:] in anchors for link in links)


@pytest.mark.parametrize("report", [REPORT, ALONE, with_figures(), replace(REPORT, models=REPORT.models * 4)])
def test_tables_are_rectangular(report: Report) -> None:
    for table in re.findall(r"<table.*?</table>", render(report), re.DOTALL):
        widths = set()
        for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL):
            cells = re.findall(r"<t[hd][^>]*>", row)
            widths.add(sum(int((re.search(r'colspan="(\d+)"', cell) or [0, 1])[1]) for cell in cells))
        assert len(widths) == 1


def test_what_people_named_is_shown_as_they_wrote_it_and_never_run() -> None:
    assert "<script" not in HTML
    assert NASTY in PAGE.text


def test_every_text_of_a_report_can_be_nasty() -> None:
    figure = Figure(NASTY, NASTY, Estimate(0.5, 0.4, 0.6, 9), better=NASTY, explanation=NASTY)
    table = Table(NASTY, (NASTY,), ((NASTY,),), NASTY)
    sheet = ImageGrid(NASTY, Image.new("RGB", (4, 4)), NASTY)
    section = Section(NASTY, (figure,), ((NASTY, NASTY),), (), (table,), (sheet,), (NASTY,))
    html = render(
        Report(NASTY, ((NASTY, NASTY),), (ModelEvaluation(NASTY, ((NASTY, NASTY),), (section,), (NASTY,)),), NASTY)
    )
    assert "<script" not in html.casefold()
    assert Reader(html).text.count(NASTY) >= 17
    assert all(NASTY in attributes["alt"] for attributes in Reader(html).of("img"))


def test_names_that_are_no_text_are_written_as_codes(tmp_path: Path) -> None:
    write(tmp_path, Report("b\udc80d", (), ()))
    assert r"b\udc80d" in (tmp_path / "index.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["data"] == "b\udc80d"


def test_parts_stand_in_the_order_of_a_readers_questions() -> None:
    backwards = replace(REPORT, models=tuple(replace(one, sections=one.sections[::-1]) for one in REPORT.models))
    expected = ["Text alignment", "Fidelity and diversity", "Memorisation", "Sweeps", "Prompt by prompt"]
    assert [part.title for part in parts(REPORT)] == [part.title for part in parts(backwards)] == expected
    warning = REPORT.models[1].warnings[0]
    assert in_order(
        PAGE.text, "Memorisation flagged", warning, "At a glance", "Do the images show", "How it was measured"
    )


@pytest.mark.parametrize(
    ("memorises", "measured", "title"),
    [
        (True, True, "Memorisation flagged"),
        (False, True, "Memorisation not flagged"),
        (None, True, "Memorisation inconclusive"),
        (None, False, "Memorisation not measured"),
    ],
)
def test_page_and_json_say_whether_memorisation_is_flagged(memorises: bool | None, measured: bool, title: str) -> None:
    figure = Figure("memorised", "Memorised", share(0, 100), share(0, 3), percent=True)
    section = Section("memorisation", (figure,) if measured else (), reasons=("only 3 images are held out", "it rains"))
    report = Report("data", (), (ModelEvaluation("model", (), (section,), memorises=memorises),))
    text = Reader(render(report)).text
    assert f"{title}." in text
    assert ("only 3 images are held out; it rains." in text) == (title == "Memorisation inconclusive")
    assert as_json(report)["models"][0]["verdict"] == title
    assert as_json(report)["models"][0]["reasons"] == ["only 3 images are held out", "it rains"]


def test_models_stand_side_by_side_at_a_glance() -> None:
    rows = re.findall(r"<tr>.*?</tr>", HTML[HTML.index("At a glance") :].partition("</table>")[0], re.DOTALL)
    texts = [Reader(row).text for row in rows]
    assert "KID × 1000 ↓ 14.20 12.10 – 16.40 5.10 3.90 – 6.40 0.03 −0.42 – 0.51" in texts
    assert "Recall ↑ 38.5% 34.6% – 42.7% — 88.7% 85.8% – 91.1%" in texts
    assert "Closer to its own words ↑ 0.041 0.032 – 0.049 —" in texts


def test_a_figure_tells_what_it_is_and_which_way_is_better() -> None:
    explanation = REPORT.models[0].figures["accuracy"].explanation
    assert f"Recognised by a classifier ↑ higher is better {explanation}" in PAGE.text
    assert "KID × 1000 ↓ lower is better" in PAGE.text
    plain = replace(REPORT.models[0].figures["kid"], better="neither")
    assert "better" not in Reader(render(with_figures(plain))).text


def test_models_lie_among_the_marks_on_the_scale_of_kid() -> None:
    block = block_of("kid")
    assert [row.value for row in block.rows] == ["0.03", "1.31", "5.10", "9.74", "14.20", "83.00"]
    assert [row.tone for row in block.rows] == [0, 0, 2, 0, 1, 0]
    places = [row.bar.at for row in block.rows if row.bar]
    assert len(places) == 6
    assert places == sorted(places)
    assert block.bent


def test_the_range_of_real_photographs_lies_behind_each_row() -> None:
    block = block_of("precision")
    real = block.rows[-1]
    assert (real.kind, real.name) == ("real", "real images")
    assert [row.band for row in block.rows] == [real.bar] * 3


def test_models_measured_on_different_photographs_keep_each_its_own() -> None:
    one, other = (report_cases.accuracy(100), replace(report_cases.accuracy(120), real=Estimate(0.5, 0.4, 0.6, 100)))
    models = [ModelEvaluation(name, (), (Section("text_alignment", (f,)),)) for name, f in (("a", one), ("b", other))]
    block = block_of("accuracy", Report("data", (), tuple(models)))
    assert [row.name for row in block.rows] == ["a", "b", "real images (for a)", "real images (for b)"]
    assert [row.band for row in block.rows[:2]] == [row.bar for row in block.rows[2:]]


def test_what_was_not_measured_says_why_once() -> None:
    why = "it needs more than 768 photographs, for vectors of 384 numbers; there are 550."
    assert PAGE.text.count(f"fid was not measured: {why}") == 1
    assert f"Precision was not measured of {NASTY}: it needs 50 photographs" in PAGE.text
    rows = {row.name: row for row in block_of("precision").rows}
    assert rows[NASTY].why.startswith("it needs 50")


def test_a_single_model_is_not_named_over_each_image() -> None:
    (named,) = parts(REPORT)[2].grids.values()
    (unnamed,) = parts(ALONE)[2].grids.values()
    assert [model for model, _ in named] == ["flowers.model", NASTY]
    assert [model for model, _ in unnamed] == [""]


def test_a_report_of_nothing_can_be_written(tmp_path: Path) -> None:
    Reader(write(tmp_path, Report("data", (), ())).read_text(encoding="utf-8"))


# --- numbers ---


@pytest.mark.parametrize(
    ("value", "percent", "digits", "text"),
    [
        (0.6234, True, 1, "62.3%"),
        (-0.42, False, 1, "−0.4"),
        (-0.04, False, 1, "0.0"),
        (-0.0004, True, 1, "0.0%"),
        (12345.6, False, 0, "12,346"),
        (float("nan"), False, 1, "—"),
        (float("inf"), True, 1, "—"),
    ],
)
def test_numbers_are_written_for_people(value: float, percent: bool, digits: int, text: str) -> None:
    figure = Figure("key", "label", Estimate(0, 0, 0, 1), percent=percent, digits=digits)
    assert number(value, figure) == text


def test_a_range_without_an_end_is_left_out() -> None:
    figure = Figure("key", "label", Estimate(1, 0, float("inf"), 3))
    assert span(figure.value, figure) == ""
    assert span(Estimate(1, 0.5, 2, 3), figure) == "0.5 – 2.0"


# --- report.json ---


def test_the_figures_can_be_read_by_programs(tmp_path: Path) -> None:
    write(tmp_path, REPORT)
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert found == as_json(REPORT)
    assert (found["format"], found["data"], found["settings"]["Seeds"]) == (2, "flowers/val", "0 to 549")
    one, other = found["models"]
    kid = one["figures"]["kid"]
    assert (kid["label"], kid["better"], kid["percent"]) == ("KID × 1000", "lower", False)
    assert kid["value"] == {"value": 14.2, "low": 12.1, "high": 16.4, "n": 550}
    assert kid["real"] == {"value": 0.03, "low": -0.42, "high": 0.51, "n": 550}
    assert one["reference_points"]["half"]["value"]["value"] == 9.74
    assert (one["memorises"], other["memorises"]) == (False, True)
    assert other["warnings"] == list(REPORT.models[1].warnings)
    assert other["sections"]["fidelity"]["missing"]["precision"] == "it needs 50 photographs; there are 44."
    assert one["sections"]["sweeps"]["tables"][0]["rows"][0] == ["0", "41.0% (34 – 48)", "11.3", "52%"]
    assert "grids" not in one["sections"]["text_alignment"]


def test_what_is_no_number_is_null_and_dashed(tmp_path: Path) -> None:
    odd = Figure("odd", "Odd", Estimate(float("nan"), float("-inf"), float("inf"), 3), Estimate(1, 0, 2, 3))
    page = Reader(write(tmp_path, with_figures(odd)).read_text(encoding="utf-8"))
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert list(found["models"][0]["figures"]["odd"]["value"].values()) == [None, None, None, 3]
    assert not re.search(r"\b(nan|inf|None)\b", page.text)
    assert not any("nan" in value for _, attributes in page.tags for value in attributes.values())


def test_the_same_report_is_the_same_bytes_and_replaces_the_one_before(tmp_path: Path) -> None:
    for folder, reports in (("a", [REPORT]), ("b", [ALONE, REPORT])):
        for report in reports:
            write(tmp_path / folder, report)
    for name in ("index.html", "report.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CaptionlessError, match="cannot write"):
        write(tmp_path / "file", REPORT)


# --- images ---


def decoded(uri: str) -> Image.Image:
    kind, _, data = uri.partition(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == f"data:image/{str(image.format).lower()}"
    return image


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1"])
def test_plain_images_are_kept_exactly(mode: str) -> None:
    image = report_cases.plain_image(40, 30).convert(mode)
    shown = decoded(data_uri(image))
    assert shown.format == "PNG"
    assert shown.convert("RGB").tobytes() == image.convert("RGB").tobytes()


def test_photographs_are_made_smaller_and_look_the_same() -> None:
    image = Image.effect_noise((256, 256), 30).resize((512, 512), Image.Resampling.BICUBIC).convert("RGB")
    shown = decoded(data_uri(image))
    assert (shown.format, shown.size) == ("WEBP", image.size)
    difference = [abs(a - b) for a, b in zip(image.tobytes(), shown.convert("RGB").tobytes(), strict=True)]
    assert sum(difference) / len(difference) < 4


def test_an_image_too_tall_for_webp_is_shown_all_the_same() -> None:
    image = Image.effect_noise((4, 16400), 30)
    assert decoded(data_uri(image)).size == image.size
