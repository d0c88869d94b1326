"""What is assumed beside a kernel: worked out by hand for a short loop."""

from __future__ import annotations

import pytest
import torch

from adaptive_diffusion.numerics.assumed import assumed_statistics
from adaptive_diffusion.numerics.noise_schedule import NoiseSchedule
from adaptive_diffusion.numerics.planning import make_plan
from adaptive_diffusion.numerics.statistics import Terms

SIGMAS = [1.0, 0.8, 0.6, 0.4, 0.2, 0.0]
FLOW = NoiseSchedule.from_levels([1 - sigma for sigma in SIGMAS], SIGMAS, "flow_prediction")
OUTPUTS: Terms = ((0.0, 1.0),) * 5


def kernel(steps: int) -> torch.Tensor:
    at = torch.arange(steps, dtype=torch.float64)
    return torch.exp(-(((at[:, None] - at) / 3) ** 2) / 2)


def test_an_output_answers_as_if_its_clean_sample_stayed() -> None:
    """That of a velocity e is x - sigma e: if x moves by d, then e by d / sigma."""
    found = assumed_statistics(FLOW, OUTPUTS, kernel(5))
    expected = [1 / max(sigma, 1e-3) for sigma in SIGMAS[:5]]
    assert found.responses == pytest.approx(expected)


def test_of_errors_of_one_size_an_early_one_counts_more() -> None:
    found = assumed_statistics(FLOW, OUTPUTS, kernel(5))
    assert found.moves == FLOW.gains
    weights = [effect / gain for effect, gain in zip(found.effects, FLOW.gains, strict=True)]
    assert weights == sorted(weights, reverse=True)
    assert weights[0] == pytest.approx(3.5, rel=0.01)


def test_of_a_velocity_the_same_is_assumed_as_of_the_output_that_predicts_it() -> None:
    schedule = NoiseSchedule.from_levels(
        [(1 - sigma**2) ** 0.5 for sigma in SIGMAS], SIGMAS, "epsilon"
    )
    assert schedule.velocity is not None
    of_output = assumed_statistics(schedule, OUTPUTS, kernel(5))
    of_velocity = assumed_statistics(schedule, schedule.velocity, kernel(5))
    for step, (a, b) in enumerate(schedule.velocity):
        assert of_velocity.effects[step] == pytest.approx(of_output.effects[step] / abs(b))
        assert of_velocity.responses[step] == pytest.approx(a + b * of_output.responses[step])


@pytest.mark.parametrize("steps", [5, 30])
def test_where_the_levels_are_not_known_there_is_a_plan_all_the_same(steps: int) -> None:
    schedule = NoiseSchedule.uniform(steps)
    found = assumed_statistics(schedule, ((0.0, 1.0),) * steps, kernel(steps))
    assert found.responses == (0.0,) * steps
    assert len(make_plan([found], 4)) == 4
