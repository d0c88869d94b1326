"""EasyCache in a pipeline: what a skipped call answers."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from tiny_pipelines import TINY_PIPELINES, run

from adaptive_diffusion.apps.bench.rivals.easy_cache import EasyCache, _Branch


def test_a_constant_difference_loses_nothing(tiny: Callable[[str], Any]) -> None:
    pipe, inputs = tiny("sd15"), TINY_PIPELINES["sd15"].inputs(1)
    pipe.scheduler = DDIMScheduler(clip_sample=False)
    computed: list[int] = []

    def answer(sample: torch.Tensor, t: torch.Tensor, *_: Any, **__: Any) -> Any:
        computed.append(pipe.scheduler.timesteps.tolist().index(int(t)))
        return (sample + 0.3,)

    pipe.unet.forward = answer
    full = run(pipe, inputs, steps=20)
    computed.clear()
    with EasyCache(1e9).applied(pipe, 20):
        ours = run(pipe, inputs, steps=20)
    # the first 15 % and two measuring steps, and the last 5 %
    assert computed == [0, 1, 2, 3, 4, 19]
    torch.testing.assert_close(ours, full, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.5, 1e9])
def test_the_higher_the_threshold_the_fewer_calls(
    tiny: Callable[[str], Any], threshold: float
) -> None:
    pipe, inputs = tiny("sd15"), TINY_PIPELINES["sd15"].inputs(1)
    with EasyCache(threshold).applied(pipe, 20) as work:
        run(pipe, inputs, steps=20)
    with EasyCache(2 * threshold).applied(pipe, 20) as bolder:
        run(pipe, inputs, steps=20)
    assert 6 <= bolder.nfe <= work.nfe <= 20
    assert threshold > 0 or work.nfe == 20


def test_one_decision_for_all_calls_of_a_step(tiny: Callable[[str], Any]) -> None:
    pipe, inputs = tiny("flux_cfg"), TINY_PIPELINES["flux_cfg"].inputs(1)
    with EasyCache(0.5).applied(pipe, 12) as work:  # the two halves are two calls
        run(pipe, inputs, steps=12)
    assert set(work.per_step) == {0.0, 1.0}


def test_a_control_net_is_not_skipped(tiny: Callable[[str], Any]) -> None:
    pipe, inputs = tiny("controlnet"), TINY_PIPELINES["controlnet"].inputs(1)
    with EasyCache(1e9).applied(pipe, 12) as work:
        run(pipe, inputs, steps=12)
    assert 0 < min(work.per_step) < 0.9


def test_further_channels_of_an_answer_stay_and_those_of_an_input_are_left_out() -> None:
    entering = torch.randn(2, 5, 4, 4)
    output = torch.randn(2, 7, 4, 4)
    branch = _Branch(threshold=1.0)
    branch.answer = SimpleNamespace(sample=output)
    branch.learn(entering)
    moved = branch.reuse(entering + 1).sample
    torch.testing.assert_close(moved[:, :5], output[:, :5] + 1)
    assert torch.equal(moved[:, 5:], output[:, 5:])

    branch = _Branch(threshold=1.0)
    branch.answer = (output,)
    wide = torch.randn(2, 9, 4, 4)
    branch.learn(wide)
    (moved,) = branch.reuse(wide + 1)
    torch.testing.assert_close(moved, output + 1)


@pytest.mark.parametrize(
    "answer",
    [torch.randn(2, 4, 8, 8), torch.randn(2, 4), [torch.randn(2, 4, 4, 4)] * 2, None],
    ids=["of another shape", "of another rank", "several tensors", "none"],
)
def test_what_can_not_be_compared_is_never_reused(answer: Any) -> None:
    branch = _Branch(threshold=1e9)
    for _ in range(2):
        branch.answer = answer
        branch.learn(torch.randn(2, 4, 4, 4))
    assert not branch.rate.is_known
    assert not branch.rate.skips(torch.randn(2, 4, 4, 4))
