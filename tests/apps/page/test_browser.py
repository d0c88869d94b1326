"""The page as a visitor has it: in a headless Chromium."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest
from asgi import running
from playwright.sync_api import sync_playwright
from tiny_pipelines import ALL_PIPELINES

from adaptive_diffusion.apps.loading import LoadOptions, load_pipeline
from adaptive_diffusion.apps.page.models import Models
from adaptive_diffusion.apps.page.page import make_app

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]

DONE = "document.querySelectorAll('#{0}-fast-status .done, #{0}-full-status .done').length == 2"
PATIENCE = 180_000  # milliseconds, on a machine that has other work to do


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    def load(name: str, options: LoadOptions) -> Any:
        if name == "img2img":  # takes its time
            time.sleep(3)
        return load_pipeline(name) if name == "emoji" else ALL_PIPELINES[name].make()

    names = ["emoji", "digits", "motion", "text_to_video", "StableAudioPipeline", "img2img"]
    with running(make_app(Models(names, load=load))) as url:
        yield url


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 1250})
        page.set_default_timeout(PATIENCE)
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
    assert "Difference, amplified" in page.inner_text("#generate-difference")


def test_it_is_seen_at_once_that_a_model_is_loaded(page: Any) -> None:
    choose(page, "img2img")
    page.wait_for_timeout(1500)
    page.click("#generate-start")
    page.locator("#generate-full-status .waiting").wait_for(timeout=2000)
    for side in ("full", "fast"):
        page.locator(f"#generate-{side}-status", has_text="loading img2img: 1 s").wait_for()


def test_an_exact_number_of_calls_is_made_by_the_models_measured_plan(page: Any) -> None:
    page.get_by_label("calls", exact=True).click()
    page.locator("#nfe input").fill("9")
    prompt(page, "generate").press("Enter")
    page.wait_for_function(DONE.format("generate"))
    assert "9 of 50 denoiser calls · measured plan" in page.inner_text("#generate-fast-status")


def test_a_target_chooses_the_plan(page: Any) -> None:
    page.get_by_label("profile", exact=True).click()
    page.locator("#target input").fill("45")
    prompt(page, "generate").press("Enter")
    page.wait_for_function(DONE.format("generate"))
    said = page.inner_text("#generate-fast-status")
    assert "measured plan" in said
    assert float(re.findall(r"PSNR ([\d.]+) dB", said)[0]) > 42


def test_the_settings_and_prompts_follow_the_model(page: Any) -> None:
    choose(page, "digits")
    for hidden in ("#generate-prompt", "#guidance", "#negative-prompt"):
        page.locator(hidden).wait_for(state="hidden")
    page.locator("#scheduler input").click()
    offered = page.get_by_role("option").all_inner_texts()
    assert [text.split("\n")[-1] for text in offered] == ["the model's own", "ddim"]
    page.keyboard.press("Escape")
    choose(page, "motion")
    page.locator("#guidance").wait_for()
    assert prompt(page, "generate").input_value() == "a red apple bouncing to the left"
    prompt(page, "generate").fill("a dog of my own")
    choose(page, "emoji")
    page.wait_for_timeout(1500)
    assert prompt(page, "generate").input_value() == "a dog of my own"


@pytest.mark.parametrize("tab", ["Generate", "Edit", "Video", "Batch"])
def test_one_tab_leads_from_the_prompt_to_the_button(page: Any, tab: str) -> None:
    open_tab(page, tab)
    prompt(page, tab.lower()).focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == f"{tab.lower()}-start"


def test_on_a_phone_prompt_and_button_come_first(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(500)
    lower = [
        page.locator(place).bounding_box()["y"]
        for place in ("#generate-prompt", "#generate-fast", "#settings")
    ]
    assert lower == sorted(lower)
    button = page.locator("#generate-start").bounding_box()
    assert button["y"] + button["height"] < 300
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_escape_cancels(page: Any) -> None:
    page.locator("#steps input[type=number]").fill("150")
    prompt(page, "generate").press("Enter")
    page.wait_for_selector("#generate-full-status .computed")
    page.keyboard.press("Escape")
    for side in ("full", "fast"):
        page.locator(f"#generate-{side}-status", has_text="cancelled").wait_for()
    made = page.locator("#generate-full-status .computed").count()
    page.wait_for_timeout(1500)
    assert page.locator("#generate-full-status .computed").count() == made < 150
    assert page.locator("#generate-full-status .done").count() == 0
    page.locator("#steps input[type=number]").fill("20")
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


def test_a_batch_shows_every_picture_with_its_calls(page: Any) -> None:
    open_tab(page, "Batch")
    prompt(page, "batch").fill("an owl\n\na frog\n")
    page.locator("#batch-count input[type=number]").fill("2")
    page.click("#batch-start")
    page.wait_for_function("document.querySelectorAll('#batch-gallery img').length == 4")
    page.wait_for_function("/1\\d calls · a frog · seed 3/.test(document.body.innerText)")
    assert page.locator("#batch-status .timeline").count() == 4


def test_a_video_model_makes_two_clips_that_play_in_step(page: Any) -> None:
    choose(page, "text_to_video")
    page.locator("#steps input[type=number]").fill("6")
    open_tab(page, "Video")
    page.locator("#video-frames input[type=number]").fill("5")
    prompt(page, "video").press("Enter")
    page.wait_for_function(DONE.format("video"))
    clips = page.locator("#video-clips img")
    assert clips.get_attribute("src").endswith(".gif")
    size = clips.evaluate("image => [image.naturalWidth, image.naturalHeight]")
    assert size[0] == 3 * size[1]
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
    choose(page, "emoji")
    page.wait_for_timeout(1500)
    page.click("#video-start")
    page.get_by_text("emoji makes no videos").wait_for()


def test_nothing_stands_out_of_a_narrow_window(page: Any) -> None:
    """A narrow window still shows everything: no part stands out sideways."""
    page.set_viewport_size({"width": 700, "height": 1200})
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
