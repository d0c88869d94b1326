"""Whether forecasts are followed, by what is known of the model."""

from __future__ import annotations

import pytest
import torch
from toy_statistics import statistics_on

from adaptive_diffusion import ErrorControlled, FixedSchedule, NoiseSchedule
from adaptive_diffusion.policies import Planned, Policy
from adaptive_diffusion.trajectory.forecaster import Forecaster

STEPS = 12
SCHEDULE = NoiseSchedule.uniform(STEPS)
NOTHING_OF_ANSWERS = {"responses": (0.0,) * STEPS, "deviations": (0.0,) * STEPS}


def planned(**changes: tuple[float, ...]) -> Planned:
    return Planned(6, loops=((statistics_on(SCHEDULE, **changes),),))


@pytest.mark.parametrize(
    ("policy", "cautious"),
    [
        (ErrorControlled(), True),
        (Planned(6), True),
        (planned(**NOTHING_OF_ANSWERS), True),
        (planned(), False),
        (FixedSchedule([True] * STEPS), False),
    ],
    ids=["error control", "nothing known", "a kernel alone", "all measured", "a mask"],
)
def test_policies_are_cautious_where_no_answers_were_measured(
    policy: Policy, cautious: bool
) -> None:
    """Outputs that go back on every forecast: a cautious one stays where the last output is."""
    forecaster = Forecaster(policy, SCHEDULE, samples=1)
    sample = torch.zeros(1, 5)
    swing = [torch.full((1, 5), 1.0 if step % 2 else -1.0) for step in range(4)]
    for step, output in enumerate(swing):
        forecaster.forecast(step, [True], output, sample)
        forecaster.remember(step, [True], output, sample)
    assert forecaster.is_cautious == cautious
    forecast = forecaster.forecast(4, [False], swing[-1], sample)
    assert torch.equal(forecast, swing[-1]) == cautious
