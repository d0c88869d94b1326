"""A visitor's runs: something is shown at once, the newest counts, and errors are explained."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from adaptive_diffusion.apps.page.models import Models
from adaptive_diffusion.apps.page.race import CancelledError
from adaptive_diffusion.apps.page.running import Runs
from adaptive_diffusion.apps.page.settings import Controls

VISITOR = SimpleNamespace(session_hash="ann")


class Page:
    """Runs with one status, over a model that takes so many seconds to load, or is loaded."""

    def __init__(self, seconds: float = 0) -> None:
        def load(*_: Any) -> Any:
            time.sleep(seconds)
            return SimpleNamespace(components={})

        models = Models(["emoji"], load=load)
        if not seconds:
            models.pipeline("emoji")
        with gr.Blocks(analytics_enabled=False):
            self.controls = Controls(models)
            self.status = gr.HTML()
        self.runs = Runs(models, self.controls)

    def start(self, work: Any) -> Iterator[Any]:
        """What the visitor sees in the status."""
        handler = self.runs._handler(work, [self.status])
        values = [component.value for component in self.controls.inputs]
        for shown in handler(VISITOR, *values, "own"):
            yield shown[self.status] if isinstance(shown, dict) else shown


def work(stop: Any, asked: Any, own: str) -> Iterator[Any]:
    yield f"{asked.model}: {own}"
    yield "done"


def test_something_is_shown_at_once_and_while_the_model_is_loaded() -> None:
    page = Page(seconds=1.2)
    first, *loading, before_last, last = page.start(work)
    assert "starting" in first
    assert len(loading) >= 2
    assert all("loading emoji" in each and "waiting" in each for each in loading)
    assert (before_last, last) == ("emoji: own", "done")
    assert list(page.start(work))[1:] == ["emoji: own", "done"]  # it is loaded


def test_a_run_that_is_cancelled_while_its_model_is_loaded_says_so() -> None:
    page = Page(seconds=0.8)
    seen = page.start(work)
    assert "starting" in next(seen)
    assert "loading" in next(seen)
    page.runs.leave(VISITOR)
    assert "cancelled" in list(seen)[-1]


def test_a_run_that_was_replaced_shows_nothing_more() -> None:
    page = Page()
    ended = []

    def endless(stop: Any, asked: Any, own: str) -> Iterator[Any]:
        try:
            while True:
                yield "first"
        finally:
            ended.append(stop.is_set())

    first = page.start(endless)
    assert "starting" in next(first)
    assert next(first) == "first"
    second = page.start(work)
    assert "starting" in next(second)
    assert list(first) == []
    assert ended == [True]
    assert list(second) == ["emoji: own", "done"]


def test_a_cancelled_run_ends_quietly() -> None:
    def cancelled(stop: Any, asked: Any, own: str) -> Iterator[Any]:
        yield "cancelled"
        raise CancelledError

    assert list(Page().start(cancelled))[-1] == "cancelled"


@pytest.mark.parametrize("error", [ValueError("no such thing"), RuntimeError("out of memory")])
def test_an_error_is_explained_and_the_status_cleared(error: Exception) -> None:
    def fails(stop: Any, asked: Any, own: str) -> Iterator[Any]:
        raise error
        yield

    seen: list[Any] = []
    with pytest.raises(gr.Error, match=str(error)):
        seen.extend(Page().start(fails))
    assert "starting" in seen[0]
    assert seen[-1] == ""
