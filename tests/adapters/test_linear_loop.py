"""Skipping in samplers that are not taken apart, beside replaying them by hand."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samplers import SAMPLERS, Mixture, Sampler, consistency, euler, k_diffusion, sigmas, start
from torch import Tensor
from toy_statistics import statistics_on

from adaptive_diffusion import (
    AdaptiveDenoiser,
    ErrorControlled,
    FixedSchedule,
    NoiseSchedule,
    Planned,
    Policy,
    PolicyError,
    StepsError,
    ThirdOrder,
    Trace,
    run_loop,
)
from adaptive_diffusion.adapters.linear_loop import LinearLoop
from adaptive_diffusion.numerics.assumed import assumed_statistics
from adaptive_diffusion.numerics.call_schedule import call_schedule, exchange_of
from adaptive_diffusion.numerics.linear_response import LinearResponse
from adaptive_diffusion.numerics.planning import make_plan
from adaptive_diffusion.numerics.statistics import kernel_of
from adaptive_diffusion.trajectory.forecaster import Forecaster
from adaptive_diffusion.trajectory.probe import Probe, StandIn, probe
from adaptive_diffusion.trajectory.random_sources import RandomSources

LEVELS = sigmas(24)
NONE_HELD = LinearResponse(torch.zeros(25, 24, 1, dtype=torch.float64))

K_DIFFUSION = (
    "dpm_2",
    "dpm_2_ancestral",
    "dpm_fast",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "dpmpp_2s_ancestral",
    "dpmpp_3m_sde",
    "dpmpp_sde",
    "euler",
    "euler_ancestral",
    "heun",
    "lms",
)


def sampler_named(name: str) -> Sampler:
    """One of our own, or of k-diffusion's, its noise bound."""
    if name in SAMPLERS:
        return SAMPLERS[name]
    module = k_diffusion()
    function = getattr(module, f"sample_{name}")

    def sample(model: Any, x: Tensor, levels: Tensor) -> Tensor:
        torch.manual_seed(3)
        settings: dict[str, Any] = {"disable": True}
        if name.endswith("_sde"):
            settings["noise_sampler"] = module.BrownianTreeNoiseSampler(
                x, levels[-2], levels[0], seed=5
            )
        if "sigmas" in inspect.signature(function).parameters:
            return function(model, x, levels, **settings)
        if name == "dpm_fast":
            settings["n"] = len(levels) - 1
        return function(model, x, float(levels[-2]), float(levels[0]), **settings)

    return sample


def run(
    sampler: Sampler,
    policy: Policy | None = None,
    x: Tensor | None = None,
    denoiser: Any = None,
    levels: Tensor = LEVELS,
    **options: Any,
) -> tuple[Tensor, Any]:
    begin = start() if x is None else x
    settings: dict[str, Any] = {"levels": "sigma", "predicts": "sample", **options}
    return run_loop(
        lambda model: sampler(model, begin, levels),
        denoiser or Mixture(),
        policy=policy,
        **settings,
    )


def psnr(result: Tensor, expected: Tensor) -> float:
    return -10 * math.log10((result - expected).square().mean() / 4 + 1e-30)


def found_of(sampler: Sampler, levels: Tensor) -> Probe:
    def without_model(stand_in: StandIn) -> Tensor:
        return sampler(lambda x, t, **_: stand_in(x, t)[0], start(), levels)

    return probe(without_model, RandomSources())


class _ReachedError(Exception):
    pass


class ByReplay:
    """The same method without the matrix: whenever an output becomes better, all is run again."""

    def __init__(
        self, sampler: Sampler, policy: Policy, levels: Tensor, probed: Sampler | None = None
    ) -> None:
        self._run = lambda model: sampler(model, start(), levels)
        found = found_of(probed or sampler, levels)
        pairs = [(1.0, t) for t in found.times]
        kind, self._exchange = exchange_of(pairs, "sample")
        schedule = call_schedule(pairs, kind, found.response.held(self._exchange))
        self._policy = policy
        self._calls = found.response.calls
        self._times = found.times
        self._forecaster = Forecaster(policy, schedule, 1)
        if any(found.noise):
            self._forecaster.hear_of_noise(True)
        self._trace = Trace(schedule)
        self._values: list[Tensor] = []

    def _sample(self, call: int) -> Tensor:
        """The sample that enters a call if all outputs so far are what they are known to be."""
        reached: list[Tensor] = []

        def model(x: Tensor, *_: Any, **__: Any) -> Tensor:
            reached.append(x.clone())
            if len(reached) > call:
                raise _ReachedError
            a, b = self._exchange[len(reached) - 1]
            return (self._values[len(reached) - 1] - a * x) / b

        try:
            return self._run(model)
        except _ReachedError:
            return reached[-1]

    def result(self, denoiser: Any) -> tuple[Tensor, list[bool]]:
        pending: list[int] = []
        forecaster, trace = self._forecaster, self._trace
        latest = torch.empty(0)
        for call, time in enumerate(self._times):
            x = self._sample(call)
            computes = not trace.mask or self._policy.decide(trace)
            value, error = latest, math.nan
            if computes:
                a, b = self._exchange[call]
                value = a * x + b * denoiser(x, torch.tensor(time))
            forecast = forecaster.forecast(call, [computes], value, x)
            if computes:
                error = float(forecaster.relative_error(value, forecast))
                target = forecaster.value(call, value, x)
                for earlier in pending:
                    self._values[earlier] = forecaster.interpolate(
                        earlier, call, target, self._values[earlier], self._sample(earlier)
                    )
                moved = self._sample(call)
                latest = value
                if pending:
                    value = forecaster.follow(call, value, moved - x)
                forecaster.remember(call, [True], value, moved)
                pending = []
            else:
                value, pending = forecast, [*pending, call]
            self._values.append(value)
            trace.mask.append(computes)
            trace.errors.append(error)
            trace.changes.append(math.nan)
            trace.nodes = forecaster.nodes
        return self._sample(self._calls), trace.mask


@pytest.mark.parametrize("name", [*SAMPLERS, *K_DIFFUSION])
def test_it_is_what_replaying_gives(name: str) -> None:
    sampler, policy, levels = sampler_named(name), ErrorControlled(tolerance=0.1), LEVELS
    if "sde" in name:  # few steps, because trees of Brownian paths take long
        policy, levels = Mask((True, False)), sigmas(14)
    expected, mask = ByReplay(sampler, policy, levels).result(Mixture())
    result, report = run(sampler, policy, levels=levels)
    assert report.mask == [mask]
    assert not all(mask)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)


@dataclass(frozen=True)
class Mask(Policy):
    """A fixed mask that fits a loop of any length, and sees what error control sees."""

    pattern: tuple[bool, ...] = ()
    backfill: bool = True
    cautious = True
    observes = "errors"

    def decide(self, trace: Trace) -> bool:
        return trace.step < 2 or trace.is_last or self.pattern[trace.step % len(self.pattern)]


@given(
    st.sampled_from([*SAMPLERS]),
    st.lists(st.booleans(), min_size=1, max_size=9),
    st.integers(3, 16),
)
def test_it_is_what_replaying_gives_whatever_is_skipped(
    name: str, pattern: list[bool], steps: int
) -> None:
    policy, levels = Mask(tuple(pattern)), sigmas(steps)
    expected, mask = ByReplay(SAMPLERS[name], policy, levels).result(Mixture())
    result, report = run(SAMPLERS[name], policy, levels=levels)
    assert report.mask == [mask]
    torch.testing.assert_close(result, expected, rtol=2e-4, atol=2e-4)


def noisy_later(model: Any, x: Tensor, levels: Tensor) -> Tensor:
    """Euler's method, and its ancestral form in the second half."""
    half = len(levels) // 2
    return SAMPLERS["ancestral"](model, euler(model, x, levels[: half + 1]), levels[half:])


def test_what_was_measured_before_the_first_noise_says_nothing_of_what_follows() -> None:
    """A quarter of the loop is computed before the first skip, and again once there is noise."""
    levels = sigmas(40)
    _, report = run(noisy_later, ErrorControlled(tolerance=1e3), levels=levels)
    (mask,) = report.mask
    begins = found_of(noisy_later, levels).noise.index(True)
    assert begins == 21
    assert all(mask[:11])
    assert not any(mask[11 : begins - 5])
    assert all(mask[begins : begins + 10])
    assert not all(mask[begins + 10 :])


def test_a_plan_knows_all_calls_and_is_kept_where_the_noise_begins() -> None:
    plan = [True, *[False, False, True] * 13]
    _, report = run(noisy_later, FixedSchedule(plan), levels=sigmas(40))
    assert report.mask == [plan]


SHARE = torch.linspace(0, 1, 16)


def masked(sampler: Sampler) -> Sampler:
    """Something else is blended in before and after the model, in some elements more."""
    kept = start(sigma=1.0)

    def sample(model: Any, x: Tensor, levels: Tensor) -> Tensor:
        def blended(x: Tensor, sigma: Any, *_: Any, **__: Any) -> Tensor:
            sigma = torch.as_tensor(sigma).flatten()[0]
            inside = SHARE * x + (1 - SHARE) * (1 + sigma) * kept
            return SHARE * model(inside, sigma) + (1 - SHARE) * kept

        return sampler(blended, x, levels)

    return sample


@pytest.mark.parametrize("name", ["euler", "adams", "corrected_adams", "heun", "dpmpp_2m"])
def test_masks_are_what_replaying_gives(name: str) -> None:
    sampler, policy, denoiser = sampler_named(name), ErrorControlled(0.05), Mixture()
    expected, mask = ByReplay(masked(sampler), policy, LEVELS, sampler).result(Mixture())
    found = found_of(sampler, LEVELS)
    loop = LinearLoop(found, policy, [(1.0, t) for t in found.times], "sample")

    def model(x: Tensor, sigma: Any) -> Tensor:
        (corrected,) = loop.enter([x], [SHARE])
        outputs = [[denoiser(corrected, sigma)]] if loop.plan[0] else None
        return loop.answer(outputs)[0][0]

    (result,) = loop.leave([masked(sampler)(model, start(), LEVELS)])
    assert loop.mask == [mask]
    assert not all(mask)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [*SAMPLERS, *K_DIFFUSION])
def test_tolerance_zero_is_the_plain_run_to_the_bit(name: str) -> None:
    sampler, denoiser = sampler_named(name), Mixture()
    expected = sampler(Mixture(), start(), LEVELS)
    result, report = run(sampler, ErrorControlled(tolerance=0), denoiser=denoiser)
    assert torch.equal(result, expected)
    assert denoiser.calls == report.steps == report.nfe[0]
    assert not report.notes


@pytest.mark.parametrize("name", [*SAMPLERS, *K_DIFFUSION])
def test_skipping_every_second_call_is_close(name: str) -> None:
    sampler = sampler_named(name)
    expected = sampler(Mixture(), start(), LEVELS)
    result, report = run(sampler, Mask((True, False)))
    assert report.nfe_reduction > 1.7
    assert psnr(result, expected) > 25


def test_backfill_is_closer() -> None:
    gains = []
    for sampler in (euler, SAMPLERS["heun"], SAMPLERS["adams"], SAMPLERS["corrected_adams"]):
        expected = sampler(Mixture(), start(), LEVELS)
        without, _ = run(sampler, Mask((True, False, False), backfill=False))
        result, _ = run(sampler, Mask((True, False, False)))
        gains.append(psnr(result, expected) - psnr(without, expected))
    assert min(gains) > 0
    assert sorted(gains)[1] > 2


def test_it_is_what_a_loop_of_ones_own_gives() -> None:
    """Where the step is known, `AdaptiveDenoiser` takes it again: here nothing is known of it."""
    times = LEVELS[:-1].tolist()
    schedule = NoiseSchedule.from_levels([1.0] * 25, LEVELS.tolist(), "epsilon")
    model = Mixture()

    def noise(x: Tensor, t: Any) -> Tensor:
        return (x - model(x, t)) / float(t)

    def step(output: Tensor, t: float, x: Tensor) -> Tensor:
        following = LEVELS[times.index(t) + 1]
        return x + output * (following - t)

    denoise = AdaptiveDenoiser(noise, FixedSchedule([i % 3 == 0 or i < 3 for i in range(24)]), step)
    denoise.start(times, schedule)
    x = start()
    for t in times:
        x = denoise.step(denoise(x, t), t, x)
    result, _ = run(euler, FixedSchedule([i % 3 == 0 or i < 3 for i in range(24)]))
    torch.testing.assert_close(result, x, rtol=1e-4, atol=1e-4)


def refused(name: str) -> Sampler:
    return sampler_named("dpm_adaptive") if name == "dpm_adaptive" else consistency


@pytest.mark.parametrize(
    ("name", "why"),
    [("dpm_adaptive", "chooses its own steps"), ("consistency", "begins from new noise")],
)
def test_what_can_not_be_skipped_runs_in_full_and_says_why(name: str, why: str) -> None:
    expected, denoiser = refused(name)(Mixture(), start(), LEVELS), Mixture()
    result, report = run(refused(name), denoiser=denoiser)
    assert torch.equal(result, expected)
    assert denoiser.calls == report.nfe[0] == report.steps
    assert why in str(report)


def test_a_loop_that_does_otherwise_than_when_probed_runs_in_full() -> None:
    """The sixth run is the one that counts, after one call and four without the denoiser."""
    runs: list[int] = []

    def sampler(model: Any, x: Tensor, levels: Tensor) -> Tensor:
        runs.append(1)
        return euler(model, x, levels * (0.9 if len(runs) == 6 else 1.0))

    result, report = run(sampler)
    assert "other times" in str(report)
    assert torch.equal(result, euler(Mixture(), start(), LEVELS))


def test_too_few_calls_say_so() -> None:
    _, report = run(euler, levels=sigmas(4))
    assert report.nfe_reduction == 1
    assert "4" in report.notes[0]


def test_the_report_has_what_the_policy_remarks() -> None:
    _, report = run(euler, ErrorControlled(tolerance=1e-9))
    assert any("none of 24 steps skipped" in note for note in report.notes)
    _, report = run(euler)
    assert not report.notes


def test_rows_with_plans_of_their_own() -> None:
    """Row by row the same as alone, and only those are computed that need it."""
    x, denoiser = start(4) * torch.tensor([1.0, 0.9, 0.5, 0.1])[:, None], Mixture()
    result, report = run(euler, x=x, denoiser=denoiser, per_sample=True)
    assert sum(denoiser.rows) == sum(report.nfe)
    assert len(set(map(tuple, report.mask))) > 1
    for row in range(4):
        alone, single = run(euler, x=x[row : row + 1])
        assert single.mask[0] == report.mask[row]
        torch.testing.assert_close(result[row : row + 1], alone, rtol=1e-4, atol=1e-4)


def test_conditioning_with_rows_may_be_in_containers() -> None:
    """Beside the same, passed as a tensor."""
    x, scales = start(4), torch.tensor([1.0, 0.9, 0.5, 0.1])[:, None]
    model = Mixture()

    def denoiser(x: Tensor, t: Tensor, scale: Any) -> Tensor:
        scale = scale["of each"][0] if isinstance(scale, dict) else scale
        return scale * model(x / scale, t)

    def sampled(scale: Any) -> tuple[Tensor, Any]:
        def sampler(model: Any, x: Tensor, levels: Tensor) -> Tensor:
            return euler(lambda x, t: model(x, t, scale=scale), x, levels)

        return run(sampler, x=x, denoiser=denoiser, per_sample=True)

    result, report = sampled({"of each": [scales]})
    expected, plain = sampled(scales)
    assert report.mask == plain.mask
    assert len(set(map(tuple, report.mask))) > 1
    assert torch.equal(result, expected)


@pytest.mark.parametrize(
    "policy", [ThirdOrder(threshold=0.2), FixedSchedule([i % 2 == 0 for i in range(24)])]
)
def test_other_policies(policy: Policy) -> None:
    result, report = run(euler, policy)
    assert report.nfe_reduction > 1
    assert psnr(result, euler(Mixture(), start(), LEVELS)) > 20


@dataclass
class Posterior:
    mean: Tensor
    variance: float = 1.0


@pytest.mark.parametrize("time", [float, lambda t: t, lambda t: t[None], lambda t: t.expand(4)])
def test_outputs_and_times_of_every_form(time: Callable[[Tensor], Any]) -> None:
    model = Mixture()
    seen: list[Any] = []

    def denoiser(x: Tensor, t: Any) -> Posterior:
        seen.append(t)
        return Posterior(model(x, t))

    def sampler(posterior: Any, x: Tensor, levels: Tensor) -> Tensor:
        return euler(lambda x, t: posterior(x, time(t[0])).mean, x, levels)

    result, report = run(sampler, denoiser=denoiser)
    torch.testing.assert_close(result, run(euler)[0])
    assert report.nfe_reduction > 1
    assert all(type(t) is type(seen[0]) for t in seen)


def test_the_model_has_the_denoisers_attributes_and_its_output_may_be_written_into() -> None:
    denoiser = Mixture()
    denoiser.schedule = "mine"  # type: ignore[attr-defined]

    def sampler(model: Any, x: Tensor, levels: Tensor) -> Tensor:
        assert model.schedule == "mine"
        return euler(lambda x, t: model(x, t).mul_(1.0), x, levels)

    assert torch.equal(run(sampler, denoiser=denoiser)[0], run(euler)[0])


def test_flow_matching_and_noise_predictions() -> None:
    """The same paths in other coordinates: close to their own full runs."""
    times = torch.linspace(0.98, 0, 25)
    model = Mixture()

    def velocity(x: Tensor, t: Any) -> Tensor:
        clean = model(x / (1 - t), t / (1 - t))
        return (x - clean) / t

    def flow(model: Any, x: Tensor, levels: Tensor) -> Tensor:
        for t, following in itertools.pairwise(times):
            x = x + (following - t) * model(x, t)
        return x

    x = start(sigma=1.0)
    expected = flow(velocity, x, times)
    by_velocity, report = run_loop(
        lambda model: flow(model, x, times), velocity, levels="flow", predicts="flow_prediction"
    )
    by_clean, other = run_loop(
        lambda model: flow(lambda x, t: (x - model(x, t)) / t, x, times),
        lambda x, t: x - t * velocity(x, t),
        levels="flow",
        predicts="sample",
    )
    assert report.mask == other.mask
    assert report.nfe_reduction > 1.5
    assert psnr(by_velocity, expected) > 35
    torch.testing.assert_close(by_clean, by_velocity, rtol=1e-4, atol=1e-4)


def test_a_denoiser_that_fails_leaves_its_error() -> None:
    def fails(x: Tensor, t: Any) -> Tensor:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        run(euler, denoiser=fails)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(PolicyError, match="policy"):
        run(euler, policy="fast")  # type: ignore[arg-type]
    with pytest.raises(StepsError, match="24"):
        run(euler, policy=FixedSchedule([True] * 3))
    for bad in ({"predicts": "noise"}, {"levels": "vp"}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            run_loop(
                lambda model: start(), Mixture(), **{"levels": "sigma", "predicts": "sample", **bad}
            )


def test_outputs_of_another_form_run_in_full() -> None:
    model = Mixture()

    def sampler(denoiser: Any, x: Tensor, levels: Tensor) -> Tensor:
        return euler(lambda x, t: denoiser(x, t)[0], x, levels)

    result, report = run(sampler, denoiser=lambda x, t: [model(x, t)])
    assert "returns a list" in str(report)
    assert torch.equal(result, euler(Mixture(), start(), LEVELS))


@pytest.mark.parametrize("name", ["euler", "adams"])
def test_a_measured_plan_makes_its_calls_and_is_closer(name: str) -> None:
    """What was measured in one full run of Euler's method serves another sampler, too."""
    seen: list[Tensor] = []
    model = Mixture()

    def watched(x: Tensor, sigma: Tensor) -> Tensor:
        output = model(x, sigma)
        seen.append((x - output) / sigma[:, None])
        return output

    euler(watched, start(), LEVELS)
    pairs = [(1.0, float(sigma)) for sigma in LEVELS[:-1]]
    schedule = call_schedule(pairs, "epsilon", NONE_HELD)
    statistics = assumed_statistics(schedule, ((0.0, 1.0),) * 24, kernel_of(seen))
    expected = SAMPLERS[name](Mixture(), start(), LEVELS)
    close = []
    for policy in (Planned(9), Planned(9, ((statistics,),))):
        result, report = run(SAMPLERS[name], policy)
        assert report.nfe == [9]
        close.append(psnr(result, expected))
    assert close[1] > close[0] + 3


def test_it_does_not_matter_in_which_scale_samples_were_measured() -> None:
    """Scaled to one variance, as in DDIM, or growing with their noise, as in Euler's method."""
    pairs = [(1.0, float(sigma)) for sigma in LEVELS[:-1]]
    schedule = call_schedule(pairs, "epsilon", NONE_HELD)
    scales = [math.hypot(1.0, float(sigma)) for sigma in LEVELS]
    scaled = replace(statistics_on(schedule), scales=(1.0,) * 24)
    unscaled = replace(
        scaled,
        moves=tuple(move * each for move, each in zip(scaled.moves, scales, strict=False)),
        responses=tuple(
            answer / each for answer, each in zip(scaled.responses, scales, strict=False)
        ),
        deviations=tuple(
            answer / each for answer, each in zip(scaled.deviations, scales, strict=False)
        ),
        scales=schedule.scales,
    )
    plan = make_plan([scaled], 10)
    results = [run(euler, Planned(10, ((each,),), (plan,)))[0] for each in (scaled, unscaled)]
    torch.testing.assert_close(*results)
