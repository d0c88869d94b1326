"""SADA's arithmetic, and its plan under the solvers that it is made for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
)
from tiny_pipelines import TINY_PIPELINES, run

from adaptive_diffusion.apps.bench.rivals.sada import Sada, _lagrange, _levels

SCHEDULERS = [
    DDIMScheduler(),
    DDIMScheduler(prediction_type="v_prediction"),
    DPMSolverMultistepScheduler(),
    EulerDiscreteScheduler(),
    EulerDiscreteScheduler(prediction_type="v_prediction"),
    FlowMatchEulerDiscreteScheduler(),
]


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=lambda s: type(s).__name__)
def test_levels_tell_sample_from_noise(scheduler: Any) -> None:
    scheduler.set_timesteps(20)
    levels = _levels(scheduler)
    assert len(levels) == 20
    clean, noise = torch.tensor(0.3), torch.tensor(-1.2)
    added = torch.stack(
        [
            _noisy(scheduler, clean.expand(1, 1), noise.expand(1, 1), t).squeeze()
            for t in scheduler.timesteps
        ]
    )
    ours = torch.stack([each.scale * (each.clean * clean + each.noise * noise) for each in levels])
    torch.testing.assert_close(ours, added, rtol=1e-3, atol=2e-3)
    for level in levels:
        if level.scale != 1 or not isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
            assert math.hypot(level.clean, level.noise) == pytest.approx(1)


def _noisy(scheduler: Any, clean: torch.Tensor, noise: torch.Tensor, t: Any) -> torch.Tensor:
    add = getattr(scheduler, "add_noise", None) or scheduler.scale_noise
    if add.__name__ == "scale_noise":
        return add(clean, t[None], noise)
    return add(clean, noise, t[None])


def test_lagrange_is_exact_on_polynomials() -> None:
    def cubic(t: float) -> torch.Tensor:
        return torch.tensor([1 - t + 0.5 * t**2, 2 * t**3])

    nodes = {t: cubic(t) for t in (4, 8, 12, 16)}
    torch.testing.assert_close(_lagrange(nodes, 18), cubic(18))
    torch.testing.assert_close(_lagrange({4: cubic(4)}, 18), cubic(4))


@pytest.mark.parametrize("scheduler", SCHEDULERS[:1] + SCHEDULERS[2:4], ids=lambda s: str(type(s)))
def test_skips_by_phases(tiny: Callable[[str], Any], scheduler: Any) -> None:
    pipe, inputs = tiny("sd15"), TINY_PIPELINES["sd15"].inputs(1)
    pipe.scheduler = scheduler
    method = Sada(interval=4, terms=4, start=0.2, multistep=0.5)
    assert method.reason_against(pipe) is None
    with method.applied(pipe, 20) as work:
        assert run(pipe, inputs, steps=20).isfinite().all()
    assert work.per_step[:5] == [1.0] * 5  # nothing is skipped in the first 20 %
    assert work.per_step[10:19] == [1.0, 0.0, 0.0, 0.0] * 2 + [1.0]  # then every fourth
    assert work.per_step[-1] == 1.0


@pytest.mark.parametrize(
    ("method", "tolerance"),
    [
        (Sada(interval=4, terms=2, start=0.3, multistep=0.3), 1e-3),
        (
            Sada(interval=4, terms=4, start=0.2, multistep=0.9),
            0.1,
        ),  # the estimated state is not exact
    ],
    ids=["multistep", "step"],
)
def test_follows_a_model_whose_clean_sample_does_not_change(
    tiny: Callable[[str], Any], method: Sada, tolerance: float
) -> None:
    pipe, inputs = tiny("sd15"), TINY_PIPELINES["sd15"].inputs(1) | {"guidance_scale": 1.0}
    pipe.scheduler = DDIMScheduler(clip_sample=False)
    cumulative = pipe.scheduler.alphas_cumprod
    computed: list[int] = []

    def answer(sample: torch.Tensor, t: torch.Tensor, *_: Any, **__: Any) -> Any:
        computed.append(int(t))
        alpha, sigma = cumulative[t] ** 0.5, (1 - cumulative[t]) ** 0.5
        return ((sample - alpha * 0.7) / sigma,)

    def trajectory() -> torch.Tensor:
        samples: list[torch.Tensor] = []

        def note(_: Any, __: int, ___: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            samples.append(tensors["latents"].clone())
            return tensors

        run(pipe, inputs, steps=20, callback_on_step_end=note)
        return torch.stack(samples)

    pipe.unet.forward = answer
    full = trajectory()
    computed.clear()
    with method.applied(pipe, 20):
        ours = trajectory()
    assert len(computed) < 15
    torch.testing.assert_close(ours, full, rtol=0, atol=tolerance)


def test_a_prediction_of_the_clean_sample_is_not_known(tiny: Callable[[str], Any]) -> None:
    pipe = tiny("sd15")
    pipe.scheduler = DDIMScheduler(prediction_type="sample")
    assert "noise levels" in str(Sada(4, 2, 0.2, 0.5).reason_against(pipe))


def test_refuses_solvers_with_two_evaluations_per_step(tiny: Callable[[str], Any]) -> None:
    pipe = tiny("sd15")
    pipe.scheduler = HeunDiscreteScheduler()
    assert "one evaluation per step" in str(Sada(4, 2, 0.2, 0.5).reason_against(pipe))
