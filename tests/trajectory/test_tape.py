"""Doing solver steps again, with a small multistep solver whose every number is known."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from adaptive_diffusion.trajectory.tape import Tape

STEPS, SIZE = 12, 3


class Solver:
    """x' = 0.9 x + 0.3 e + 0.1 (the output before): it has a state."""

    def __init__(self) -> None:
        self.before: Tensor | float = 0.0
        self.runs = 0


class Step:
    """One step of it."""

    drew_noise = False

    def __init__(self, solver: Solver) -> None:
        self._solver = solver

    def state(self) -> Any:
        return self._solver.before

    def restore(self, state: Any) -> None:
        self._solver.before = state

    def run(self, output: Tensor, sample: Tensor) -> Tensor:
        result = 0.9 * sample + 0.3 * output + 0.1 * self._solver.before
        self._solver.before = output
        self._solver.runs += 1
        return result


def random(samples: int, count: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(samples, SIZE, generator=generator) for _ in range(count)]


def plain_run(outputs: list[Tensor], start: Tensor, shifts: list[Tensor] | None = None) -> Tensor:
    solver, sample = Solver(), start
    for i, output in enumerate(outputs):
        sample = Step(solver).run(output, sample)
        if shifts:
            sample = sample + shifts[i]
    return sample


def taped_run(
    outputs: list[Tensor],
    forecasts: list[Tensor],
    masks: list[list[bool]],
    start: Tensor,
    shifts: list[Tensor] | None = None,
    in_place: bool = False,
) -> Tensor:
    """Steps with forecasts where `masks` is false; made good as soon as a sample is computed."""
    solver, tape, sample = Solver(), Tape(), start
    for i, mask in enumerate(masks):
        tape.arrive(sample)
        if tape.awaits(mask):
            sample = tape.replay(sample, mask, lambda index, output, sample: outputs[index])
        computed = torch.tensor(mask)[:, None]
        used = torch.where(computed, outputs[i], forecasts[i])
        sample = tape.record(i, Step(solver), used, sample, [not known for known in mask])
        if shifts and in_place:
            sample += shifts[i]
        elif shifts:
            sample = sample + shifts[i]
    return sample


@st.composite
def plans(draw: st.DrawFn) -> list[list[bool]]:
    """Masks of all steps; every sample is computed at the last, so that all is made good."""
    samples = draw(st.integers(1, 3))
    row = st.lists(st.booleans(), min_size=samples, max_size=samples)
    return [*draw(st.lists(row, min_size=STEPS - 1, max_size=STEPS - 1)), [True] * samples]


@given(plans(), st.booleans(), st.booleans())
def test_what_is_made_good_with_the_true_outputs_leaves_no_trace(
    masks: list[list[bool]], shifted: bool, in_place: bool
) -> None:
    """Also if the pipeline changes the sample between steps, or writes into it."""
    samples = len(masks[0])
    outputs, forecasts = random(samples, STEPS, 0), random(samples, STEPS, 1)
    start = random(samples, 1, 2)[0]
    shifts = random(samples, STEPS, 3) if shifted else None
    torch.testing.assert_close(
        taped_run(outputs, forecasts, masks, start, shifts, in_place),
        plain_run(outputs, start, shifts),
    )


@given(plans())
def test_samples_do_not_meet(masks: list[list[bool]]) -> None:
    samples = len(masks[0])
    outputs, forecasts = random(samples, STEPS, 0), random(samples, STEPS, 1)
    start = random(samples, 1, 2)[0]
    together = taped_run(outputs, forecasts, masks, start)
    for b in range(samples):
        rows = [[x[b : b + 1] for x in tensors] for tensors in (outputs, forecasts, [start])]
        alone = taped_run(rows[0], rows[1], [[mask[b]] for mask in masks], rows[2][0])
        torch.testing.assert_close(together[b : b + 1], alone)


@given(plans())
def test_replaying_the_same_outputs_changes_no_bit(masks: list[list[bool]]) -> None:
    samples = len(masks[0])
    outputs = random(samples, STEPS, 0)
    start = random(samples, 1, 2)[0]
    assert torch.equal(taped_run(outputs, outputs, masks, start), plain_run(outputs, start))


def test_nothing_is_kept_while_nothing_is_pending() -> None:
    tape, solver = Tape(), Solver()
    sample = torch.ones(2, SIZE)
    for i in range(3):
        tape.arrive(sample)
        assert not tape.awaits([True, True])
        sample = tape.record(i, Step(solver), sample, sample, [False, False])
    assert solver.runs == 3


@given(st.integers(1, 5), st.integers(0, 2))
def test_a_replay_takes_the_steps_since_the_first_pending_one_and_no_other(
    skipped: int, computed: int
) -> None:
    tape, solver = Tape(), Solver()
    sample = torch.ones(1, SIZE)
    for i, pending in enumerate([False] * computed + [True] * skipped):
        sample = tape.record(i, Step(solver), sample, sample, [pending])
    asked: list[int] = []

    def better(index: int, output: Tensor, sample: Tensor) -> Tensor:
        asked.append(index)
        return output

    assert tape.awaits([True])
    assert not tape.awaits([False])
    tape.replay(sample, [True], better)
    assert asked == list(range(computed, computed + skipped))
    assert solver.runs == computed + 3 * skipped  # taken, tried, and taken with better outputs
    assert not tape.awaits([True])


def test_a_sample_that_is_overwritten_after_its_step_is_remembered() -> None:
    """Some pipelines write each result where the sample before it was."""
    tape, solver = Tape(), Solver()
    buffer = torch.ones(1, SIZE)
    buffer.copy_(tape.record(0, Step(solver), torch.zeros(1, SIZE), buffer, [True]))
    tape.arrive(buffer)
    corrected = tape.replay(buffer, [True], lambda index, output, sample: output + 1)
    ones = torch.ones(1, SIZE)
    torch.testing.assert_close(corrected, Step(Solver()).run(ones, ones))


def test_half_precision_stays_half() -> None:
    tape, solver = Tape(), Solver()
    sample = torch.ones(1, SIZE, dtype=torch.float16)
    result = tape.record(0, Step(solver), sample, sample, [True])
    corrected = tape.replay(result, [True], lambda index, output, sample: 2 * output)
    assert corrected.dtype == torch.float16
    assert torch.equal(corrected, Step(Solver()).run(2 * sample, sample))
