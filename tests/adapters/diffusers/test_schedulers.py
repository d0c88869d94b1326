"""Every scheduler can be skipped under, and its steps can be taken again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from schedulers import (
    MORE_SCHEDULERS,
    SCHEDULERS,
    STOCHASTIC,
    generate,
    generators,
    pipeline_with,
    relative_difference,
)
from tiny_pipelines import BETAS
from torch import Tensor

import adaptive_diffusion as ad
from adaptive_diffusion.adapters.diffusers.memory import Memory
from adaptive_diffusion.adapters.diffusers.scheduler_step import SchedulerStep
from adaptive_diffusion.trajectory.tape import Tape

ALL = SCHEDULERS | MORE_SCHEDULERS
SAMPLES = 2
Output = Callable[[int], Tensor]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_tolerance_zero_is_the_plain_pipeline_to_the_bit(name: str) -> None:
    pipe = pipeline_with(name)
    plain = generate(pipe)
    ad.enable(pipe, tolerance=0)
    assert torch.equal(generate(pipe), plain)
    assert all(ad.report(pipe).mask[0])
    ad.disable(pipe)
    assert torch.equal(generate(pipe), plain)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_skipping_changes_the_result_and_keeps_it_finite(name: str) -> None:
    """Two steps out of eight."""
    pipe = pipeline_with(name)
    plain = generate(pipe)
    steps = len(pipe.scheduler.timesteps)
    mask = [i not in (3, 5) for i in range(steps)]
    with ad.accelerate(pipe, ad.FixedSchedule(mask)) as run:
        skipped = generate(pipe)
    assert run.report.mask == [mask]
    assert skipped.isfinite().all()
    assert 0 < relative_difference(skipped, plain) < 1


class Solver:
    """A real scheduler in a loop without a pipeline."""

    def __init__(self, name: str, eta: float | None = None, steps: int = 8) -> None:
        self.scheduler = ALL[name]()
        self.scheduler.set_timesteps(steps)
        self.generators = generators(SAMPLES)
        self.options: dict[str, Any] = {"return_dict": False}
        if name in STOCHASTIC or eta is not None:
            self.options["generator"] = self.generators
        if eta is not None:
            self.options["eta"] = eta
        first = torch.randn(SAMPLES, 4, 4, 4, generator=torch.Generator().manual_seed(99))
        self.start = first * float(getattr(self.scheduler, "init_noise_sigma", 1.0))
        self.memory = Memory(self.scheduler, type(self.scheduler).step)

    def __len__(self) -> int:
        return len(self.scheduler.timesteps)

    def step(self, i: int, output: Tensor, sample: Tensor) -> SchedulerStep:
        """What the adapter makes of the pipeline's call."""
        t = self.scheduler.timesteps[i]
        if hasattr(self.scheduler, "scale_model_input"):
            self.scheduler.scale_model_input(sample, t)
        take, args = type(self.scheduler).step, (output, t, sample)
        return SchedulerStep(self.scheduler, take, self.memory, args, dict(self.options))

    def random_states(self) -> list[list[int]]:
        states = [generator.get_state() for generator in self.generators]
        return [state.tolist() for state in [*states, torch.get_rng_state()]]


def output(i: int) -> Tensor:
    return torch.randn(SAMPLES, 4, 4, 4, generator=torch.Generator().manual_seed(i))


def forecast(i: int) -> Tensor:
    return output(1000 + i)


def plain_run(solver: Solver) -> list[Tensor]:
    samples = [solver.start]
    for i in range(len(solver)):
        samples.append(solver.step(i, output(i), samples[-1]).run(output(i), samples[-1]))
    return samples


def taped_run(solver: Solver, masks: list[list[bool]], stand_in: Output) -> list[Tensor]:
    """The samples that enter each step, and the last, if steps are made good with true outputs."""
    tape, sample, samples = Tape(), solver.start, []
    for i, mask in enumerate(masks):
        tape.arrive(sample)
        if tape.awaits(mask):
            sample = tape.replay(sample, mask, lambda index, _, __: output(index))
        samples.append(sample)
        used = torch.where(torch.tensor(mask).view(-1, 1, 1, 1), output(i), stand_in(i))
        pending = [not computed for computed in mask]
        sample = tape.record(i, solver.step(i, used, sample), used, sample, pending)
    return [*samples, sample]


def masks_of(solver: Solver, *skipped: range) -> list[list[bool]]:
    """One sample skips the steps of each range."""
    return [[i not in steps for steps in skipped] for i in range(len(solver))]


@pytest.fixture(params=[*ALL, "ddim_eta"])
def make_solver(request: pytest.FixtureRequest) -> Callable[[], Solver]:
    name = request.param
    return lambda: Solver("ddim", eta=1.0) if name == "ddim_eta" else Solver(name)


def same_state(a: Any, b: Any) -> bool:
    """Whether two schedulers will go on alike: all of their tensors and numbers are equal."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same_state, a, b))
    return bool(a == b) if isinstance(a, (int, float, str, bool, type(None))) else True


@pytest.mark.parametrize("first", [0, 1], ids="from {}".format)
def test_replaying_the_outputs_that_were_used_changes_no_bit(
    make_solver: Callable[[], Solver], first: int
) -> None:
    """Neither of the sample, nor of what follows, nor of the random numbers."""
    torch.manual_seed(0)
    plain_solver = make_solver()
    plain = plain_run(plain_solver)
    states = plain_solver.random_states()

    torch.manual_seed(0)
    solver = make_solver()
    masks = masks_of(solver, range(first, first + 3), range(first, first + 3))
    replayed = taped_run(solver, masks, output)

    assert all(map(torch.equal, replayed, plain))
    assert solver.random_states() == states
    ours, theirs = vars(solver.scheduler), vars(plain_solver.scheduler)
    assert ours.keys() == theirs.keys()
    assert all(same_state(ours[name], theirs[name]) for name in ours)


def test_steps_made_good_with_the_true_outputs_give_the_plain_samples(
    make_solver: Callable[[], Solver],
) -> None:
    """Samples that skip different steps, which overlap, with forecasts that are far off."""
    plain_solver, solver = make_solver(), make_solver()
    torch.manual_seed(0)
    plain = plain_run(plain_solver)
    torch.manual_seed(0)
    masks = masks_of(solver, range(1, 4), range(2, 6))
    made_good = taped_run(solver, masks, forecast)
    for i, sample in enumerate(made_good):
        for b in range(SAMPLES):
            # what enters a computed step, and all after it, is known
            if i == len(masks) or (masks[i][b] and all(mask[b] for mask in masks[i:])):
                assert relative_difference(sample[b], plain[i][b]) < 1e-4
    assert relative_difference(made_good[4], plain[4]) > 1e-3  # the forecasts did matter
    assert solver.random_states() == plain_solver.random_states()


def test_whether_numbers_were_drawn_is_noticed(make_solver: Callable[[], Solver]) -> None:
    solver, sample, drew = make_solver(), None, []
    for i in range(len(solver)):
        sample = solver.start if sample is None else sample
        before = solver.random_states()
        step = solver.step(i, output(i), sample)
        sample = step.run(output(i), sample)
        assert step.drew_noise == (solver.random_states() != before)
        drew.append(step.drew_noise)
    if "generator" in solver.options:
        assert any(drew)


def test_a_solver_is_stochastic_only_if_other_numbers_give_another_sample(
    make_solver: Callable[[], Solver],
) -> None:
    """Else its outputs should be extrapolated, and not its velocities reused."""
    solver, other = make_solver(), make_solver()
    other.generators[:] = generators(SAMPLES, seed=50)
    torch.manual_seed(0)
    expects_noise, sample = False, solver.start
    for i in range(len(solver)):
        step = solver.step(i, output(i), sample)
        sample = step.run(output(i), sample)
        expects_noise = expects_noise or step.drew_noise
    torch.manual_seed(50)
    if expects_noise:
        assert not torch.equal(plain_run(other)[-1], sample)


def test_one_generator_and_the_global_one_are_put_back_too() -> None:
    for given in (None, torch.Generator().manual_seed(3)):
        scheduler = SCHEDULERS["euler_ancestral"]()
        scheduler.set_timesteps(5)
        scheduler.is_scale_input_called = True
        options = {} if given is None else {"generator": given}
        source = torch.default_generator if given is None else given
        sample = output(1)
        step = SchedulerStep(
            scheduler,
            type(scheduler).step,
            Memory(scheduler, type(scheduler).step),
            (output(0), scheduler.timesteps[0], sample),
            {"return_dict": False, **options},
        )
        state = step.state()
        first = step.run(output(0), sample)
        after = source.get_state()
        torch.randn(3, generator=source)  # the pipeline draws numbers of its own
        later = source.get_state()
        step.restore(state)
        assert torch.equal(step.run(output(0), sample), first)
        assert torch.equal(source.get_state(), later)
        assert not torch.equal(later, after)


def test_restoring_leaves_the_saved_state_as_it_was() -> None:
    """A state may be gone back to more than once, and lists are not shared with the scheduler."""
    solver = Solver("dpmsolver++")
    sample = solver.start
    for i in range(3):
        sample = solver.step(i, output(i), sample).run(output(i), sample)
    step = solver.step(3, output(3), sample)
    state = step.state()
    results = []
    for _ in range(3):
        results.append(step.run(output(3), sample))
        solver.step(4, output(4), results[-1]).run(output(4), results[-1])
        step.restore(state)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_a_saved_state_does_not_see_what_is_written_over_the_sample() -> None:
    """As a pipeline does that steps slices of its latents and puts the results into them."""
    solver = Solver("unipc")
    film = torch.stack([solver.start, solver.start])
    step = solver.step(0, output(0), film[0])
    film[0] = step.run(output(0), film[0])
    second = solver.step(1, output(1), film[0])
    start, state = film[0].clone(), second.state()
    result = second.run(output(1), start)
    film[0] = 7.0
    second.restore(state)
    assert torch.equal(second.run(output(1), start), result)


def test_arguments_are_found_by_position_and_by_name() -> None:
    scheduler = DDIMScheduler(**BETAS)
    scheduler.set_timesteps(4)
    t = scheduler.timesteps[0]
    by_name = {"model_output": output(0), "timestep": t, "sample": output(1), "return_dict": False}
    for args, kwargs in (
        ((output(0), t, output(1)), {"return_dict": False}),
        ((output(0),), {"timestep": t, "sample": output(1)}),
        ((), by_name),
    ):
        memory = Memory(scheduler, DDIMScheduler.step)
        step = SchedulerStep(scheduler, DDIMScheduler.step, memory, args, kwargs)
        assert torch.equal(step.output, output(0))
        assert torch.equal(step.sample, output(1))
        assert step.timestep == t
        expected = scheduler.step(output(2), t, output(3), return_dict=False)[0]
        assert torch.equal(step.run(output(2), output(3)), expected)
        assert torch.equal(step.returned[0], expected)
