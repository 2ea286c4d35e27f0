"""The page, in headless Chromium: each feature as a user meets it, with nothing in the console or from elsewhere."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import tiny
from captionless.conditioning.composition import Composition
from captionless.generation.generator import Generator
from captionless.server.app import PAGE
from server_cases import SAMPLING, Served, Steps, cascade, generator, png, serving, trained_on

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("Chromium is not installed (apt-get install chromium)", allow_module_level=True)
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
OPTIONS += ["--disable-component-update", "--disable-sync"]
LARGE = """async () => {
  const image = document.querySelector("#large");
  await image.decode();
  const canvas = new OffscreenCanvas(8, 8);
  canvas.getContext("2d").drawImage(image, 0, 0);
  return canvas.getContext("2d").getImageData(0, 0, 8, 8).data.join();
}"""
"""The pixels of the image that is shown large."""
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
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    photos, model = trained_on(tmp_path_factory.mktemp("trained"))
    with serving({"tiny": model}, training_images=photos) as server:
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
    # It listens now, or says why it does not.
    page.locator("#empty:not([hidden]), #past:not([hidden]), #problem:not([hidden]), dialog[open]").first.wait_for()
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


def test_what_is_typed_and_asked_for_before_the_page_is_ready_is_not_lost(browser: Any, served: Served) -> None:
    context, asked = browser.new_context(), list[Any]()
    page = context.new_page()
    page.route("**/openapi.json", lambda route: asked.append(route))
    page.goto(served.url)
    page.fill("#prompts", "a rose")
    page.press("#prompts", "Enter")
    expect(page.locator("#go")).to_be_disabled()
    asked[0].continue_()
    finished(page, 1)
    assert page.inner_text(".run h2") == "a rose"
    context.close()


def test_a_photograph_that_is_removed_while_it_is_read_stays_away(page: Any) -> None:
    page.evaluate(
        """() => {
          const write = OffscreenCanvas.prototype.convertToBlob;
          window.begun = new Promise((begin) => {
            OffscreenCanvas.prototype.convertToBlob = async function () {
              begin();
              await new Promise((finish) => { window.finish = finish; });
              return write.call(this);
            };
          });
        }"""
    )
    drop(page, png())
    page.evaluate("window.begun")
    page.evaluate("document.getElementById('remove-photo').click()")
    page.evaluate("() => { window.finish(); return new Promise((resolve) => setTimeout(resolve, 100)); }")
    assert page.locator("#photo").is_hidden()


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
        expect(page.locator("#status")).to_have_text("Stopped")
        steps.free()
        served.wait(images=0, places=0)


def test_a_server_that_breaks_off_in_the_middle_of_an_image_is_named(browser: Any) -> None:
    model = generator()
    steps = Steps(model)
    with serving({"tiny": model}) as served, visiting(browser, served, expected="net::ERR_") as page:
        page.fill("#prompts", "a rose")
        page.press("#prompts", "Enter")
        steps.make(1)
        expect(page.locator(".tile:disabled img")).to_have_count(1)
        (job,) = {image.job for image in served.service.scheduler._images}
        for connection in list(served.server.server_state.connections):
            job._loop.call_soon_threadsafe(connection.transport.abort)  # type: ignore[union-attr]
        expect(page.locator("#problem")).to_contain_text("broke off in the middle of an image")
        expect(page.locator("#status")).to_have_text("")
        expect(page.locator("#go")).to_have_text("Generate")
        steps.free()


def test_a_stream_that_ends_before_its_image_is_an_error(page: Any) -> None:
    page.route("**/generations", lambda route: route.fulfill(content_type="text/event-stream", body=": waiting\n\n"))
    page.fill("#prompts", "a rose")
    page.press("#prompts", "Enter")
    expect(page.locator("#problem")).to_contain_text("broke off in the middle of an image")


def test_prompts_scales_and_seeds_make_a_grid(page: Any) -> None:
    page.fill("#guidance", "0, 2.5")
    page.click("#more")
    page.fill("#seed", "40")
    generate(page, "a rose\na tulip", images=8)
    rows = ["a rose · guidance 0", "a rose · guidance 2.5", "a tulip · guidance 0", "a tulip · guidance 2.5"]
    assert page.locator(".run h3").all_inner_texts() == rows
    assert page.locator("figcaption").all_inner_texts() == ["seed 40", "seed 41"] * 4
    settings = shown(page, 3)
    assert page.inner_text("#large-prompt") == "a rose"
    assert (settings["guidance"], settings["seed"]) == ("2.5", "41")


def test_prompts_to_compare_are_asked_for_one_on_each_line(page: Any) -> None:
    page.click("#another")
    assert page.get_attribute("#prompts", "placeholder") == "One prompt on each line"
    page.fill("#prompts", "a rose")
    page.click("#another")
    page.keyboard.type("a tulip")
    assert page.input_value("#prompts") == "a rose\na tulip"


def test_an_unlocked_seed_changes_and_a_locked_one_stays(page: Any) -> None:
    generate(page, images=1)
    generate(page, images=2)
    first, second = (text for text in page.locator("figcaption").all_inner_texts())
    assert first != second
    page.click("#lock")
    sides = "one => { const { left, right } = getComputedStyle(one, '::before'); return [left, right]; }"
    left, right = page.locator("#lock span").evaluate(sides)
    assert left == right, "the icon of a locked seed looks open"
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


def test_a_live_run_without_an_image_gives_way_to_the_one_before(browser: Any) -> None:
    model = generator()
    steps = Steps(model)
    with serving({"tiny": model}) as served, visiting(browser, served, expected="400") as page:
        page.fill("#prompts", "a rose")
        page.check("#live")
        steps.make(3)
        finished(page, 1)
        page.fill("#prompts", "a tulip")
        expect(page.locator("#go")).to_have_text("Stop")
        expect(page.locator(".run h2")).to_have_text("a tulip")
        page.fill("#prompts", "a daisy")  # takes the place of one that has no image
        expect(page.locator(".run h2")).to_have_text("a daisy")
        page.click("#go")
        expect(page.locator(".run h2")).to_have_text("a rose")
        expect(page.locator("#status")).to_have_text("Stopped")
        finished(page, 1)
        page.fill("#prompts", "x" * 3000)  # is refused
        expect(page.locator("#problem")).to_be_visible()
        expect(page.locator(".run h2")).to_have_text("a rose")
        steps.free()
        page.fill("#prompts", "a lily")
        expect(page.locator(".run h2")).to_have_text("a lily")
        finished(page, 1)
        page.uncheck("#live")
        page.reload()
        expect(page.locator(".run h2")).to_have_text("a lily")  # alone


def test_a_run_of_a_model_that_is_not_served_is_used_with_one_that_is(browser: Any) -> None:
    with serving({"tiny": generator()}) as served, visiting(browser, served) as page:
        generate(page)
        page.evaluate(
            """async () => {
              const { History } = await import("./history.js");
              const history = await History.open();
              const [run] = await history.all();
              run.settings.model = "gone";
              await history.put(run);
            }"""
        )
        page.reload()
        for button in ("button:text('Use again')", "#use"):
            if button == "#use":
                page.click(".tile")
            page.fill("#guidance", "9")
            page.click(button)
            expect(page.locator("#problem")).to_have_text("The model gone is not served here; this is tiny.")
            assert (page.input_value("#model"), page.input_value("#guidance")) == ("tiny", "3")
        generate(page, "a tulip", images=2)
        expect(page.locator("#problem")).to_be_hidden()


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


def test_the_last_hundred_runs_are_kept(page: Any) -> None:
    generate(page)
    kept = page.evaluate(
        """async () => {
          const { History } = await import("./history.js");
          const history = await History.open();
          const [run] = await history.all();
          for (let i = 1; i <= 100; i++) await history.put({ ...run, id: run.id + i });
          return (await history.all()).map(({ id }) => id - run.id);
        }"""
    )
    assert kept == list(range(100, 0, -1))  # the newest first, and all but the one from before
    page.reload()
    expect(page.locator(".run")).to_have_count(100)


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
    expect(page.locator("#link")).to_have_text("Copied")
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

    page.click("#take-photo")
    expect(page.locator("#photo-image")).to_be_visible()


def test_a_file_that_is_of_no_use_is_explained(page: Any) -> None:
    for damaged in (b"hello", png()[:40]):
        drop(page, damaged)
        expect(page.locator("#problem")).to_contain_text("no image")
        drop(page, png())
        expect(page.locator("#problem")).to_be_hidden()
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": foreign_png()})
    expect(page.locator("#problem")).to_contain_text("no settings")


def foreign_png() -> bytes:
    """A PNG file whose texts are not settings."""
    text, file = PngInfo(), io.BytesIO()
    text.add_itxt("prompt", "a foreign image", zip=True)
    Image.new("RGB", (4, 4)).save(file, "PNG", pnginfo=text)
    return file.getvalue()


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


def test_a_photograph_is_pasted(page: Any) -> None:
    page.focus("#prompts")
    page.evaluate(
        """(bytes) => {
          const clipboardData = new DataTransfer();
          clipboardData.items.add(new File([new Uint8Array(bytes)], "image.png", { type: "image/png" }));
          const event = new ClipboardEvent("paste", { clipboardData, bubbles: true });
          document.activeElement.dispatchEvent(event);
        }""",
        list(png()),
    )
    expect(page.locator("#photo-image")).to_be_visible()
    assert page.input_value("#prompts") == ""


def test_every_step_of_the_denoising_can_be_scrubbed_through_and_played(page: Any) -> None:
    page.click("summary")
    page.fill("#steps", "4")
    generate(page, images=1)
    page.click(".tile")
    assert page.inner_text("#scrub-value") == "4/4"
    frames = set()
    page.focus("#scrub")
    for step in range(3, -1, -1):
        assert page.input_value("#scrub") == str(step)
        frames.add(page.evaluate(LARGE))
        page.keyboard.press("ArrowLeft")
    assert len(frames) == 4
    page.click("#play")
    expect(page.locator("#scrub-value")).to_have_text("4/4")


# --- more than a prompt ---


def stored(page: Any) -> tuple[Image.Image, dict[str, Any]]:
    """Download the image that is shown large; return it with its texts."""
    with page.expect_download() as download:
        page.click("#download")
    image = Image.open(download.value.path())
    return image, image.info


def slide(page: Any, name: str, value: float) -> None:
    page.evaluate(
        """([name, value]) => {
          const slider = document.getElementById(name);
          slider.value = value;
          slider.dispatchEvent(new Event("input"));
        }""",
        [name, value],
    )


def test_two_prompts_are_blended_with_a_slider_and_along_the_whole_way(page: Any, served: Served) -> None:
    page.click("#add-blend")
    page.fill("#towards", "a daisy")
    page.fill("#seed", "3")
    slide(page, "blend-range", 0.25)
    generate(page, images=1)
    assert page.inner_text(".run h2") == "a rose → a daisy"
    page.click(".tile")
    made, texts = stored(page)
    assert (texts["towards"], texts["towards_share"]) == ("a daisy", "0.25")
    there = Composition(towards="a daisy", towards_share=0.25)
    model = served.service.generators["tiny"]
    (wanted,) = model.generate("a rose", seed=3, sampling=SAMPLING, composition=there)
    assert np.abs(np.asarray(made).astype(int) - np.asarray(wanted)).max() <= 1
    page.keyboard.press("Escape")
    page.click("#way")
    page.click("#go")
    finished(page, 7)
    shares = [f"{share}%" for share in (0, 20, 40, 60, 80, 100)]
    assert page.locator(".run").first.locator("figcaption").all_inner_texts() == shares
    page.click("#remove-blend")
    generate(page, images=8)
    assert page.locator(".run h2").first.inner_text() == "a rose"


def test_a_photograph_is_a_prompt_beside_words_or_without(page: Any) -> None:
    photo = png((20, 12))
    drop(page, photo)
    expect(page.locator("#photo-image")).to_be_visible()
    page.click("#go")
    finished(page, 1)
    assert page.inner_text(".run h2") == "a photograph"
    slide(page, "like_share", 0.2)
    generate(page, images=2)
    page.locator(".tile").first.click()
    assert stored(page)[1]["like_share"] == "0.2"
    page.click("#more-like")
    assert page.input_value("#prompts") == "a rose"
    expect(page.locator("#photo-image")).to_be_visible()
    page.click("#remove-photo")
    expect(page.locator("#photo")).to_be_hidden()


def test_what_is_marked_in_a_photograph_changes_and_nothing_else(page: Any) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (10, 200, 90)).save(file, "PNG")
    drop(page, file.getvalue())
    page.check("#use-edit")
    box = page.locator("#mask").bounding_box()
    slide(page, "brush", 200)
    for share in (0.1, 0.4, 0.7, 0.9):  # the left half
        page.mouse.move(box["x"] + 0.02 * box["width"], box["y"] + share * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + share * box["height"], steps=3)
        page.mouse.up()
    expect(page.locator("#clear-mask")).to_be_enabled()
    expect(page.locator("#strength-value")).to_have_text("1")
    generate(page, images=1)
    page.click(".tile")
    changed = np.abs(np.asarray(stored(page)[0]).astype(int) - (10, 200, 90)).max(2)
    assert changed[:, 5:].max() <= 1
    assert changed[:, :3].mean() > 10
    page.click("#edit")  # go on with what was made, all of it
    expect(page.locator("#strength-value")).to_have_text("0.6")
    expect(page.locator("#clear-mask")).to_be_disabled()
    page.reload()
    page.click("button:text('Use again')")
    expect(page.locator("#clear-mask")).to_be_enabled()  # the mask is kept with the image


def test_a_mask_is_drawn_by_keyboard_inverted_and_undone(page: Any) -> None:
    drop(page, png())
    page.check("#use-edit")
    pixels = "document.querySelector('#mask').getContext('2d').getImageData(0, 0, 512, 512).data"
    marked = f"{pixels}.filter((value, i) => i % 4 === 3 && value).length"
    page.focus("#mask")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(marked) == 0
    page.keyboard.press(" ")
    dot = page.evaluate(marked)
    for _ in range(3):
        page.keyboard.press("Shift+ArrowUp")
    line = page.evaluate(marked)
    assert 0 < dot < line < 0.2 * 512**2
    page.click("#invert")
    assert abs(page.evaluate(marked) + line - 512**2) < 2000  # at its edge the line is half transparent
    page.keyboard.press("Enter")  # once more
    assert page.evaluate(marked) == line
    page.click("#undo")
    page.click("#undo")
    assert page.evaluate(marked) == line
    page.click("#clear-mask")
    assert page.evaluate(marked) == 0


@pytest.mark.slow
def test_going_back_to_earlier_settings_shows_their_images_without_the_server(page: Any) -> None:
    sent = []
    page.on("request", lambda request: sent.append(request) if "generations" in request.url else None)
    page.fill("#seed", "3")
    page.fill("#prompts", "a rose")
    page.check("#live")
    finished(page, 1)
    for guidance in ("1", "3"):
        page.fill("#guidance", guidance)
        expect(page.locator(".facts")).to_contain_text(f"guidance {guidance} ")
        finished(page, 1)
    assert len(sent) == 2


def test_the_nearest_training_images_are_shown_with_credit_and_link(page: Any) -> None:
    generate(page, images=1)
    page.click(".tile")
    expect(page.locator("#nearest img")).to_have_count(4)
    expect(page.locator("#nearest-words")).to_contain_text("Compared with 10 of 12")
    expect(page.locator("#nearest")).to_contain_text("<b>Painter")
    links = page.locator("#nearest a").evaluate_all("(all) => all.map((a) => a.href)")
    assert links
    assert all(re.fullmatch(r"https://example\.org/\d+", link) for link in links)


@pytest.mark.slow
def test_the_key_is_asked_for_once(browser: Any) -> None:
    key = "a-key-of-enough-letters"
    with serving(key=key) as served, visiting(browser, served, expected="401") as page:
        for given in ("wrong", key):
            expect(page.locator("#key-refused")).to_be_visible(visible=given == key)
            page.fill("#key", given)
            page.press("#key", "Enter")
            expect(page.locator("#key")).to_have_value("")
        ready(page)
        generate(page, images=1)
        page.reload()
        expect(page.locator(".tile")).to_have_count(1)
        assert not page.locator("#key-dialog").is_visible()


@pytest.fixture(scope="module")
def several() -> Iterator[Served]:
    """A server of models of every kind."""
    classes = Generator(tiny.class_model(), device="cpu")
    with serving({"grey": generator(channels=1), "cascade": cascade(16), "classes": classes}) as server:
        yield server


def test_models_of_every_kind_are_chosen_by_name(browser: Any, several: Served) -> None:
    with visiting(browser, several) as page:
        ready(page)
        generate(page, images=1)
        assert shown(page)["model"] == "grey"
        assert stored(page)[0].mode == "L"
        page.keyboard.press("Escape")
        page.select_option("#model", "cascade")
        page.click("summary")
        for size, label in ((16, "16 pixels, sooner"), (32, "32 pixels")):
            page.select_option("#size", label=label)
            generate(page, images=2 if size == 16 else 3)
            page.locator(".tile").first.click()
            assert stored(page)[0].size == (size, size)
            page.keyboard.press("Escape")
        page.fill("#prompts", "")
        page.select_option("#model", "classes")
        assert page.is_disabled("#use-like")
        page.click(".chip:text('daisy')")
        page.click(".chip:text('rose')")
        assert page.input_value("#prompts") == "daisy\nrose"
        page.click("#go")
        finished(page, 5)
        page.click(".chip:text('rose')")
        assert page.input_value("#prompts") == "daisy"


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


def test_an_error_of_the_server_is_shown(browser: Any, several: Served) -> None:
    with visiting(browser, several, "#model=classes", expected="400") as page:
        ready(page)
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


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_axe_finds_nothing_serious(browser: Any, served: Served, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    with visiting(browser, served, color_scheme=scheme, viewport=PHONE, reduced_motion="reduce") as page:
        ready(page)
        page.click("summary")
        page.click("#add-blend")
        page.fill("#towards", "a daisy")
        drop(page, png())
        page.check("#use-edit")
        generate(page, "a rose\na tulip", images=2)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        for dialog in (False, True):
            if dialog:
                page.locator(".tile").first.click()
                expect(page.locator("#nearest img")).to_have_count(4)
            found = axe.Axe().run(page).response["violations"]
            assert not [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]


def test_who_wants_no_motion_sees_none_where_an_image_is_awaited(page: Any) -> None:
    page.emulate_media(reduced_motion="reduce")
    awaited = (
        "document.body.append(Object.assign(document.createElement('button'), { className: 'tile', disabled: true }))"
    )
    page.evaluate(awaited)
    moving = "getComputedStyle(document.querySelector('.tile'), '::after').animationName"
    assert page.evaluate(moving) == "none"


@pytest.mark.slow
def test_a_phone_shows_all_without_scrolling_sideways(browser: Any, served: Served) -> None:
    with visiting(browser, served, viewport=PHONE) as page:
        ready(page)
        page.click("summary")
        page.fill("#guidance", "0, 1, 2")
        generate(page, f"a {'very ' * 10}long{'g' * 60} sentence", images=3)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        page.locator(".tile").first.click()
        assert page.evaluate("document.querySelector('#viewer').scrollWidth") <= PHONE["width"]
        expect(page.locator("#close")).to_be_in_viewport()
        page.locator("#nearest").scroll_into_view_if_needed()
        expect(page.locator("#close")).to_be_in_viewport()
        page.click("#close")
        expect(page.locator("#viewer")).to_be_hidden()


def test_the_page_is_small_and_names_no_other_place() -> None:
    files = [path for path in PAGE.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 100_000
    for path in files:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(https?:)?//[a-z]|style=|\bon[a-z]+=\"", text), path.name
