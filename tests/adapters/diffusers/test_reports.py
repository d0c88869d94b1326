"""What a report says beside the mask: who denoised, and whether solver steps repeat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from tiny_pipelines import TINY_PIPELINES, run
from torch import Tensor, nn

import adaptive_diffusion as ad
from adaptive_diffusion import FixedSchedule

Tiny = Callable[[str], Any]
MASK = [True, True, False, True, False, True]


@pytest.mark.parametrize(
    ("name", "roles"),
    [
        ("sd15", {"unet": "denoiser"}),
        ("controlnet", {"controlnet": "side network", "unet": "denoiser"}),
        ("wan22", {"transformer": "denoiser", "transformer_2": "denoiser"}),
    ],
)
def test_roles_have_the_pipelines_names(name: str, roles: dict[str, str], tiny: Tiny) -> None:
    pipe = tiny(name)
    with ad.accelerate(pipe, tolerance=0) as accelerated:
        run(pipe, TINY_PIPELINES[name].inputs(1))
    assert accelerated.report.roles == roles


def test_what_is_called_and_does_not_denoise_is_a_bystander(tiny: Tiny) -> None:
    pipe = tiny("sd15")
    pipe.judge = nn.Linear(4, 4)

    scale = pipe.scheduler.scale_model_input

    def scale_and_judge(sample: Any, *args: Any) -> Any:
        pipe.judge(sample.mean((2, 3)))
        return scale(sample, *args)

    pipe.scheduler.scale_model_input = scale_and_judge
    with ad.accelerate(pipe, FixedSchedule(MASK)) as accelerated:
        run(pipe, TINY_PIPELINES["sd15"].inputs(1))
    assert accelerated.report.roles == {"unet": "denoiser", "judge": "bystander"}
    assert accelerated.report.mask == [MASK]


class Shuffled(nn.Module):
    """Its input is not the scheduler's sample."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x.tanh()


class Loop:
    """A pipeline of somebody's own."""

    def __init__(self) -> None:
        self.unet, self.scheduler = Shuffled(), DDIMScheduler()
        self.components = {"unet": self.unet, "scheduler": self.scheduler}

    @torch.no_grad()
    def __call__(self) -> Tensor:
        self.scheduler.set_timesteps(6)
        x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        for t in self.scheduler.timesteps:
            self.unet(x, t)  # nothing is made of its answer
            x = self.scheduler.step(x.tanh(), t, x).prev_sample
        return x


def test_a_module_that_was_not_taken_for_a_denoiser_is_named() -> None:
    pipe = Loop()
    plain = pipe()
    warned = pytest.warns(UserWarning, match="calls of unet, which was not seen to denoise")
    with ad.accelerate(pipe, FixedSchedule(MASK)) as accelerated, warned:
        assert torch.equal(pipe(), plain)
    assert accelerated.report.roles == {}


@pytest.mark.parametrize(
    ("policy", "repeats"),
    [(FixedSchedule(MASK), True), (FixedSchedule(MASK, backfill=False), None)],
    ids=["backfill", "none"],
)
def test_steps_are_tried_only_where_they_are_taken_again(
    policy: FixedSchedule, repeats: bool | None, tiny: Tiny
) -> None:
    pipe = tiny("sd15")
    with ad.accelerate(pipe, policy) as accelerated:
        run(pipe, TINY_PIPELINES["sd15"].inputs(1))
    assert accelerated.report.repeats is repeats


def test_steps_that_lead_elsewhere_are_seen(tiny: Tiny) -> None:
    pipe = tiny("sd15")
    step = pipe.scheduler.step
    asked = iter(range(1000))

    def drifting(model_output: Tensor, timestep: Any, sample: Tensor, **more: Any) -> Any:
        return step(model_output * (1 + 0.01 * next(asked)), timestep, sample, **more)

    pipe.scheduler.step = drifting
    with ad.accelerate(pipe, FixedSchedule(MASK)) as accelerated:
        assert torch.isfinite(run(pipe, TINY_PIPELINES["sd15"].inputs(1))).all()
    assert accelerated.report.repeats is False
    assert any("did not repeat" in note for note in accelerated.report.notes)
