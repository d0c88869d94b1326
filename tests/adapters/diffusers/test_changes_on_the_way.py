"""What the denoiser is asked may change in the middle: that step is computed, and begins anew."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import EulerDiscreteScheduler
from own_pipeline import STEPS, Network, OwnPipeline, Plans, error
from torch import Tensor
from toy_pipeline import DarkAndBright

import adaptive_diffusion as ad
from adaptive_diffusion import FixedSchedule

AT = 7  # the first step after the change
PLAN = tuple(step < 3 or step == STEPS - 1 for step in range(STEPS))


def told(plan: tuple[bool, ...], *changes: int) -> list[bool]:
    return [computed or step in changes for step, computed in enumerate(plan)]


def shifts(value: Callable[[int], Any]) -> Callable[..., Any]:
    return lambda unet, x, t, step: unet(x, t, shift=value(step))


def changing(pipe: OwnPipeline, way: str) -> None:
    old, new = torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), 0.5)
    written = old.clone()
    if way == "a tensor":
        pipe.ask = shifts(lambda step: new if step >= AT else old)
    elif way == "a tensor made anew":
        pipe.ask = shifts(lambda step: (new if step >= AT else old).clone())
    elif way == "a tensor written over":
        pipe.ask = shifts(lambda step: written.copy_(new) if step == AT else written)
    elif way == "a number":
        pipe.ask = shifts(lambda step: 0.5 if step >= AT else 0.0)
    elif way == "a module's scale":
        pipe.between = lambda x, step: setattr(pipe.unet, "scale", 0.8 if step >= AT - 1 else 1.0)
    elif way == "the pipeline's guidance":
        pipe.guidance = 1.0  # type: ignore[attr-defined]
        pipe.between = lambda x, step: setattr(pipe, "guidance", 1.2 if step >= AT - 1 else 1.0)
        pipe.ask = lambda unet, x, t, step: unet(x, t) * pipe.guidance  # type: ignore[attr-defined]


WAYS = (
    "a tensor",
    "a tensor made anew",
    "a tensor written over",
    "a number",
    "a module's scale",
    "the pipeline's guidance",
)


@pytest.mark.parametrize("way", WAYS)
def test_the_step_after_a_change_is_computed(way: str) -> None:
    for policy in (Plans(PLAN), Plans(PLAN, extrapolates=False)):
        pipe = OwnPipeline()
        changing(pipe, way)
        plain = pipe()
        changing(pipe, way)
        _, report = error(pipe, plain, policy)
        assert report.mask == [told(PLAN, AT)]


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_drawn_across_a_change(way: str) -> None:
    """Skipped from the step after it on, the run ends as one whose history begins there."""
    pipe = OwnPipeline()
    changing(pipe, way)
    plain = pipe()
    mask = [step not in (AT + 1, AT + 3) for step in range(STEPS)]
    changing(pipe, way)
    lines, _ = error(pipe, plain, FixedSchedule(mask, backfill=False))
    changing(pipe, way)
    reuse, _ = error(pipe, plain, FixedSchedule(mask, extrapolates=False, backfill=False))
    assert lines < 2 * reuse


class Guided(OwnPipeline):
    """Conditional and unconditional calls; the second is left out for some steps."""

    window = range(0)

    def __init__(self, second_first: bool) -> None:
        super().__init__()
        self.ask = self._guide
        self.second_first = second_first

    def _guide(self, unet: Any, x: Tensor, t: Tensor, step: int) -> Tensor:
        if step in self.window:
            return unet(x, t)
        if self.second_first:
            other = unet(x, t, shift=0.3)
            return 2 * unet(x, t) - other
        output, other = unet(x, t), unet(x, t, shift=0.3)
        return 2 * output - other


@pytest.mark.parametrize("second_first", [False, True])
def test_guidance_that_returns_is_computed_where_it_does(second_first: bool) -> None:
    pipe = Guided(second_first)
    pipe.window = range(5, 9)
    plain = pipe()
    _, report = error(pipe, plain, Plans(PLAN))
    assert report.mask == [told(PLAN, 5, 9)]
    only_there = [step != 9 for step in range(STEPS)]
    far, _ = error(pipe, plain, FixedSchedule(only_there))
    assert far == 0


def test_a_question_of_a_callbacks_own_gets_its_own_answer() -> None:
    pipe = OwnPipeline()
    asked: list[Tensor] = []

    def callback(x: Tensor, step: int) -> None:
        asked.append(pipe.unet(x, 500.0, shift=0.1))

    class WithCallback(OwnPipeline):
        def __call__(self, callback: Any = None, **call: Any) -> Tensor:  # type: ignore[override]
            self.between = callback or (lambda x, step: None)
            return super().__call__(**call)

    with_callback = WithCallback(pipe.unet)
    plain = with_callback()
    with ad.accelerate(with_callback, Plans(PLAN)) as run:
        skipped = with_callback(callback=callback)
        own = list(asked)
        assert torch.equal(with_callback(callback), skipped)  # by position
        assert run.report.mask == [list(PLAN)]
        assert torch.equal(with_callback(), skipped)
    assert len(own) == STEPS
    assert not any(torch.equal(a, b) for a, b in itertools.pairwise(own))
    assert not torch.equal(skipped, plain)


class Churn(EulerDiscreteScheduler):
    """Adds noise in a window of the steps."""

    low, high = 0.05, 2.0

    def step(self, model_output: Any, timestep: Any, sample: Any, generator: Any = None) -> Any:  # type: ignore[override]
        return super().step(
            model_output,
            timestep,
            sample,
            s_churn=20.0,
            s_tmin=self.low,
            s_tmax=self.high,
            generator=generator,
        )


@pytest.mark.parametrize("window", [(0.05, 2.0), (0.3, 100.0), (2.0, 1e9)], ids=str)
@pytest.mark.parametrize("skipped", range(3, STEPS - 1))
def test_noise_may_begin_and_end_on_the_way(window: tuple[float, float], skipped: int) -> None:
    """Wherever steps are skipped, also where it does."""
    scheduler = Churn()
    Churn.low, Churn.high = window
    pipe = OwnPipeline(DarkAndBright(scheduler.alphas_cumprod), scheduler)
    pipe.ask = lambda unet, x, t, step: unet(scheduler.scale_model_input(x, t), t, 0.8)
    plain = pipe(generator=torch.Generator().manual_seed(0))
    mask = [step not in (skipped, skipped + 1) or step == STEPS - 1 for step in range(STEPS)]
    policies = (
        FixedSchedule(mask, extrapolates=False, backfill=False),
        FixedSchedule(mask),
        ad.ErrorControlled(0.02),
    )
    reuse, forecast, controlled = (
        error(pipe, plain, policy, generator=torch.Generator().manual_seed(0))[0]
        for policy in policies
    )
    assert forecast < 1.2 * reuse + 1e-4
    assert controlled < 0.3
    with ad.accelerate(pipe, tolerance=0):
        assert torch.equal(pipe(generator=torch.Generator().manual_seed(0)), plain)


def test_steps_with_gradients_are_computed() -> None:
    """Guided by gradients through the denoiser: computed and noted, where grad mode is on."""
    pipe = OwnPipeline(Network())

    def ask(unet: Any, x: Tensor, t: Tensor, step: int) -> Tensor:
        if step >= 6:
            return unet(x, t)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            output = unet(x, t)
            (slope,) = torch.autograd.grad(output.square().sum(), x)
        return output.detach() + 0.01 * slope

    pipe.ask = ask
    plain = pipe()
    far, report = error(pipe, plain, Plans((True, False)))
    assert all(report.mask[0][:6])
    assert not all(report.mask[0][6:])
    assert "gradients" in str(report)
    assert far < 0.5
    assert torch.equal(pipe(), plain)
