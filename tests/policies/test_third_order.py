"""The rule of the paper, against a reference written from `ALGORITHM.md` alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from schedulers import generate, pipeline_with
from torch import Tensor

import adaptive_diffusion as ad
from adaptive_diffusion import NoiseSchedule, PolicyError, ThirdOrder, Trace


def reference_mask(changes: dict[int, float], steps: int, delta: float, c_max: int) -> list[bool]:
    """Which steps are computed, given d_k = mean |L_k - L_(k-1)| for k = 1, 2, ..."""
    verdicts: list[str] = []
    for i in range(3, steps - 1):  # after step i: the verdict for step i + 1
        if len(verdicts) > 4 and "compute" not in verdicts[-c_max:]:
            verdicts.append("compute")
        elif abs((changes[i] + changes[i - 2]) / 2 - changes[i - 1]) <= delta * changes[i - 1]:
            verdicts.append("skip")
        else:
            verdicts.append("compute")
    return ([True] * 4 + [verdict == "compute" for verdict in verdicts])[:steps]


def changes_of(latents: list[Tensor]) -> dict[int, float]:
    return {
        k: (latents[k].double() - latents[k - 1].double()).abs().mean().item()
        for k in range(1, len(latents))
    }


def simulate(policy: ThirdOrder, changes: list[float]) -> list[bool]:
    trace = Trace(NoiseSchedule.uniform(len(changes)))
    for change in changes:
        trace.mask.append(policy.decide(trace))
        trace.changes.append(change)
        trace.errors.append(math.nan)
    return trace.mask


@given(
    st.lists(st.floats(0.5, 1.5), min_size=1, max_size=40),
    st.sampled_from([0.0, 0.05, 0.1, 0.3, 10.0]),
    st.integers(1, 8),
)
def test_equals_the_reference_on_any_changes(
    changes: list[float], delta: float, c_max: int
) -> None:
    expected = reference_mask(dict(enumerate(changes)), len(changes), delta, c_max)
    assert simulate(ThirdOrder(threshold=delta, max_skip=c_max), [math.nan, *changes[1:]]) == (
        expected
    )


@pytest.mark.parametrize("scheduler", ["ddim", "dpmsolver++", "euler", "flow_match_euler"])
def test_masks_of_recorded_latents_equal_the_reference(scheduler: str) -> None:
    pipe = pipeline_with(scheduler)
    seen: set[tuple[bool, ...]] = set()
    for delta in (0.003, 0.01, 0.03, 0.1):
        for c_max in (2, 4):
            latents: list[Tensor] = []

            def record(_: Any, __: int, ___: Any, given: Any, latents: Any = latents) -> Any:
                latents.append(given["latents"].clone())
                return {}

            with ad.accelerate(pipe, ThirdOrder(delta, c_max)) as run:
                generate(pipe, 2, steps=24, callback_on_step_end=record)
            for b in range(2):
                own = changes_of([latent[b] for latent in latents])
                assert run.report.mask[b] == reference_mask(own, 24, delta, c_max)
                seen.add(tuple(run.report.mask[b]))
    assert len(seen) > 3  # the thresholds do make a difference
    assert any(not all(mask) for mask in seen)


@pytest.mark.parametrize("change", [math.nan, math.inf])
@given(at=st.integers(4, 30))
def test_a_change_that_is_not_a_number_means_compute(change: float, at: int) -> None:
    changes = [math.nan, *[1.0] * 40]
    changes[at] = change
    mask = simulate(ThirdOrder(threshold=1.0), changes)
    assert all(mask[at + 1 : at + 4])


@given(st.integers(5, 40), st.integers(1, 8))
def test_even_motion_is_skipped_up_to_max_skip_once_five_verdicts_are_in(
    steps: int, max_skip: int
) -> None:
    mask = simulate(ThirdOrder(threshold=0.0, max_skip=max_skip), [math.nan, *[1.0] * (steps - 1)])
    assert not any(mask[4:9])
    runs = "".join("c" if computed else "s" for computed in mask[9:]).split("c")
    assert max(map(len, runs)) <= max_skip


def test_a_skipped_step_reuses_the_output_and_makes_nothing_good() -> None:
    assert not ThirdOrder().extrapolates
    assert not ThirdOrder().backfill
    assert (ThirdOrder().threshold, ThirdOrder().max_skip) == (0.01, 4)  # the paper's


@pytest.mark.parametrize(
    "threshold", [-0.01, math.nan, math.inf, torch.tensor(0.01), "0.01", True, None], ids=str
)
def test_bad_threshold(threshold: Any) -> None:
    with pytest.raises(PolicyError, match=r"threshold must be .*such as 0\.01"):
        ThirdOrder(threshold=threshold)


@pytest.mark.parametrize("max_skip", [0, -1, 1.5, True, "4", None], ids=str)
def test_bad_max_skip(max_skip: Any) -> None:
    with pytest.raises(PolicyError, match="max_skip must be a whole number of at least 1"):
        ThirdOrder(max_skip=max_skip)
