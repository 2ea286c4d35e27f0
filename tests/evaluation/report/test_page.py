"""The contract of captionless.evaluation.report.page: a page that stands alone, and figures for programs."""

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
from captionless.evaluation.report.page import TITLES, Chart, charts, data_uri, render, report_json, write_report
from captionless.evaluation.report.results import Figure, ImageGrid, ModelEvaluation, Report, Section
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
    return Report("data", {}, (ModelEvaluation("model", {}, (Section("fidelity", figures),)),))


def in_order(text: str, *words: str) -> bool:
    places = [text.index(word) for word in words]
    return places == sorted(places)


# --- the page ---


def chart_of(key: str, report: Report = REPORT) -> Chart:
    (found,) = [one for section in TITLES for one in charts(report.models, section) if one.figure.key == key]
    return found


def test_the_page_stands_alone(tmp_path: Path) -> None:
    assert write_report(tmp_path / "new" / "report", REPORT) == tmp_path / "new" / "report" / "index.html"
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
    assert len(links) == 7  # the figures at a glance
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
    figure = Figure(NASTY, NASTY, Estimate(0.5, 0.4, 0.6, 9), explanation=NASTY, marks=((NASTY, Estimate(1, 0, 2, 9)),))
    sheet = ImageGrid(NASTY, Image.new("RGB", (4, 4)), NASTY)
    section = Section("fidelity", (figure,), ((NASTY, NASTY),), (sheet,), (NASTY,))
    html = render(Report(NASTY, {NASTY: NASTY}, (ModelEvaluation(NASTY, {NASTY: NASTY}, (section,), (NASTY,)),)))
    assert "<script" not in html.casefold()
    assert Reader(html).text.count(NASTY) >= 15
    assert all(NASTY in attributes["alt"] for attributes in Reader(html).of("img"))


def test_names_that_are_no_text_are_written_as_codes(tmp_path: Path) -> None:
    write_report(tmp_path, Report("b\udc80d", {}, ()))
    assert r"b\udc80d" in (tmp_path / "index.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["data"] == "b\udc80d"


def test_sections_stand_in_the_order_of_a_readers_questions() -> None:
    backwards = replace(REPORT, models=tuple(replace(one, sections=one.sections[::-1]) for one in REPORT.models))
    questions = [question for _, question in TITLES.values()]
    for page in (PAGE, Reader(render(backwards))):
        assert in_order(page.text, "At a glance", *questions, "How it was measured")
    warning = REPORT.models[1].warnings[0]
    assert in_order(PAGE.text, "Memorisation flagged", warning, "At a glance")


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
    report = Report("data", {}, (ModelEvaluation("model", {}, (section,), memorises=memorises),))
    text = Reader(render(report)).text
    assert f"{title}." in text
    assert ("only 3 images are held out; it rains." in text) == (title == "Memorisation inconclusive")
    assert report_json(report)["models"][0]["verdict"] == title
    assert report_json(report)["models"][0]["reasons"] == ("only 3 images are held out", "it rains")


def test_models_stand_side_by_side_at_a_glance() -> None:
    rows = re.findall(r"<tr>.*?</tr>", HTML[HTML.index("At a glance") :].partition("</table>")[0], re.DOTALL)
    texts = [Reader(row).text for row in rows]
    assert "KID × 1000 ↓ 14.20 12.10 – 16.40 5.10 3.90 – 6.40 0.03 −0.42 – 0.51" in texts
    assert "Recall ↑ 38.5% 34.6% – 42.7% — 88.7% 85.8% – 91.1%" in texts
    assert "Closer to its own words ↑ 0.041 0.032 – 0.049 — —" in texts


def test_a_figure_tells_what_it_is_and_which_way_is_better() -> None:
    explanation = REPORT.models[0].figures["accuracy"].explanation
    assert f"Recognised by a classifier ↑ higher is better {explanation}" in PAGE.text
    assert "KID × 1000 ↓ lower is better" in PAGE.text


def test_a_chart_has_a_row_a_model_then_real_images_and_points_of_comparison_on_an_axis_that_holds_0() -> None:
    chart = chart_of("kid")
    assert [row.estimate.value for row in chart.rows if row.estimate] == [14.2, 5.1, 0.03, 1.31, 9.74]
    assert [row.tone for row in chart.rows] == [1, 2, 0, 0, 0]
    assert (chart.low, chart.high) == (-0.42, 16.4)
    assert [chart.at(value) for value in (-0.42, 16.4, 7.99)] == [0, 100, 50]


def test_the_range_of_real_photographs_lies_behind_each_row() -> None:
    chart = chart_of("precision")
    assert [row.name for row in chart.rows] == ["flowers.model", NASTY, "real images"]
    assert [row.band for row in chart.rows] == [chart.figure.real, None, chart.figure.real]
    assert chart.rows[1].estimate is None


def test_models_measured_on_different_photographs_keep_each_its_own() -> None:
    one, other = (report_cases.accuracy(100), replace(report_cases.accuracy(120), real=Estimate(0.5, 0.4, 0.6, 100)))
    models = [ModelEvaluation(name, {}, (Section("text_alignment", (f,)),)) for name, f in (("a", one), ("b", other))]
    chart = chart_of("accuracy", Report("data", {}, tuple(models)))
    assert [row.name for row in chart.rows] == ["a", "b", "real images (for a)", "real images (for b)"]
    assert [row.band for row in chart.rows[:2]] == [row.estimate for row in chart.rows[2:]] == [one.real, other.real]


def test_a_figure_of_nothing_but_zeros_has_an_axis() -> None:
    chart = chart_of("memorised", with_figures(Figure("memorised", "Memorised", Estimate(0, 0, 0, 9))))
    assert (chart.low, chart.high) == (0, 1)


def test_what_was_not_measured_says_why() -> None:
    why = "it needs more than 768 photographs, for vectors of 384 numbers; there are 550."
    assert f"flowers.model: fid was not measured: {why}" in PAGE.text
    assert f"{NASTY}: precision was not measured: it needs 50 photographs" in PAGE.text


def test_a_single_model_is_not_named_over_each_image() -> None:
    assert "flowers.model: The ten closest" in PAGE.text
    assert "flowers.model:" not in Reader(render(ALONE)).text


def test_a_report_of_nothing_can_be_written(tmp_path: Path) -> None:
    Reader(write_report(tmp_path, Report("data", {}, ())).read_text(encoding="utf-8"))


# --- numbers ---


@pytest.mark.parametrize(
    ("value", "percent", "digits", "text"),
    [
        (0.6234, True, 1, "62.3%"),
        (-0.42, False, 1, "−0.4"),
        (-0.04, False, 1, "0.0"),
        (-0.0004, True, 1, "0.0%"),
        (12345.6, False, 0, "12,346"),
    ],
)
def test_numbers_are_written_for_people(value: float, percent: bool, digits: int, text: str) -> None:
    figure = Figure("key", "label", Estimate(0, 0, 0, 1), percent=percent, digits=digits)
    assert figure.number(value) == text


def test_a_range_is_written_with_its_ends() -> None:
    figure = Figure("key", "label", Estimate(1, 0, 3, 3))
    assert figure.span(Estimate(1, 0.5, 2, 3)) == "0.5 – 2.0"


# --- report.json ---


def test_the_figures_can_be_read_by_programs(tmp_path: Path) -> None:
    write_report(tmp_path, REPORT)
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (found["format"], found["data"], found["settings"]["Seeds"]) == (3, "flowers/val", "0 to 549")
    one, other = found["models"]
    kid = one["figures"]["kid"]
    assert (kid["label"], kid["better"], kid["percent"]) == ("KID × 1000", "lower", False)
    assert kid["value"] == {"value": 14.2, "low": 12.1, "high": 16.4, "n": 550}
    assert kid["real"] == {"value": 0.03, "low": -0.42, "high": 0.51, "n": 550}
    assert kid["marks"][1][1]["value"] == 9.74
    assert (one["memorises"], other["memorises"]) == (False, True)
    assert other["warnings"] == list(REPORT.models[1].warnings)
    assert other["missing"]["precision"] == "it needs 50 photographs; there are 44."
    assert one["notes"][-1] == "Ranges are those of 100 random halves."


def test_the_same_report_is_the_same_bytes_and_replaces_the_one_before(tmp_path: Path) -> None:
    for folder, reports in (("a", [REPORT]), ("b", [ALONE, REPORT])):
        for report in reports:
            write_report(tmp_path / folder, report)
    for name in ("index.html", "report.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CaptionlessError, match="cannot write"):
        write_report(tmp_path / "file", REPORT)


# --- images ---


def decoded(uri: str) -> Image.Image:
    kind, _, data = uri.partition(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == f"data:image/{str(image.format).lower()}"
    return image


def test_photographs_are_made_smaller_and_look_the_same() -> None:
    image = Image.effect_noise((256, 256), 30).resize((512, 512), Image.Resampling.BICUBIC).convert("RGB")
    shown = decoded(data_uri(image))
    assert (shown.format, shown.size) == ("WEBP", image.size)
    difference = [abs(a - b) for a, b in zip(image.tobytes(), shown.convert("RGB").tobytes(), strict=True)]
    assert sum(difference) / len(difference) < 4


@pytest.mark.parametrize("name", ["index.html", "report.json"])
@pytest.mark.parametrize("content", ["<h1>My site</h1>", "{}", "[1]"])
def test_files_of_others_are_not_replaced(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(CaptionlessError, match=rf"not from an earlier report.*{name}"):
        write_report(tmp_path, REPORT)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == content
