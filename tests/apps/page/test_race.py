"""Runs side by side: each gives what it gives alone, on a clock of its own."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
from tiny_pipelines import TINY_PIPELINES

from adaptive_diffusion import ErrorControlled
from adaptive_diffusion.apps.page.race import CancelledError, Run, View, race
from adaptive_diffusion.apps.sampling import Sample, Sampler, Settings

STEPS = 12
SOURCE = {"model": "sd15"}
LOOSE = ErrorControlled(tolerance=3.0)  # twelve steps have something to skip


def sampler(name: str = "sd15", **arguments: Any) -> Sampler:
    settings = Settings(STEPS, size=None, arguments=arguments)
    pipe = TINY_PIPELINES[name].make()
    pipe.set_progress_bar_config(disable=True)
    return Sampler(pipe, settings)


def samples(name: str = "sd15") -> list[Sample]:
    return [Sample(None if name == "ddim" else "a red apple", 3)]


def last(runs: list[Run]) -> list[View]:
    *_, views = race(runs, threading.Event())
    return views


@pytest.mark.parametrize("name", ["sd15", "ddim"], ids=["latents", "pixels, without callbacks"])
def test_each_run_gives_what_it_gives_alone(name: str) -> None:
    full, fast = last(
        [
            Run(sampler(name), samples(name), None, SOURCE),
            Run(sampler(name), samples(name), LOOSE, SOURCE),
        ]
    )
    for view, policy in ((full, None), (fast, LOOSE)):
        alone = sampler(name).run(samples(name), policy)
        assert view.done
        assert view.made is not None
        assert alone.made is not None
        assert np.array_equal(view.made[0].frames, alone.made[0].frames)
        assert list(map(list, view.masks)) == alone.masks
    assert all(full.masks[0])
    assert not all(fast.masks[0])


def test_previews_come_before_the_finished_picture() -> None:
    runs = [Run(sampler(), samples(), LOOSE, SOURCE)]
    slow_down(runs[0], 0.05)
    views = [view for (view,) in race(runs, threading.Event())]
    unfinished = [view for view in views if not view.done and view.made is not None]
    assert unfinished
    assert unfinished[0].made is not None
    assert views[-1].made is not None
    assert unfinished[0].made[0].still.shape == views[-1].made[0].still.shape
    lengths = [len(view.masks[0]) for view in views if view.masks]
    assert lengths == sorted(lengths)


def slow_down(run: Run, seconds: float) -> None:
    """Makes every denoiser call take that much longer."""
    run._sampler.pipe.unet.register_forward_pre_hook(lambda *_: time.sleep(seconds))


def test_the_clocks_count_a_runs_own_time_alone() -> None:
    """A run of fewer calls ends earlier by the clock, though both take turns."""
    pause = 0.03
    full, fast = Run(sampler(), samples(), None, SOURCE), Run(sampler(), samples(), LOOSE, SOURCE)
    for run in (full, fast):
        slow_down(run, pause)
    began = time.perf_counter()
    views = last([full, fast])
    elapsed = time.perf_counter() - began
    calls = [sum(view.masks[0]) for view in views]
    assert calls[1] < calls[0]
    for view, number in zip(views, calls, strict=True):
        assert view.seconds >= number * pause
    assert views[1].seconds < views[0].seconds
    assert sum(view.seconds for view in views) < elapsed + pause


def test_what_is_to_be_known_of_a_run_is_shown() -> None:
    few = Sampler(sampler().pipe, Settings(steps=3))
    full, fast = last(
        [
            Run(few, samples(), None, SOURCE),
            Run(few, samples(), LOOSE, SOURCE, ["the profile is of another model"]),
        ]
    )
    assert full.notes == ()
    assert fast.notes[0] == "the profile is of another model"
    assert fast.notes[1].startswith("nothing was skipped")


def test_a_finished_run_says_how_it_was_made() -> None:
    run = Run(sampler(), [*samples(), Sample("a dog", 4)], LOOSE, SOURCE)
    while_running, view = View(), View()
    for (view,) in race([run], threading.Event()):
        while_running = while_running if view.done else view
    assert while_running.entries == ()
    for entries, prompt, mask in zip(
        view.entries, ("a red apple", "a dog"), view.masks, strict=True
    ):
        said = dict(entries)
        assert (said["model"], said["prompt"], said["steps"]) == ("sd15", prompt, str(STEPS))
        assert said["mask"].count("1") == sum(mask)
        assert said["policy"] == str(LOOSE)


def test_image_to_image_counts_the_steps_it_makes() -> None:
    pictures = TINY_PIPELINES["img2img"].inputs(1)["image"]
    edit = sampler("img2img", strength=0.5)
    (view,) = last([Run(edit, [Sample("a dog", 0, {"image": pictures[0]})], None, SOURCE)])
    assert view.masks == ((True,) * (STEPS // 2),)


def test_a_cancelled_race_ends_within_a_step_and_leaves_the_pipelines_as_they_were() -> None:
    cancelled = threading.Event()
    runs = [Run(sampler(), samples(), None, SOURCE), Run(sampler(), samples(), LOOSE, SOURCE)]
    for run in runs:
        slow_down(run, 0.05)
    watching = race(runs, cancelled)
    while not next(watching)[0].masks:
        pass
    cancelled.set()
    seen: list[list[View]] = []
    with pytest.raises(CancelledError):
        seen.extend(watching)
    assert all(view.cancelled for view in seen[-1])
    assert seen[-1][0].masks  # what was made stays to be seen
    assert not any(run.view.done for run in runs)
    for run in runs:
        assert type(run._sampler.pipe.unet).__call__ is torch.nn.Module.__call__
        assert sampler().run(samples()).made is not None


def test_who_stops_watching_stops_the_runs() -> None:
    run = Run(sampler(), samples(), None, SOURCE)
    slow_down(run, 0.05)
    watching = race([run], threading.Event())
    next(watching)
    watching.close()
    assert not run.view.done
    assert isinstance(run.error, CancelledError)


def test_an_error_of_one_run_is_told_and_ends_the_race() -> None:
    runs = [Run(sampler(), samples(), None, SOURCE), Run(sampler(), samples(), LOOSE, SOURCE)]
    runs[1]._sampler.pipe.unet.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        last(runs)
