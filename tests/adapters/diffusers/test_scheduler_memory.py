"""Whatever a scheduler remembers, and wherever its noise comes from, its steps can be taken again.

Or it is noted that they can't, and no step is.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from own_pipeline import STEPS, Network, OwnPipeline, Plans
from torch import Tensor

import adaptive_diffusion as ad

PLAN = (True, True, False, False)
_GLOBAL: list[Tensor] = []
_GENERATOR = torch.Generator()


class Remembering(DDIMScheduler):
    """Mixes every output with the last one; where that is kept, a subclass says."""

    def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        super().set_timesteps(*args, **kwargs)
        self.begin()

    def step(self, model_output: Any, timestep: Any, sample: Any, **options: Any) -> Any:  # type: ignore[override]
        last = self.last()
        mixed = model_output if last is None else 1.5 * model_output - 0.5 * last
        self.keep(model_output)
        return super().step(mixed, timestep, sample, **options)

    def begin(self) -> None:
        raise NotImplementedError

    def last(self) -> Tensor | None:
        raise NotImplementedError

    def keep(self, output: Tensor) -> None:
        raise NotImplementedError


class InAttribute(Remembering):
    def begin(self) -> None:
        self.memory: Any = None

    def last(self) -> Tensor | None:
        return self.memory

    def keep(self, output: Tensor) -> None:
        self.memory = output


class InDeque(InAttribute):
    def begin(self) -> None:
        self.memory = deque(maxlen=2)

    def last(self) -> Tensor | None:
        return self.memory[-1] if self.memory else None

    def keep(self, output: Tensor) -> None:
        self.memory.append(output)


class InDict(InAttribute):
    def begin(self) -> None:
        self.memory = {"past": {}}

    def last(self) -> Tensor | None:
        return self.memory["past"].get("last")

    def keep(self, output: Tensor) -> None:
        self.memory["past"]["last"] = output


class InObject(InAttribute):
    def begin(self) -> None:
        self.memory = SimpleNamespace(inner=SimpleNamespace(last=None))

    def last(self) -> Tensor | None:
        return self.memory.inner.last

    def keep(self, output: Tensor) -> None:
        self.memory.inner.last = output


class InThread(InObject):
    def begin(self) -> None:
        self.memory = SimpleNamespace(inner=threading.local())
        self.memory.inner.last = None


class InPlace(InAttribute):
    """One tensor for the whole loop, written over at every step."""

    def begin(self) -> None:
        self.memory = torch.zeros(1, 4, 8, 8)
        self.steps = 0

    def last(self) -> Tensor | None:
        return self.memory.clone() if self.steps else None

    def keep(self, output: Tensor) -> None:
        self.steps += 1
        self.memory.copy_(output)


class InGlobal(Remembering):
    def begin(self) -> None:
        _GLOBAL.clear()

    def last(self) -> Tensor | None:
        return _GLOBAL[-1] if _GLOBAL else None

    def keep(self, output: Tensor) -> None:
        _GLOBAL.append(output)


MEMORIES = (InDeque, InDict, InObject, InThread, InPlace, InGlobal)


def result(pipe: OwnPipeline) -> tuple[Tensor, ad.Report]:
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    with ad.accelerate(pipe, Plans(PLAN)) as run:
        return pipe(), run.report


@pytest.mark.parametrize("kind", MEMORIES)
def test_a_memory_of_any_kind_is_brought_back(kind: type[Remembering]) -> None:
    """The run is bit for bit the one of a scheduler that remembers in an attribute."""
    expected, _ = result(OwnPipeline(scheduler=InAttribute(clip_sample=False)))
    found, report = result(OwnPipeline(scheduler=kind(clip_sample=False)))
    assert torch.equal(found, expected)
    assert report.notes == []


def test_so_is_what_a_replaced_step_has_closed_over() -> None:
    expected, _ = result(OwnPipeline(scheduler=InAttribute(clip_sample=False)))
    scheduler = DDIMScheduler(clip_sample=False)
    past: list[Tensor] = []
    usual = scheduler.step

    def step(model_output: Tensor, timestep: Any, sample: Tensor, **options: Any) -> Any:
        mixed = 1.5 * model_output - 0.5 * past[-1] if past else model_output
        past.append(model_output)
        return usual(mixed, timestep, sample, **options)

    scheduler.step = step  # type: ignore[method-assign, assignment]
    found, report = result(OwnPipeline(scheduler=scheduler))
    assert torch.equal(found, expected)
    assert report.notes == []
    assert scheduler.step is step


class Hidden(Remembering):
    """Remembers where nobody can look: in a count of the calls that is never put back."""

    calls = iter(range(10**9))

    def step(self, model_output: Any, timestep: Any, sample: Any, **options: Any) -> Any:  # type: ignore[override]
        drift = 1 + 1e-3 * (next(Hidden.calls) % 7)
        return DDIMScheduler.step(self, drift * model_output, timestep, sample, **options)

    def begin(self) -> None:
        pass


def test_steps_that_do_not_repeat_are_not_taken_again() -> None:
    _, report = result(OwnPipeline(scheduler=Hidden(clip_sample=False)))
    assert not all(report.mask[0])
    assert "skipped steps keep their forecasts" in str(report)


class Noisy(DDIMScheduler):
    """Adds noise from a source of its own."""

    draw: Callable[[Any, Tensor], Tensor]

    def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        super().set_timesteps(*args, **kwargs)
        self.own = torch.Generator().manual_seed(3)
        self.rng = np.random.default_rng(3)
        self.old = np.random.RandomState(3)
        self.python = random.Random(3)
        _GENERATOR.manual_seed(3)

    def step(self, model_output: Any, timestep: Any, sample: Any, **options: Any) -> Any:  # type: ignore[override]
        moved = super().step(model_output, timestep, sample, return_dict=False)[0]
        return (moved + 0.1 * self.draw(moved),)


def _from_numpy(values: Any) -> Tensor:
    return torch.as_tensor(np.asarray(values), dtype=torch.float32)


def _global_numpy(scheduler: Any, like: Tensor) -> Tensor:
    return _from_numpy(np.random.standard_normal(like.shape))


SOURCES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "its generator": lambda s, like: torch.randn(like.shape, generator=s.own),
    "a generator of NumPy's": lambda s, like: _from_numpy(s.rng.standard_normal(like.shape)),
    "an old one of NumPy's": lambda s, like: _from_numpy(s.old.standard_normal(like.shape)),
    "one of Python's": lambda s, like: like * 0 + s.python.gauss(0, 1),
    "torch's own": lambda s, like: torch.randn_like(like),
    "NumPy's own": _global_numpy,
    "Python's own": lambda s, like: like * 0 + random.gauss(0, 1),
    "a global one": lambda s, like: torch.randn(like.shape, generator=_GENERATOR),
}


@pytest.mark.parametrize("draw", SOURCES.values(), ids=SOURCES)
def test_noise_from_any_source_is_drawn_as_in_a_plain_run(
    draw: Callable[[Any, Tensor], Tensor],
) -> None:
    """Replays get their steps' own noise, and leave the source where it would be."""

    class Own(Noisy):
        pass

    Own.draw = draw  # type: ignore[method-assign, assignment]
    pipe = OwnPipeline(Network(), Own(clip_sample=False))
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    plain = pipe()
    after = torch.rand(1), np.random.rand(), random.random()
    skipped, report = result(pipe)
    assert (torch.rand(1), np.random.rand(), random.random()) == after
    assert not all(report.mask[0])
    assert (skipped - plain).norm() < 0.3 * plain.norm()


# Schedulers of one's own --------------------------------------------------------------------------


class Proxy:
    """Everything is the inner scheduler's."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class PassingOn(Proxy):
    """Its methods are its own, and pass everything on."""

    def step(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner.step(*args, **kwargs)

    def set_timesteps(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner.set_timesteps(*args, **kwargs)


class Bare:
    """No configuration, timesteps in a list, and a step that returns what it is told to."""

    order, init_noise_sigma = 1, 1.0

    def __init__(self, form: Callable[[Tensor], Any] = lambda sample: (sample,)) -> None:
        self.alphas = DDIMScheduler().alphas_cumprod
        self.form = form

    def set_timesteps(self, steps: int, device: Any = None) -> None:
        self.timesteps = [(steps - 1 - i) * (1000 // steps) + 1 for i in range(steps)]

    def step(self, model_output: Tensor, timestep: int, sample: Tensor) -> Any:
        a = self.alphas[timestep]
        b = self.alphas[max(timestep - self.timesteps[0] + self.timesteps[1], 0)]
        clean = (sample - (1 - a) ** 0.5 * model_output) / a**0.5
        return self.form(b**0.5 * clean + (1 - b) ** 0.5 * model_output)


SCHEDULERS = {
    "proxy": lambda: Proxy(DDIMScheduler(clip_sample=False)),
    "proxy of a proxy": lambda: Proxy(Proxy(DDIMScheduler(clip_sample=False))),
    "passing on": lambda: PassingOn(DDIMScheduler(clip_sample=False)),
    "bare": Bare,
}


@pytest.mark.parametrize("make", SCHEDULERS.values(), ids=SCHEDULERS)
def test_schedulers_of_ones_own_are_served(make: Callable[[], Any]) -> None:
    pipe = OwnPipeline(scheduler=make())
    plain = pipe()
    with ad.accelerate(pipe, tolerance=0):
        assert torch.equal(pipe(), plain)
    skipped, report = result(pipe)
    assert report.mask == [[PLAN[step % 4] for step in range(STEPS)]]
    assert not torch.equal(skipped, plain)
    assert torch.equal(pipe(), plain)


@pytest.mark.parametrize("batch", [(0,), (0, 1)], ids=str)
def test_a_step_may_return_a_tensor(batch: tuple[int, ...]) -> None:
    results = []
    for form in (lambda sample: (sample,), lambda sample: sample):

        class Unpacking(OwnPipeline):
            pass

        pipe = Unpacking(scheduler=Bare(form))
        step = pipe.scheduler.step
        if form(0) == 0:  # the pipeline takes the tensor as it is
            pipe.scheduler = Bare(lambda sample: sample)
            pipe.__class__ = _TakesTensors
        with ad.accelerate(pipe, Plans(PLAN)):
            results.append(pipe(batch))
        assert step is not None
    assert torch.equal(*results)


class _TakesTensors(OwnPipeline):
    @torch.no_grad()
    def __call__(self, seeds: tuple[int, ...] = (0,), **_: Any) -> Tensor:  # type: ignore[override]
        from own_pipeline import noise

        self.scheduler.set_timesteps(STEPS)
        sample = torch.cat([noise(seed) for seed in seeds])
        for t in self.scheduler.timesteps:
            sample = self.scheduler.step(self.unet(sample, t), t, sample)
        return sample


def test_a_scheduler_whose_loop_can_not_be_followed_is_refused() -> None:
    class Foreign:
        def step(self, prediction: Tensor, x: Tensor) -> Tensor:
            return x

    with pytest.raises(ad.UnsupportedPipelineError, match="no scheduler whose step takes"):
        ad.enable(OwnPipeline(scheduler=Foreign()))
