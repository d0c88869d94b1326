"""What a device can't do is not asked of it: no double precision on its tensors."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from own_pipeline import OwnPipeline, Plans
from torch import Tensor
from torch.overrides import TorchFunctionMode

import adaptive_diffusion as ad


class WithoutDoubles(TorchFunctionMode):
    """Simulates a Mac's GPU: no tensor of floats becomes one of double precision."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        wanted = [*args[1:], kwargs.get("dtype")]
        given = args[0] if args and isinstance(args[0], Tensor) else None
        becomes_double = function is Tensor.double or torch.float64 in wanted
        if given is not None and given.dtype == torch.float32 and becomes_double:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return function(*args, **kwargs)


@pytest.mark.parametrize(
    "make",
    [
        functools.partial(FlowMatchEulerDiscreteScheduler, shift=3.0),
        functools.partial(DDIMScheduler, clip_sample=False),
    ],
    ids=["flow matching", "ddim"],
)
@pytest.mark.parametrize(
    "policy", [Plans((True, True, False)), ad.ErrorControlled(0.1)], ids=["a plan", "ours"]
)
def test_nothing_becomes_double_on_the_device(make: Any, policy: Any) -> None:
    pipe = OwnPipeline(scheduler=make())
    with WithoutDoubles():
        plain = pipe((0, 1))
        with ad.accelerate(pipe, policy) as run:
            skipped = pipe((0, 1))
    assert skipped.shape == plain.shape
    assert all(run.report.mask[0]) == torch.equal(skipped, plain)


def test_the_levels_are_as_exact_as_before() -> None:
    from adaptive_diffusion.adapters.diffusers.scheduler_step import noise_schedule

    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(10)
    schedule = noise_schedule(scheduler)
    assert schedule.coordinates == tuple(scheduler.sigmas.double()[:-1].tolist())
