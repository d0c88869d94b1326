"""MagCache measures a pipeline once, and keeps that out of the picture and out of the count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_pipelines import TINY_PIPELINES, run

from adaptive_diffusion.adapters.diffusers.components import denoisers
from adaptive_diffusion.apps.bench.rivals.mag_cache import MagCache


def _counted_calls(pipe: Any, steps: int, method: MagCache) -> int:
    calls: list[None] = []
    (model,) = denoisers(pipe)
    hook = model.register_forward_hook(lambda *_: calls.append(None))
    with method.applied(pipe, steps):
        run(pipe, TINY_PIPELINES["ltx"].inputs(1), steps=steps)
    hook.remove()
    return len(calls)


def test_calibrates_once_for_each_number_of_steps(tiny: Callable[[str], Any]) -> None:
    pipe = tiny("ltx")
    assert _counted_calls(pipe, 6, MagCache(0.1, 3)) == 12
    assert _counted_calls(pipe, 6, MagCache(0.2, 3)) == 6  # for all settings
    assert _counted_calls(pipe, 5, MagCache(0.2, 3)) == 10


def test_calibration_takes_none_of_the_noise(tiny: Callable[[str], Any]) -> None:
    pipe, inputs = tiny("ltx"), TINY_PIPELINES["ltx"].inputs(1)
    full = run(pipe, inputs, steps=6)
    with MagCache(0.0, 0).applied(pipe, 6) as work:
        assert torch.equal(run(pipe, inputs, steps=6), full)
    assert work.per_step == [1.0] * 6


def test_prints_nothing(tiny: Callable[[str], Any], capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tiny("flux_cfg")
    with MagCache(0.1, 3).applied(pipe, 6):
        run(pipe, TINY_PIPELINES["flux_cfg"].inputs(1), steps=6)
    assert "MagCache" not in capsys.readouterr().out
