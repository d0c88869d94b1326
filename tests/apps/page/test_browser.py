"""The page as a visitor has it: in a headless Chromium."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import sync_playwright
from tiny_pipelines import ALL_PIPELINES

from adaptive_diffusion.apps.loading import load_pipeline
from adaptive_diffusion.apps.page.models import Models
from adaptive_diffusion.apps.page.page import CSS, KEYS, THEME, make_page

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]

DONE = "document.querySelectorAll('#{0}-fast-status .done, #{0}-full-status .done').length == 2"
MINUTE = 60_000


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    def load(name: str) -> Any:
        return load_pipeline(name) if name == "emoji" else ALL_PIPELINES[name].make()

    page = make_page(Models(["emoji", "text_to_video", "StableAudioPipeline"], load))
    _, local, _ = page.launch(
        prevent_thread_lock=True, quiet=True, share=False, theme=THEME, css=CSS, head=KEYS
    )
    yield local
    page.close()


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 1250})
        page.set_default_timeout(MINUTE)
        outside: list[str] = []
        page.on("request", lambda request: outside.append(request.url))
        page.goto(address)
        page.wait_for_selector("#generate-prompt input, #generate-prompt textarea")
        yield page
        browser.close()
    assert all(url.startswith((address, "data:", "blob:")) for url in outside), outside


def prompt(page: Any, tab: str) -> Any:
    return page.locator(f"#{tab}-prompt").locator("input, textarea")


def open_tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def choose(page: Any, model: str) -> None:
    page.locator("#model input").click()
    page.get_by_role("option", name=model, exact=True).click()


def test_enter_generates_both_and_says_how_close_they_are(page: Any) -> None:
    prompt(page, "generate").fill("a penguin")
    prompt(page, "generate").press("Enter")
    page.wait_for_selector("#generate-fast img")
    page.wait_for_function(DONE.format("generate"))
    said = page.inner_text("#generate-fast-status")
    assert float(re.findall(r"PSNR ([\d.]+) dB", said)[0]) > 40
    computed, steps = map(int, re.findall(r"(\d+) of (\d+) denoiser calls", said)[0])
    assert steps == 50
    assert computed < 25
    cells = page.locator("#generate-fast-status .timeline i")
    assert cells.count() == 50
    assert page.locator("#generate-fast-status .computed").count() == computed
    assert page.locator("#generate-slider img").count() == 2
    assert page.locator("#generate-difference img").count() == 1


def test_an_exact_number_of_calls(page: Any) -> None:
    page.locator("#nfe input").fill("9")
    prompt(page, "generate").press("Enter")
    page.wait_for_function(DONE.format("generate"))
    assert "9 of 50 denoiser calls" in page.inner_text("#generate-fast-status")


def test_escape_cancels(page: Any) -> None:
    page.locator("#steps input[type=number]").fill("150")
    prompt(page, "generate").press("Enter")
    page.wait_for_selector("#generate-full-status .computed")
    page.keyboard.press("Escape")
    page.wait_for_timeout(1500)
    made = page.locator("#generate-full-status .computed").count()
    page.wait_for_timeout(1500)
    assert page.locator("#generate-full-status .computed").count() == made < 150
    assert page.locator("#generate-full-status .done").count() == 0
    prompt(page, "generate").press("Enter")  # and the page still works
    page.wait_for_function(DONE.format("generate"))


def test_every_stroke_makes_the_edited_picture_again(page: Any) -> None:
    prompt(page, "generate").press("Enter")
    page.wait_for_function(DONE.format("generate"))
    open_tab(page, "Edit")
    page.click("#edit-take")
    canvas = page.locator("#edit-picture canvas").first
    canvas.wait_for()
    page.wait_for_timeout(1000)
    page.get_by_label("Brush").first.click()
    box = canvas.bounding_box()
    for shift in (0, 25):
        x, y = box["x"] + box["width"] / 2 + shift, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 30, y + 12, steps=4)
        page.mouse.up()
    page.wait_for_function(DONE.format("edit"))
    said = page.inner_text("#edit-fast-status")
    assert re.search(r"\d+ of 30 denoiser calls", said)  # strength 0.6 of 50 steps
    page.get_by_label("repaint what is brushed").click()
    page.wait_for_function(f"!({DONE.format('edit')})")
    page.wait_for_function(DONE.format("edit"))


def test_a_batch_shows_every_seed_with_its_calls(page: Any) -> None:
    open_tab(page, "Batch")
    prompt(page, "batch").press("Enter")
    page.wait_for_function("document.querySelectorAll('#batch-gallery img').length == 6")
    page.wait_for_function("/seed 5: 1\\d calls/.test(document.body.innerText)")
    assert page.locator("#batch-status .timeline").count() == 6


def test_a_video_model_makes_two_films(page: Any) -> None:
    choose(page, "text_to_video")
    page.locator("#steps input[type=number]").fill("6")
    open_tab(page, "Video")
    page.locator("#video-frames input[type=number]").fill("5")
    prompt(page, "video").press("Enter")
    page.wait_for_function(DONE.format("video"))
    assert page.locator("#video-fast img").get_attribute("src").endswith(".gif")
    assert "PSNR" in page.inner_text("#video-fast-status")


def test_a_sound_is_seen_and_heard(page: Any) -> None:
    choose(page, "StableAudioPipeline")
    page.locator("#steps input[type=number]").fill("6")
    prompt(page, "generate").press("Enter")
    page.wait_for_function(DONE.format("generate"))
    for side in ("full", "fast"):
        page.wait_for_selector(f"#generate-{side}-sound audio[src]", state="attached")
    assert page.locator("#generate-fast img").count() == 1
    assert "PSNR" in page.inner_text("#generate-fast-status")


def test_what_can_not_be_done_is_explained(page: Any) -> None:
    open_tab(page, "Video")
    page.click("#video-start")
    page.get_by_text("emoji makes no videos").wait_for()


def test_nothing_stands_out_of_a_narrow_window(page: Any) -> None:
    """A narrow window still shows everything: no part stands out sideways."""
    page.set_viewport_size({"width": 700, "height": 1200})
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
