"""The page, in headless Chromium: each feature as a user meets it, with nothing in the console or from elsewhere."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import tiny
from captionless.generation.generator import Generator
from captionless.server.app import PAGE
from server_cases import SAMPLING, Served, Steps, generator, png, serving

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("Chromium is not installed (apt-get install chromium)", allow_module_level=True)
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
OPTIONS += ["--disable-component-update", "--disable-sync"]
PHONE = {"width": 390, "height": 844}
expect = playwright.expect
expect.set_options(timeout=20_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as server:
        yield server


@contextmanager
def visiting(
    browser: Any, served: Served, fragment: str = "", expected: str | None = None, **options: Any
) -> Iterator[Any]:
    """Open the page in a browser of its own, and fail for what the console shows or another origin is asked for.

    Args:
        browser: Chromium.
        served: the server.
        fragment: the settings in the address.
        expected: errors in the console that contain this are meant.
        **options: those of Playwright's ``new_context``.
    """
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"], **options)
    context.set_default_timeout(20_000)
    page, faults = context.new_page(), []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
    page.on("request", lambda sent: None if sent.url.startswith((served.url, "blob:")) else faults.append(sent.url))
    page.goto(f"{served.url}/{fragment}")
    try:
        yield page
        assert not [fault for fault in faults if expected is None or expected not in fault]
    finally:
        context.close()


@pytest.fixture
def page(browser: Any, served: Served) -> Iterator[Any]:
    with visiting(browser, served) as opened:
        ready(opened)
        yield opened


def ready(page: Any) -> None:
    expect(page.locator("#sampler option")).not_to_have_count(0)


def generate(page: Any, prompts: str = "a rose", images: int = 1) -> None:
    page.fill("#prompts", prompts)
    page.press("#prompts", "Enter")
    finished(page, images)


def finished(page: Any, images: int) -> None:
    expect(page.locator(".tile:enabled")).to_have_count(images)
    expect(page.locator("#go")).to_have_text("Generate")


def shown(page: Any, index: int = 0) -> dict[str, str]:
    """Open an image and return the settings that are shown."""
    page.locator(".tile").nth(index).click()
    names, values = page.locator("dt").all_inner_texts(), page.locator("dd").all_inner_texts()
    return {name.lower(): value for name, value in zip(names, values, strict=True)}


def test_a_sentence_becomes_an_image_that_forms_on_the_way(browser: Any) -> None:
    model = generator()
    steps = Steps(model)
    with serving({"tiny": model}) as served, visiting(browser, served) as page:
        page.fill("#prompts", "a rose")
        page.press("#prompts", "Enter")
        expect(page.locator("#go")).to_have_text("Stop")
        steps.make(1)
        expect(page.locator(".tile:disabled img")).to_have_count(1)
        steps.free()
        finished(page, 1)
        assert page.locator(".tile").get_attribute("data-frames") == "3"  # of 3 steps


def test_stop_frees_the_server_and_leaves_no_unfinished_image(browser: Any) -> None:
    model = generator()
    steps = Steps(model)
    with serving({"tiny": model}) as served, visiting(browser, served) as page:
        page.fill("#prompts", "a rose")
        page.press("#prompts", "Enter")
        steps.make(1)
        expect(page.locator(".tile:disabled img")).to_have_count(1)
        page.click("#go")
        expect(page.locator(".run")).to_have_count(0)
        expect(page.locator("#go")).to_have_text("Generate")
        steps.free()
        served.wait(images=0, places=0)


def test_prompts_scales_and_seeds_make_a_grid(page: Any) -> None:
    page.fill("#guidance", "0, 2.5")
    page.click("#more")
    page.fill("#seed", "40")
    generate(page, "a rose\na tulip", images=8)
    rows = ["a rose · guidance 0", "a rose · guidance 2.5", "a tulip · guidance 0", "a tulip · guidance 2.5"]
    assert page.locator("h3").all_inner_texts() == rows
    assert page.locator("figcaption").all_inner_texts() == ["seed 40", "seed 41"] * 4
    settings = shown(page, 3)
    assert page.inner_text("#large-prompt") == "a rose"
    assert (settings["guidance"], settings["seed"]) == ("2.5", "41")


def test_an_unlocked_seed_changes_and_a_locked_one_stays(page: Any) -> None:
    generate(page, images=1)
    generate(page, images=2)
    first, second = (text for text in page.locator("figcaption").all_inner_texts())
    assert first != second
    page.click("#lock")
    assert f"seed {page.input_value('#seed')}" == first  # the newest run is at the top
    generate(page, "a tulip", images=3)
    assert page.locator("figcaption").all_inner_texts() == [first, first, second]


def test_a_live_page_follows_every_change_in_place(page: Any) -> None:
    page.fill("#prompts", "a rose")
    page.check("#live")
    finished(page, 1)
    seed = page.inner_text("figcaption")
    page.fill("#guidance", "1")
    expect(page.locator(".facts")).to_contain_text("guidance 1 ")
    finished(page, 1)
    assert page.inner_text("figcaption") == seed


def test_images_are_still_there_after_a_reload_until_they_are_deleted(page: Any) -> None:
    generate(page, "a rose", images=1)
    generate(page, "a tulip", images=2)
    page.reload()
    expect(page.locator(".tile:enabled")).to_have_count(2)
    assert page.locator(".run h2").all_inner_texts() == ["a tulip", "a rose"]
    page.click(".run:first-child button:text('Delete')")
    expect(page.locator(".run")).to_have_count(1)
    page.reload()
    expect(page.locator(".run")).to_have_count(1)
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("#clear")
    expect(page.locator(".run")).to_have_count(0)
    page.reload()
    ready(page)
    expect(page.locator("#empty")).to_be_visible()
    assert page.locator(".run").count() == 0


def test_a_link_holds_all_settings(page: Any, browser: Any, served: Served) -> None:
    page.click("summary")
    values = {"guidance": "1, 2", "variety": "0.2", "seed": "5", "steps": "2", "negative": "a & b"}
    values["prompts"] = "ä #1\nb"
    for name, value in values.items():
        page.fill(f"#{name}", value)
    page.select_option("#sampler", "euler")
    page.click("#more")
    page.click("#link")
    expect(page.locator("#status")).to_have_text("Link copied.")
    link = page.evaluate("navigator.clipboard.readText()")
    with visiting(browser, served, link.removeprefix(f"{served.url}/")) as other:
        expect(other.locator("#prompts")).to_have_value(values["prompts"])
        assert {name: other.input_value(f"#{name}") for name in values} == values
        assert other.input_value("#sampler") == "euler"
        assert other.inner_text("#count") == "2"


def test_a_link_with_nonsense_falls_back_to_the_defaults(browser: Any, served: Served) -> None:
    nonsense = "#guidance=x&variety=7&seed=-1&steps=1e9&sampler=best&size=3&count=900&model=other&prompt=a+rose"
    with visiting(browser, served, nonsense) as page:
        expect(page.locator("#prompts")).to_have_value("a rose")
        assert (page.input_value("#guidance"), page.input_value("#variety")) == ("3", "0.35")
        assert (page.input_value("#seed"), page.input_value("#steps"), page.inner_text("#count")) == ("", "3", "1")


def test_a_download_holds_the_settings_and_restores_them(page: Any) -> None:
    page.fill("#guidance", "1.5")
    page.fill("#seed", "8")
    generate(page, "A rose, red!", images=1)
    page.click(".tile")
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "a-rose-red-8.png"
    file = download.value.path()
    with Image.open(file) as image:
        assert image.info["prompt"] == "A rose, red!"
        assert json.loads(image.info["guidance"]) == 1.5
    page.keyboard.press("Escape")
    page.click("#reset")
    page.fill("#prompts", "")
    page.set_input_files("#file", file)
    expect(page.locator("#prompts")).to_have_value("A rose, red!")
    assert (page.input_value("#guidance"), page.input_value("#seed")) == ("1.5", "8")


def test_a_dropped_image_of_the_command_line_restores_its_settings(page: Any) -> None:
    made = generator().generate("a rose", seed=3, sampling=SAMPLING.replace(guidance=0.5))[0]
    drop(page, made.encoded("PNG"))
    expect(page.locator("#prompts")).to_have_value("a rose")
    assert (page.input_value("#guidance"), page.input_value("#seed"), page.input_value("#steps")) == ("0.5", "3", "3")


@pytest.mark.parametrize("damage", ["no settings", "cut", "foreign", "no png"])
def test_a_dropped_image_without_settings_is_explained(page: Any, damage: str) -> None:
    text, file = PngInfo(), io.BytesIO()
    text.add_itxt("prompt", "a foreign image", zip=True)
    Image.new("RGB", (4, 4)).save(file, "PNG", pnginfo=text)
    files = {"no settings": png(), "cut": png()[:40], "foreign": file.getvalue(), "no png": b"hello"}
    drop(page, files[damage])
    expect(page.locator("#problem")).to_contain_text("no settings")


def drop(page: Any, data: bytes) -> None:
    ready(page)
    page.evaluate(
        """(bytes) => {
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([new Uint8Array(bytes)], "image.png"));
          document.dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
        }""",
        list(data),
    )


def test_the_denoising_can_be_scrubbed_through(page: Any) -> None:
    generate(page, images=1)
    page.click(".tile")
    before = page.get_attribute("#large", "src")
    page.focus("#scrub")
    page.keyboard.press("ArrowLeft")
    assert page.input_value("#scrub") == "1"
    assert page.get_attribute("#large", "src") != before


def test_the_key_is_asked_for_once(browser: Any) -> None:
    key = "a-key-of-enough-letters"
    with serving(key=key) as served, visiting(browser, served, expected="401") as page:
        for given in ("wrong", key):
            page.fill("#key", given)
            page.press("#key", "Enter")
            expect(page.locator("#key")).to_have_value("")
        ready(page)
        generate(page, images=1)
        page.reload()
        expect(page.locator(".tile")).to_have_count(1)
        assert not page.locator("#key-dialog").is_visible()


def test_classes_are_chosen_from_a_list(browser: Any) -> None:
    model = Generator(tiny.class_model(), device="cpu")
    with serving({"classes": model}) as served, visiting(browser, served) as page:
        page.click(".chip:text('daisy')")
        page.click(".chip:text('rose')")
        assert page.input_value("#prompts") == "daisy\nrose"
        page.click("#go")
        finished(page, 2)
        page.click(".chip:text('rose')")
        assert page.input_value("#prompts") == "daisy"


def test_several_models_are_chosen_by_name(browser: Any) -> None:
    with serving({"one": generator(), "two": generator()}) as served, visiting(browser, served) as page:
        ready(page)
        page.select_option("#model", "two")
        generate(page, images=1)
        assert shown(page)["model"] == "two"


def test_what_is_wrong_is_said_at_its_field(page: Any) -> None:
    page.fill("#guidance", "a lot")
    page.fill("#prompts", "a rose")
    page.press("#prompts", "Enter")
    expect(page.locator("#problem")).to_contain_text("from -100 to 100")
    assert page.get_attribute("#guidance", "aria-invalid") == "true"
    assert page.locator(".run").count() == 0
    page.fill("#guidance", "2")
    page.press("#prompts", "Enter")
    finished(page, 1)
    expect(page.locator("#problem")).to_be_hidden()


def test_an_error_of_the_server_is_shown(browser: Any) -> None:
    model = Generator(tiny.class_model(), device="cpu")
    with serving({"classes": model}) as served, visiting(browser, served, expected="400") as page:
        page.fill("#prompts", "a pansy")
        page.press("#prompts", "Enter")
        expect(page.locator("#problem")).to_contain_text("daisy")
        expect(page.locator(".run")).to_have_count(0)


def test_remarks_about_a_prompt_are_shown(page: Any, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    familiarity = served.service.generators["tiny"].familiarity
    monkeypatch.setattr(familiarity, "remarks", lambda prompts, vectors: ["never heard of it"])
    generate(page)
    expect(page.locator(".warnings")).to_have_text("never heard of it")


@pytest.mark.slow
def test_a_busy_server_is_asked_again(browser: Any) -> None:
    with serving(queue=10) as served, visiting(browser, served, expected="429") as page:
        ready(page)
        for _ in range(9):
            page.click("#more")
        generate(page, "a rose\na tulip", images=20)


def test_everything_is_reached_by_keyboard(page: Any) -> None:
    press, typed = page.keyboard.press, page.keyboard.type
    expect(page.locator("#prompts")).to_be_focused()
    typed("a rose")
    press("Shift+Enter")
    typed("a tulip")
    press("Enter")
    finished(page, 2)
    tab_to(page, "guidance-range")
    press("ArrowRight")
    assert page.input_value("#guidance") == "3.5"
    tab_to(page, "live")
    press("Space")
    finished(page, 4)
    press("Space")
    page.locator(".tile").first.focus()
    press("Enter")
    expect(page.locator("#viewer")).to_be_visible()
    first = page.inner_text("#large-prompt")
    press("ArrowRight")
    assert page.inner_text("#large-prompt") != first
    press("Escape")
    expect(page.locator("#viewer")).to_be_hidden()
    expect(page.locator(".tile").nth(1)).to_be_focused()


def tab_to(page: Any, name: str) -> None:
    for _ in range(40):
        if page.evaluate("document.activeElement.id") == name:
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not lead to {name}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, served: Served, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    with visiting(browser, served, color_scheme=scheme, viewport=PHONE, reduced_motion="reduce") as page:
        ready(page)
        page.click("summary")
        generate(page, "a rose\na tulip", images=2)
        for dialog in (False, True):
            if dialog:
                page.locator(".tile").first.click()
            found = axe.Axe().run(page).response["violations"]
            assert not [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]


def test_a_phone_shows_all_without_scrolling_sideways(browser: Any, served: Served) -> None:
    with visiting(browser, served, viewport=PHONE) as page:
        ready(page)
        page.click("summary")
        page.fill("#guidance", "0, 1, 2")
        generate(page, f"a {'very ' * 10}long{'g' * 60} sentence", images=3)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        page.locator(".tile").first.click()
        assert page.evaluate("document.querySelector('#viewer').scrollWidth") <= PHONE["width"]


def test_the_page_is_small_and_names_no_other_place() -> None:
    files = [path for path in PAGE.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 100_000
    for path in files:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(https?:)?//[a-z]|style=|\bon[a-z]+=\"", text), path.name
