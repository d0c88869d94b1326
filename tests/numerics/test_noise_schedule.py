"""Noise levels against what the real schedulers do with them."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise
from typing import Any

import diffusers
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from hypothesis import given
from hypothesis import strategies as st
from schedulers import MORE_SCHEDULERS, SCHEDULERS
from tiny_pipelines import BETAS
from torch import Tensor

from adaptive_diffusion.adapters.diffusers.scheduler_step import noise_schedule, position_of
from adaptive_diffusion.numerics.linear_response import LinearResponse
from adaptive_diffusion.numerics.noise_schedule import PREDICTIONS, NoiseSchedule, is_monotonic

PREDICTING_DDIM = {
    f"ddim_{prediction}": lambda prediction=prediction: DDIMScheduler(
        **BETAS, clip_sample=False, set_alpha_to_one=False, prediction_type=prediction
    )
    for prediction in ("epsilon", "v_prediction", "sample")
}
PREDICTING_EULER = {
    f"euler_{prediction}": lambda prediction=prediction: EulerDiscreteScheduler(
        **BETAS, prediction_type=prediction
    )
    for prediction in ("epsilon", "v_prediction")
}
FLOW = {
    "flow": lambda: FlowMatchEulerDiscreteScheduler(),
    "flow_shifted": lambda: FlowMatchEulerDiscreteScheduler(shift=3.0),
}
PREDICTING_DDPM = {
    f"ddpm_{prediction}": lambda prediction=prediction: DDPMScheduler(
        **BETAS, clip_sample=False, prediction_type=prediction
    )
    for prediction in ("epsilon", "v_prediction", "sample")
}


def randn(seed: int) -> Tensor:
    return torch.randn(
        1, 2, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def clean_sample(schedule: NoiseSchedule, step: int, output: Tensor, sample: Tensor) -> Tensor:
    """The clean sample that `output` predicts for `sample`."""
    assert schedule.clean is not None
    a, b = schedule.clean[step]
    return a * sample.float() + b * output.float()


def levels_reached(scheduler: Any) -> list[tuple[float, float]]:
    """Signal and noise scale after every step, from the scheduler's own tables."""
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        return [(1 - float(s), float(s)) for s in scheduler.sigmas[1:]]
    if isinstance(scheduler, EulerDiscreteScheduler):
        return [(1.0, float(s)) for s in scheduler.sigmas[1:]]
    following = scheduler.timesteps.tolist()[1:]
    cumulative = [*scheduler.alphas_cumprod[following], scheduler.final_alpha_cumprod]
    return [(math.sqrt(a), math.sqrt(1 - a)) for a in cumulative]


@pytest.mark.parametrize(
    "make",
    (PREDICTING_DDIM | PREDICTING_EULER | FLOW).values(),
    ids=PREDICTING_DDIM | PREDICTING_EULER | FLOW,
)
@pytest.mark.parametrize("steps", [4, 20])
def test_gain_is_how_far_an_output_moves_the_next_sample(make: Any, steps: int) -> None:
    """Measured: the real step taken twice, with outputs that differ."""
    scheduler = make()
    scheduler.set_timesteps(steps)
    gains = noise_schedule(scheduler).gains
    assert len(gains) == steps
    sample, output, change = randn(0), randn(1), randn(2)
    for i, (t, level) in enumerate(
        zip(scheduler.timesteps, levels_reached(scheduler), strict=True)
    ):
        moved = []
        for e in (output, output + change):
            again = make()
            again.set_timesteps(steps)
            again.set_begin_index(i) if hasattr(again, "set_begin_index") else None
            again.is_scale_input_called = True
            moved.append(again.step(e, t, sample, return_dict=False)[0])
        coefficient = ((moved[1] - moved[0]).norm() / change.norm()).item()
        # levels are cut off at 0.001: the last one may be zero
        assert gains[i] == pytest.approx(coefficient / math.hypot(*level), rel=2e-3, abs=2e-3)


@pytest.mark.parametrize(
    "make",
    (PREDICTING_DDIM | PREDICTING_DDPM | PREDICTING_EULER).values(),
    ids=PREDICTING_DDIM | PREDICTING_DDPM | PREDICTING_EULER,
)
def test_clean_sample_is_the_schedulers_own(make: Any) -> None:
    scheduler = make()
    scheduler.set_timesteps(10)
    schedule = noise_schedule(scheduler)
    sample = randn(0).float()
    scheduler.is_scale_input_called = True
    for i, t in enumerate(scheduler.timesteps):
        output = randn(i + 1).float()
        expected = scheduler.step(output, t, sample).pred_original_sample
        scale = expected.abs().max().item()
        clean = clean_sample(schedule, i, output, sample)
        torch.testing.assert_close(clean, expected, rtol=1e-4, atol=1e-5 * scale)


@given(
    st.sampled_from(sorted(PREDICTIONS)),
    st.floats(0.02, 0.98),
    st.sampled_from(["variance preserving", "sigma space", "flow"]),
)
def test_output_of_is_the_inverse_of_velocity_of(prediction: str, level: float, space: str) -> None:
    sigmas = [level, level / 2]
    alphas = {
        "variance preserving": [math.sqrt(1 - s**2) for s in sigmas],
        "sigma space": [1.0, 1.0],
        "flow": [1 - s for s in sigmas],
    }[space]
    schedule = NoiseSchedule.from_levels(alphas, sigmas, prediction)
    output, sample = randn(0).float(), randn(1).float()
    velocity = schedule.velocity_of(0, output, sample)
    again = schedule.output_of(0, velocity, sample)
    torch.testing.assert_close(again, output, rtol=1e-3, atol=1e-3)


@given(st.sampled_from(["epsilon", "v_prediction", "sample"]), st.floats(0.05, 0.95))
def test_the_output_that_made_a_sample_predicts_what_it_was_made_of(
    prediction: str, sigma: float
) -> None:
    alpha = math.sqrt(1 - sigma**2)
    clean, noise = randn(0), randn(1)
    output = {
        "epsilon": noise,
        "v_prediction": alpha * noise - sigma * clean,
        "sample": clean,
    }[prediction]
    schedule = NoiseSchedule.from_levels([alpha, 1.0], [sigma, 0.0], prediction)
    mixed = alpha * clean + sigma * noise
    predicted = clean_sample(schedule, 0, output, mixed)
    torch.testing.assert_close(predicted, clean.float(), rtol=1e-4, atol=1e-4)
    velocity = schedule.velocity_of(0, output, mixed)
    torch.testing.assert_close(velocity, (noise - clean).float(), rtol=1e-3, atol=1e-3)


@given(st.floats(0.05, 0.95))
def test_a_velocity_predicts_what_its_sample_was_made_of(sigma: float) -> None:
    clean, noise = randn(0), randn(1)
    schedule = NoiseSchedule.from_levels([1 - sigma, 1.0], [sigma, 0.0], "flow_prediction")
    predicted = clean_sample(schedule, 0, noise - clean, (1 - sigma) * clean + sigma * noise)
    torch.testing.assert_close(predicted, clean.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [4, 20, 50])
@pytest.mark.parametrize("name", SCHEDULERS | MORE_SCHEDULERS)
def test_coordinates_are_strictly_monotonic(name: str, steps: int) -> None:
    scheduler = (SCHEDULERS | MORE_SCHEDULERS)[name]()
    scheduler.set_timesteps(steps)
    schedule = noise_schedule(scheduler)
    pairs = list(pairwise(schedule.coordinates))
    assert all(a < b for a, b in pairs) or all(a > b for a, b in pairs)
    assert len(schedule) == len(schedule.gains) == len(scheduler.timesteps)
    assert all(gain >= 0 and math.isfinite(gain) for gain in schedule.gains)


@pytest.mark.parametrize("steps", [4, 20, 50])
@pytest.mark.parametrize("name", sorted({*SCHEDULERS} - {"kdpm2"}))
def test_the_levels_of_common_schedulers_are_known(name: str, steps: int) -> None:
    """All but KDPM2, which keeps every other level elsewhere."""
    scheduler = SCHEDULERS[name]()
    scheduler.set_timesteps(steps)
    assert noise_schedule(scheduler).clean is not None


@pytest.mark.parametrize("name", SCHEDULERS)
def test_one_step_is_a_schedule_too(name: str) -> None:
    scheduler = SCHEDULERS[name]()
    scheduler.set_timesteps(1)
    assert len(noise_schedule(scheduler)) == len(scheduler.timesteps)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_tail_is_the_rest_of_the_schedule(name: str) -> None:
    scheduler = SCHEDULERS[name]()
    scheduler.set_timesteps(10)
    whole = noise_schedule(scheduler)
    for start in (0, 3, len(whole) - 1):
        tail = whole.tail(start)
        assert tail.coordinates == whole.coordinates[start:]
        assert tail.gains == whole.gains[start:]
        assert tail.noise == whole.noise[start:]
        assert tail.clean == whole.clean[start:] if whole.clean else tail.clean is None
        assert tail.velocity == whole.velocity[start:] if whole.velocity else tail.velocity is None


@pytest.mark.parametrize("name", sorted({*SCHEDULERS} - {"heun", "kdpm2", "flow_match_heun"}))
def test_every_timestep_is_found_where_it_stands(name: str) -> None:
    scheduler = SCHEDULERS[name]()
    scheduler.set_timesteps(10)
    for i, t in enumerate(scheduler.timesteps):
        found = position_of(t, scheduler)
        assert scheduler.timesteps[found] == t
        assert found == i or scheduler.timesteps[i - 1] == t  # PNDM visits one twice
        assert position_of(t.expand(3), scheduler) == found


@pytest.mark.parametrize("name", ["heun", "kdpm2", "flow_match_heun"])
def test_a_loop_of_a_second_order_scheduler_that_starts_later_has_the_steps_that_are_left(
    name: str,
) -> None:
    """Image-to-image cuts the timesteps at a multiple of the order, the second of its kind."""
    scheduler = SCHEDULERS[name]()
    scheduler.set_timesteps(10)
    for start in range(0, 2 * 9, scheduler.order):
        scheduler.set_begin_index(start)
        left = scheduler.timesteps[start:]
        assert len(noise_schedule(scheduler).tail(position_of(left[0], scheduler))) == len(left)


def test_a_scheduler_without_levels_gets_equal_steps() -> None:
    scheduler = diffusers.IPNDMScheduler()
    scheduler.set_timesteps(8)
    schedule = NoiseSchedule.uniform(8)
    assert len(set(schedule.gains)) == 1
    assert noise_schedule(scheduler).gains == schedule.gains


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=6))
def test_monotonic_means_rising_or_falling_without_a_pause(values: list[int]) -> None:
    pairs = list(pairwise(values))
    expected = all(a < b for a, b in pairs) or all(a > b for a, b in pairs)
    assert is_monotonic(values) == expected


def test_what_a_schedule_has_is_of_all_its_steps() -> None:
    schedule = NoiseSchedule.uniform(5)
    with pytest.raises(ValueError, match="N entries"):
        dataclasses.replace(schedule, gains=(0.1,) * 4)
    with pytest.raises(ValueError, match="4 calls to 5 steps"):
        dataclasses.replace(schedule, response=LinearResponse(torch.zeros(5, 4, 1)))
