"""Measuring a model whose outputs are a multiple of its samples: all can be worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from statistics import fmean
from typing import Any

import diffusers
import pytest
import torch
from schedulers import generate as generate_tiny
from schedulers import pipeline_with
from torch import Tensor, nn

import adaptive_diffusion as ad
from adaptive_diffusion.adapters.diffusers import pipelines
from adaptive_diffusion.adapters.diffusers.scheduler_step import noise_schedule
from adaptive_diffusion.measurement import NotMeasurableError, calls_needed, measure
from adaptive_diffusion.numerics.statistics import Statistics, kernel_of
from adaptive_diffusion.trajectory.measuring import Recorder

FACTOR = 0.6
STEPS = 8
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


class Multiple(nn.Module):
    """The denoiser e = c x; of one output, `error` is added.

    Attributes:
        outputs: all that it has been asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[Tensor] = []
        self.fails_at: int | None = None
        self.wrong: tuple[int, Tensor] | None = None

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if len(self.outputs) == self.fails_at:
            raise RuntimeError("out of memory")
        output = FACTOR * x
        if self.wrong is not None and self.wrong[0] == len(self.outputs):
            output = output + self.wrong[1]
        self.outputs.append(output)
        return output


class MultiplePipeline:
    """Any scheduler's loop around it.

    Attributes:
        samples: what entered the steps of the last call, and its result.
    """

    def __init__(self, scheduler: Any, **options: Any) -> None:
        self.scheduler = scheduler
        self.unet = Multiple()
        self.components = {"unet": self.unet, "scheduler": scheduler}
        self.samples: list[Tensor] = []
        self._options = options

    def __call__(self, generator: torch.Generator, num_inference_steps: int = STEPS) -> Tensor:
        scheduler = self.scheduler
        scheduler.set_timesteps(num_inference_steps)
        x = torch.randn(1, 3, 4, 4, generator=generator)
        x = x * getattr(scheduler, "init_noise_sigma", 1.0)
        options = {"generator": generator} | self._options if self._options else {}
        self.samples, self.unet.outputs = [x.clone()], []
        for t in scheduler.timesteps:
            scale = getattr(scheduler, "scale_model_input", lambda x, t: x)
            x = scheduler.step(self.unet(scale(x, t), t), t, x, **options).prev_sample
            self.samples.append(x.clone())
        return x


SOLVERS: dict[str, Callable[[], MultiplePipeline]] = {
    "ddim": lambda: MultiplePipeline(diffusers.DDIMScheduler(**BETAS, clip_sample=False)),
    "ddim, eta 1": lambda: MultiplePipeline(
        diffusers.DDIMScheduler(**BETAS, clip_sample=False), eta=1.0
    ),
    "euler": lambda: MultiplePipeline(diffusers.EulerDiscreteScheduler(**BETAS)),
    "dpm++ 2m": lambda: MultiplePipeline(diffusers.DPMSolverMultistepScheduler(**BETAS)),
    "unipc": lambda: MultiplePipeline(diffusers.UniPCMultistepScheduler(**BETAS)),
    "heun": lambda: MultiplePipeline(diffusers.HeunDiscreteScheduler(**BETAS)),
    "flow euler": lambda: MultiplePipeline(diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)),
}
solvers = pytest.mark.parametrize("name", SOLVERS)
seeds = (0, 1)


def run(pipe: MultiplePipeline, seed: int, steps: int = STEPS) -> Tensor:
    return pipe(torch.Generator().manual_seed(seed), num_inference_steps=steps)


def measured(pipe: MultiplePipeline, **options: Any) -> Statistics:
    runs = [partial(run, pipe, seed) for seed in seeds]
    ((stream,),), dtype = measure(pipe, runs, **options)
    assert dtype == "float32"
    return stream


def by_hand(name: str, seed: int, step: int) -> tuple[float, float]:
    """What an error in an output does: to the next sample, and to the result, relative to it."""
    pipe = SOLVERS[name]()
    run(pipe, seed)
    true = pipe.samples
    error = 0.01 * torch.randn(1, 3, 4, 4, generator=torch.manual_seed(9))
    pipe.unet.wrong = step, error
    run(pipe, seed)
    move = ((pipe.samples[step + 1] - true[step + 1]) / error).mean()
    relative = (pipe.samples[-1] - true[-1]).norm() / error.norm()
    return float(move), float(relative / true[-1].square().mean().sqrt())


def forecast_terms(pipe: MultiplePipeline, name: str, step: int) -> tuple[float, float]:
    """What is forecast is `a x + b e`: the output, or its velocity where the solver adds noise."""
    velocity = noise_schedule(pipe.scheduler).velocity
    return velocity[step] if "eta" in name and velocity is not None else (0.0, 1.0)


# What is found ---------------------------------------------------------------------------------


@solvers
def test_outputs_answer_a_displaced_sample_by_the_factor(name: str) -> None:
    """Times what the scheduler scales the denoiser's input with."""
    pipe = SOLVERS[name]()
    stream = measured(pipe)
    run(pipe, 0)
    for step in range(2, len(stream)):
        a, b = forecast_terms(pipe, name, step)
        expected = a + b * float((pipe.unet.outputs[step] / pipe.samples[step]).mean())
        assert stream.responses[step] == pytest.approx(expected, rel=0.02)
        assert stream.deviations[step] < 0.02 * abs(b)


@solvers
def test_effects_are_what_is_left_of_an_error_in_the_result(name: str) -> None:
    pipe = SOLVERS[name]()
    stream = measured(pipe)
    for step in {0, 1, 3, len(stream) - 2}:
        _, b = forecast_terms(pipe, name, step)
        moves, effects = zip(*(by_hand(name, seed, step) for seed in seeds), strict=True)
        assert stream.moves[step] == pytest.approx(sum(moves) / 2 / b, rel=0.03)
        assert stream.effects[step] == pytest.approx(math.sqrt(math.prod(effects)) / b, rel=0.03)


@solvers
def test_the_kernel_is_that_of_the_outputs(name: str) -> None:
    """Of the velocities that they predict, where the solver adds noise."""
    pipe = SOLVERS[name]()
    stream, kernels = measured(pipe), []
    for seed in seeds:
        run(pipe, seed)
        values = pipe.unet.outputs
        terms = [forecast_terms(pipe, name, step) for step in range(len(values))]
        forecast = zip(terms, pipe.samples, values, strict=False)
        kernels.append(kernel_of([a * sample + b * output for (a, b), sample, output in forecast]))
    torch.testing.assert_close(stream.kernel, sum(kernels) / 2, rtol=1e-4, atol=1e-4)
    assert stream.coordinates == noise_schedule(pipe.scheduler).coordinates
    assert stream.noisy == ("eta" in name)


@solvers
def test_a_plan_has_its_calls_and_leaves_the_error_that_it_was_said_to(name: str) -> None:
    pipe = SOLVERS[name]()
    runs = [partial(run, pipe, seed) for seed in seeds]
    loops, _ = measure(pipe, runs)
    for nfe in (3, 5):
        policy, squares = ad.Planned(nfe, loops), []
        for seed in range(7, 11):
            full = run(pipe, seed)
            with ad.accelerate(pipe, policy) as made:
                result = run(pipe, seed)
            assert made.report.nfe == [nfe]
            squares.append(float((result - full).square().sum() / full.square().sum()))
        plan = tuple(step for step, computed in enumerate(made.report.mask[0]) if computed)
        assert 0.4 < math.sqrt(fmean(squares) / loops[0][0].plan_cost(plan)) < 2


def test_no_more_calls_are_made_than_were_said() -> None:
    pipe = SOLVERS["ddim"]()
    calls = []
    pipe.unet.register_forward_hook(lambda *_: calls.append(1))
    measured(pipe)
    assert len(calls) <= calls_needed(STEPS, runs=2, disturbed=2)
    assert len(calls) > 0.9 * calls_needed(STEPS, runs=2, disturbed=2)


# What is left as it was ------------------------------------------------------------------------


@solvers
def test_a_recorded_run_is_the_plain_run_to_the_bit(name: str) -> None:
    pipe = SOLVERS[name]()
    plain = run(pipe, 3)
    recorder = Recorder()
    pipelines.enable(pipe, pipelines.Setting(ad.ErrorControlled(tolerance=0), make_stream=recorder))
    assert torch.equal(run(pipe, 3), plain)
    ((stream,),) = [loop.streams for loop in recorder.loops]
    assert torch.equal(stream.result, plain)
    assert all(map(torch.equal, stream.outputs, pipe.unet.outputs))


@solvers
def test_what_is_kept_of_the_recorded_runs_is_what_plain_runs_make(name: str) -> None:
    kept: dict[int, Tensor] = {}
    measured(SOLVERS[name](), keep=kept.__setitem__)
    plain = {index: run(SOLVERS[name](), seed) for index, seed in enumerate(seeds)}
    assert kept.keys() == plain.keys()
    assert all(torch.equal(kept[index], plain[index]) for index in plain)


@pytest.mark.parametrize("scheduler", ["dpmsolver++", "euler_ancestral", "flow_match_heun"])
def test_a_recorded_picture_is_the_plain_picture_to_the_bit(scheduler: str) -> None:
    pipe = pipeline_with(scheduler)
    plain = generate_tiny(pipe, steps=5)
    pipelines.enable(
        pipe, pipelines.Setting(ad.ErrorControlled(tolerance=0), make_stream=Recorder())
    )
    assert torch.equal(generate_tiny(pipe, steps=5), plain)


@pytest.mark.parametrize("name", ["ddim", "unipc"])
def test_measuring_leaves_the_pipeline_as_it_was(name: str) -> None:
    pipe = SOLVERS[name]()
    before = run(pipe, 3)
    measured(pipe)
    assert type(pipe) is MultiplePipeline
    assert torch.equal(run(pipe, 3), before)


@pytest.mark.parametrize("call", [0, 1, 2, 4], ids="in the {}th run".format)
def test_an_error_in_the_middle_leaves_it_so_too(call: int) -> None:
    pipe = SOLVERS["unipc"]()
    before = run(pipe, 3)
    made = []

    def failing(seed: int) -> Tensor:
        pipe.unet.fails_at = 2 if len(made) == call else None
        made.append(seed)
        return run(pipe, seed)

    with pytest.raises(RuntimeError, match="out of memory"):
        measure(pipe, [partial(failing, seed) for seed in seeds])
    pipe.unet.fails_at = None
    assert type(pipe) is MultiplePipeline
    assert torch.equal(run(pipe, 3), before)


# What can't be measured ------------------------------------------------------------------------


def test_a_model_that_says_nothing_is_measured_and_planned() -> None:
    class Silent(Multiple):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return 0 * super().forward(x, t)

    pipe = SOLVERS["ddim"]()
    pipe.unet = pipe.components["unet"] = Silent()
    stream = measured(pipe)
    assert not stream.kernel.any()
    with ad.accelerate(pipe, ad.Planned(3, ((stream,),))) as made:
        assert run(pipe, 0).isfinite().all()
    assert made.report.nfe == [3]


def test_loops_that_differ_are_refused() -> None:
    pipe = SOLVERS["ddim"]()
    with pytest.raises(NotMeasurableError, match="differ from sample to sample"):
        measure(pipe, [partial(run, pipe, 0, steps) for steps in (6, 7)])


@pytest.mark.parametrize("steps", [1, 2])
def test_loops_of_which_nothing_can_be_skipped_are_refused(steps: int) -> None:
    pipe = SOLVERS["ddim"]()
    with pytest.raises(NotMeasurableError, match="fewer than 3 steps"):
        measure(pipe, [partial(run, pipe, seed, steps) for seed in seeds])


def test_a_pipeline_without_a_loop_is_refused() -> None:
    pipe = SOLVERS["ddim"]()
    with pytest.raises(NotMeasurableError, match="no denoising loop"):
        measure(pipe, [lambda: pipe.scheduler] * 2)
