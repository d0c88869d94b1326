"""Loops of every shape: how denoiser calls and scheduler steps may follow one another."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.utils import BaseOutput
from schedulers import SCHEDULERS, count_calls, generate, inputs_for, relative_difference
from tiny_pipelines import ALL_PIPELINES, TINY_PIPELINES, run, seeded
from tiny_pipelines.core import wan
from torch import Tensor, nn

import adaptive_diffusion as ad
from adaptive_diffusion import FixedSchedule, Policy, Trace

Tiny = Callable[[str], Any]
STEPS = 6
MASK = [True, True, False, True, False, True]


class Repeated(Policy):
    """The same plan in every loop of a call, for as long as it lasts."""

    def decide(self, trace: Trace) -> bool:
        return MASK[trace.step % len(MASK)]


class Network(nn.Module):
    """Tells the timestep from a picture, and answers in the shape that a test asks for."""

    def __init__(self, answer: Callable[[Tensor], Any] = lambda output: output) -> None:
        super().__init__()
        self.answer = answer
        self.given: list[dict[str, Any]] = []

    def forward(self, sample: Tensor, t: Tensor, **more: Any) -> Any:
        self.given.append(more)
        t = t.view(-1, *(1,) * (sample.ndim - 1)) if t.ndim else t
        return self.answer(0.5 * sample + torch.tanh(sample + t / 1000).roll(1, dims=-1))


class Loop:
    """A pipeline of somebody's own; each test gives it a loop."""

    def __init__(self, network: Network, scheduler: Any = None, **parts: Any) -> None:
        self.unet = network
        self.scheduler = SCHEDULERS["ddim"]() if scheduler is None else scheduler
        self.components = {"unet": network, "scheduler": self.scheduler, **parts}
        for name, part in parts.items():
            setattr(self, name, part)

    @torch.no_grad()
    def __call__(self) -> Tensor:
        self.scheduler.set_timesteps(STEPS)
        sample = noise()
        for t in self.scheduler.timesteps:
            sample = self.step(sample, t)
        return sample

    def step(self, sample: Tensor, t: Tensor) -> Tensor:
        raise NotImplementedError


def noise(seed: int = 0) -> Tensor:
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def check(
    pipe: Loop, calls_per_step: int = 1, loops: int = 1, policy: Policy | None = None
) -> None:
    """Identical with nothing skipped; with skips, no more calls than were planned."""
    plain = pipe()
    with ad.accelerate(pipe, tolerance=0):
        assert torch.equal(pipe(), plain)
    pipe.unet.given.clear()
    with ad.accelerate(pipe, Repeated()) as accelerated:
        skipped = pipe()
        assert torch.equal(pipe(), skipped)
    assert accelerated.report.mask == [MASK * loops] * len(accelerated.report.mask)
    assert len(pipe.unet.given) == 2 * calls_per_step * loops * sum(MASK)
    assert skipped.isfinite().all()
    assert 0 < relative_difference(skipped, plain) < 1
    assert torch.equal(pipe(), plain)


# Steps and calls ----------------------------------------------------------------------------------


class TwoStepsPerCall(Loop):
    """Two schedulers go by one output: pictures and their depth, say, or video and audio."""

    def step(self, sample: Tensor, t: Tensor) -> Tensor:
        output = self.unet(sample, t)
        halves = [
            scheduler.step(part, t, x, return_dict=False)[0]
            for scheduler, part, x in zip(
                (self.scheduler, self.second), output.chunk(2, 1), sample.chunk(2, 1), strict=True
            )
        ]
        return torch.cat(halves, dim=1)


def test_several_scheduler_steps_may_follow_one_call() -> None:
    second = SCHEDULERS["ddim"]()
    second.set_timesteps(STEPS)
    check(TwoStepsPerCall(Network(), second=second))


class SchedulerCopied(Loop):
    """A copy of the scheduler is made within the call, and steps the other half."""

    @torch.no_grad()
    def __call__(self) -> Tensor:
        self.scheduler.set_timesteps(STEPS)
        self.audio_scheduler = copy.deepcopy(self.scheduler)
        self.audio_scheduler.set_timesteps(STEPS)
        video, audio = noise().chunk(2, 1)
        for t in self.scheduler.timesteps:
            output = self.unet(torch.cat([video, audio], 1), t)
            video = self.scheduler.step(output[:, :2], t, video, return_dict=False)[0]
            audio = self.audio_scheduler.step(output[:, 2:], t, audio, return_dict=False)[0]
        return torch.cat([video, audio], 1)


@pytest.mark.parametrize("scheduler", ["ddim", "unipc", "dpmsolver++"])
def test_a_copied_scheduler_steps_beside_the_first(scheduler: str) -> None:
    check(SchedulerCopied(Network(), SCHEDULERS[scheduler]()))


class Chunked(Loop):
    """A video, chunk by chunk; each begins with the last one's end."""

    @torch.no_grad()
    def __call__(self) -> Tensor:
        context, chunks = torch.zeros(2, 4, 8, 8), []
        for seed in range(3):
            self.scheduler.set_timesteps(STEPS)
            sample = noise(seed)
            for t in self.scheduler.timesteps:
                output = self.unet(sample + 0.1 * context, t, context=context)
                sample = self.scheduler.step(output, t, sample, return_dict=False)[0]
            context = sample
            chunks.append(sample)
        return torch.cat(chunks, dim=1)


@pytest.mark.parametrize("scheduler", ["ddim", "unipc"])
def test_every_chunk_is_a_loop_of_its_own(scheduler: str) -> None:
    """Its first step is computed: nothing is forecast from another chunk's outputs."""
    check(Chunked(Network(), SCHEDULERS[scheduler]()), loops=3)


class PerSampleTimesteps(Loop):
    """The denoiser gets a timestep for every sample, or for every frame."""

    def step(self, sample: Tensor, t: Tensor) -> Tensor:
        output = self.unet(sample, t.expand(len(sample)))
        return self.scheduler.step(output, t, sample, return_dict=False)[0]


def test_timesteps_may_be_given_sample_by_sample() -> None:
    check(PerSampleTimesteps(Network()))


class PerTokenTimesteps(Loop):
    """The first row is known: its noise is less, at every step."""

    @torch.no_grad()
    def __call__(self) -> Tensor:
        self.scheduler.set_timesteps(STEPS)
        sample = noise().flatten(2).transpose(1, 2)
        share = torch.ones(*sample.shape[:2])
        share[:, :8] = 0.5
        for t in self.scheduler.timesteps:
            tokens = share * t
            output = self.unet(sample, t) * share.unsqueeze(-1)
            sample = self.scheduler.step(
                output, t, sample, per_token_timesteps=tokens, return_dict=False
            )[0]
        return sample


def test_timesteps_may_be_given_token_by_token() -> None:
    check(PerTokenTimesteps(Network(), FlowMatchEulerDiscreteScheduler()))


def test_a_pipeline_with_timesteps_for_every_token() -> None:
    """Wan 2.2 at its smallest: the first frame is clean from the beginning."""
    pipe = seeded(lambda: wan(expand_timesteps=True))()
    inputs = TINY_PIPELINES["wan"].inputs(2)
    plain = run(pipe, inputs)
    with ad.accelerate(pipe, tolerance=0):
        assert torch.equal(run(pipe, inputs), plain)
    calls = count_calls(pipe.transformer)
    with ad.accelerate(pipe, FixedSchedule(MASK)) as accelerated:
        assert relative_difference(run(pipe, inputs), plain) < 1
    assert accelerated.report.mask == [MASK] * 2
    assert calls == [2] * 2 * sum(MASK)


# Outputs ------------------------------------------------------------------------------------------


@dataclass
class Answer(BaseOutput):
    sample: Tensor
    cache: list[Tensor] | None = None


class Unpacked(Loop):
    """Takes the prediction out of whatever the denoiser answers."""

    def step(self, sample: Tensor, t: Tensor) -> Tensor:
        output = self.unet(sample, t)
        while not isinstance(output, Tensor):
            output = output["sample"] if isinstance(output, dict) else output[0]
        return self.scheduler.step(output[:, :4], t, sample, return_dict=False)[0]


ANSWERS: dict[str, Callable[[Tensor], Any]] = {
    "tuple": lambda output: (output,),
    "pair": lambda output: (output, output.mean()),
    "list": lambda output: [output, None],
    "dataclass": Answer,
    "with a cache": lambda output: Answer(output, [output + 1, output + 2]),
    "pair with a cache": lambda output: (output, {"keys": [output + 1], "length": 7}),
    "dict": lambda output: {"sample": output, "more": (output,)},
    "learned variance": lambda output: (torch.cat([output, output.abs()], dim=1),),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_denoisers_may_answer_in_any_shape(answer: Callable[[Tensor], Any]) -> None:
    check(Unpacked(Network(answer)))


class Listed(Loop):
    """The denoiser takes the samples as a list, and answers with one."""

    def step(self, sample: Tensor, t: Tensor) -> Tensor:
        output = torch.stack(self.unet(sample, t, rows=list(sample)))
        return self.scheduler.step(output, t, sample, return_dict=False)[0]


def test_a_denoiser_may_answer_with_a_list_of_samples() -> None:
    check(Listed(Network(lambda output: list(output.unbind()))))


class Cached(Loop):
    """The first call of a step fills a cache that the second one goes by."""

    def step(self, sample: Tensor, t: Tensor) -> Tensor:
        first, cache = self.unet(sample, t)
        second, _ = self.unet(sample + 0.1 * cache["keys"][0], t)
        return self.scheduler.step(0.5 * (first + second), t, sample, return_dict=False)[0]


def test_a_cache_may_be_handed_from_call_to_call() -> None:
    check(Cached(Network(ANSWERS["pair with a cache"])), calls_per_step=2)


# Guidance that comes and goes ---------------------------------------------------------------------


class Truncated(Loop):
    """The unconditional call is made in a part of the loop only, and first or second."""

    window = range(0)
    first = False

    def step(self, sample: Tensor, t: Tensor) -> Tensor:
        index = self.scheduler.timesteps.tolist().index(int(t))
        outputs = [self.unet(sample, t)]
        if index in self.window:
            outputs.insert(0 if self.first else 1, self.unet(sample * 0.9, t))
        return self.scheduler.step(sum(outputs) / len(outputs), t, sample, return_dict=False)[0]


@pytest.mark.parametrize("first", [False, True], ids=["second", "first"])
@pytest.mark.parametrize("window", [range(3), range(3, 6), range(2, 5)], ids=str)
def test_a_branch_that_comes_and_goes_is_never_made_up(window: range, first: bool) -> None:
    """Where it comes or goes, the step is computed, whatever the plan."""
    pipe = Truncated(Network())
    pipe.window, pipe.first = window, first
    plain = pipe()
    calls = len(pipe.unet.given)
    assert calls == STEPS + len(window)
    with ad.accelerate(pipe, tolerance=0):
        assert torch.equal(pipe(), plain)
    pipe.unet.given.clear()
    with ad.accelerate(pipe, Repeated()) as accelerated:
        skipped = pipe()
    (mask, _) = accelerated.report.mask
    turns = [i for i in (window.start, window.stop) if i < STEPS]
    assert mask == [MASK[i] or i in turns for i in range(STEPS)]
    assert len(pipe.unet.given) == sum(mask) + sum(mask[i] for i in window)
    assert relative_difference(skipped, plain) < 1


@pytest.mark.parametrize("ratio", [0.4, 0.7])
def test_guidance_that_is_truncated_by_the_pipeline(ratio: float) -> None:
    tiny = ALL_PIPELINES["Lumina2Pipeline"]
    pipe, inputs = tiny.make(), tiny.inputs(1) | {"cfg_trunc_ratio": ratio}
    calls = count_calls(pipe.transformer)
    plain = run(pipe, inputs)
    assert STEPS < len(calls) < 2 * STEPS
    with ad.accelerate(pipe, tolerance=0):
        assert torch.equal(run(pipe, inputs), plain)
    calls.clear()
    with ad.accelerate(pipe, Repeated()):
        assert relative_difference(run(pipe, inputs), plain) < 1
    assert len(calls) < 2 * STEPS - 2


# Stopping, and noise ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sd15", "flux"])
@pytest.mark.parametrize("last", [0, 2, 3])
def test_a_callback_may_stop_the_run(name: str, last: int, tiny: Tiny) -> None:
    """`pipe._interrupt`: the steps that were made are as they are without acceleration."""
    pipe, inputs = tiny(name), TINY_PIPELINES[name].inputs(1)

    def stop(pipe: Any, step: int, __: Any, given: dict[str, Any]) -> dict[str, Any]:
        pipe._interrupt = step == last
        return given

    plain = run(pipe, inputs, callback_on_step_end=stop)
    whole = run(pipe, inputs)
    assert not torch.equal(plain, whole)
    with ad.accelerate(pipe, tolerance=0) as accelerated:
        assert torch.equal(run(pipe, inputs, callback_on_step_end=stop), plain)
        assert accelerated.report.steps == last + 1
    with ad.accelerate(pipe, Repeated()) as accelerated:
        run(pipe, inputs, callback_on_step_end=stop)
        assert accelerated.report.mask == [MASK[: last + 1]]
        run(pipe, inputs)
        assert accelerated.report.mask == [MASK]
    assert torch.equal(run(pipe, inputs), whole)


GENERATORS: dict[str, Callable[[], Any]] = {
    "of each sample": lambda: [torch.Generator().manual_seed(b) for b in range(2)],
    "one": lambda: torch.Generator().manual_seed(3),
    "torch's own": lambda: None,
}


@pytest.mark.parametrize("given", GENERATORS.values(), ids=GENERATORS)
@pytest.mark.parametrize("scheduler", ["euler_ancestral", "sde_dpmsolver++", "ddpm"])
def test_noise_comes_from_the_generators_in_the_order_of_a_plain_run(
    scheduler: str, given: Callable[[], Any], tiny: Tiny
) -> None:
    """Whatever is skipped, all generators are left where the plain run leaves them."""
    pipe = tiny("sd15")
    pipe.scheduler = SCHEDULERS[scheduler]()
    results, states = [], []
    for policy in (None, ad.ErrorControlled(0), Repeated()):
        torch.manual_seed(0)
        generator = given()
        if policy is not None:
            ad.enable(pipe, policy)
        results.append(generate(pipe, 2, STEPS, generator=generator))
        used = generator if isinstance(generator, list) else [generator]
        states.append([(g or torch.default_generator).get_state().tolist() for g in used])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert states[0] == states[1] == states[2]


def test_ddim_with_noise(tiny: Tiny) -> None:
    """`eta` makes a scheduler stochastic that is none otherwise."""
    pipe = tiny("sd15")
    inputs = inputs_for(pipe, 2)
    plain = run(pipe, inputs, eta=1.0)
    with ad.accelerate(pipe, tolerance=0):
        assert torch.equal(run(pipe, inputs, eta=1.0), plain)
    with ad.accelerate(pipe, FixedSchedule(MASK)):
        assert 0 < relative_difference(run(pipe, inputs, eta=1.0), plain) < 1
