"""Pipelines made at random, whose truth is known: small, quick, and odd in ways that have names."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from random_pipelines.containers import pack, unpack
from random_pipelines.denoiser import (
    CHANNELS,
    POOL,
    WIDTH,
    Decoder,
    Denoiser,
    Engine,
    as_here,
    ask,
    asker,
    coordinate_of,
    make_denoiser,
    predict,
)
from random_pipelines.log import Log, Step
from random_pipelines.recipe import Recipe
from random_pipelines.solvers import make_scheduler, stepped

__all__ = ["Outcome", "RandomPipeline", "StopError", "Told", "make", "run"]

_SIZE = 3
_FRAMES = 2
_VIDEOS = ("video", "frames stepped as rows")
_NEGATIVE, _POSITIVE, _PERTURBED = "negative", "positive", "perturbed"
_SHARES = {_NEGATIVE: -0.5, _POSITIVE: 1.0, _PERTURBED: 0.3}  # of a branch in the condition


class StopError(Exception):
    """Raised by a callback."""


@dataclass
class Outcome:
    """What a run has led to.

    Attributes:
        error: type and text of what was raised, if anything was.
        results: the finished samples, one tensor per stream.
        seen: what callbacks were given: previews and answers.
        states: of all generators, afterwards.
    """

    error: tuple[str, str] | None = None
    results: list[Tensor] = field(default_factory=list)
    seen: list[Tensor] = field(default_factory=list)
    states: list[Any] = field(default_factory=list)


class Told:
    """What a run with skips gives that is told which steps to skip, by whoever wrote the loop.

    A skipped sample's call is answered with what the same call has been answered with last, or
    along the line through its last two answers.

    Args:
        mask: samples × asking steps, True where the denoiser is called.
        lines: whether to draw lines.
    """

    def __init__(self, mask: list[list[bool]], lines: bool = False) -> None:
        self._mask = mask
        self._known = 2 if lines else 1
        self._past: dict[Any, list[tuple[float, Tensor]]] = {}

    def begin(self) -> None:
        """Another loop begins: nothing of the one before it is asked again."""
        self._past.clear()

    def answer(
        self, at: int, coordinate: float, call: int, question: Any, output: Tensor, whose: list[int]
    ) -> Tensor:
        """The output with earlier answers to the same question in the rows that skip.

        Args:
            at: which of the asking steps.
            coordinate: where it stands, for lines.
            call: which tensor of the step this is, of those that answer the same question.
            question: the branches, and each sample's version.
            output: the truth, `(rows, ...)`.
            whose: the sample of each row.
        """
        branches, versions = question
        rows = []
        for row, sample in enumerate(whose):
            past = self._past.setdefault((branches, versions[sample], call, row), [])
            if self._mask[sample][at]:
                past[:] = [*past, (coordinate, output[row].clone())][-self._known :]
            rows.append(_line(past, coordinate).to(output.dtype))
        return torch.stack(rows)


def _line(past: list[tuple[float, Tensor]], coordinate: float) -> Tensor:
    (latest_at, latest) = past[-1]
    (before_at, before) = past[0]
    if before_at == latest_at:
        return latest
    way = (coordinate - latest_at) / (latest_at - before_at)
    return latest + way * (latest - before)


class RandomPipeline:
    """A pipeline as a recipe says. Called with one seed per sample.

    Attributes:
        log: what has truly happened in the latest run.
        told: makes the skips by itself, if given: the reference.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.log = Log()
        self.unet = make_denoiser(recipe, self.log)
        self.decoder = Decoder()
        self.scheduler = make_scheduler(recipe, self.log)
        if recipe.streams == "two":
            self.second_scheduler = make_scheduler(recipe, self.log, stream=1)
        self.told: Told | None = None

    @property
    def components(self) -> dict[str, Any]:
        """As diffusers' pipelines have them."""
        model = "model" if self.recipe.title == "unet is the model" else "unet"
        parts = {model: self.unet, "decoder": self.decoder, "scheduler": self.scheduler}
        if self.recipe.streams == "two":
            parts["second_scheduler"] = self.second_scheduler
        return parts

    @property
    def denoiser(self) -> Any:
        """The innermost module."""
        inner = self.unet
        for name in ("module", "inner"):
            inner = getattr(inner, name, inner)
        return inner

    def reset(self) -> None:
        """Takes back what a run has changed of the denoiser."""
        if isinstance(self.denoiser, Denoiser):
            self.denoiser.reset()

    def after_enable(self) -> None:
        """What the recipe does once the pipeline has been enabled, or would have been."""
        if self.recipe.way == "engine later" and not isinstance(self.unet, Engine):
            self.unet = Engine(self.unet)
        if self.recipe.scheduler == "injected later":
            self.scheduler = make_scheduler(self.recipe, self.log)

    # The call ------------------------------------------------------------------------------------

    def __call__(self, seeds: Sequence[int], num_inference_steps: int | None = None) -> Any:
        return _last(self.stream(seeds, num_inference_steps))

    def stream(self, seeds: Sequence[int], num_inference_steps: int | None = None) -> Iterator[Any]:
        """Yields after every step, and the results at the end."""
        steps = num_inference_steps or int(self.recipe.steps)
        run = _Run(self, list(seeds))
        latents = run.noise(_SIZE)
        yield from run.loop(latents, steps)
        if self.recipe.loop == "two loops":
            latents = [
                noise + 0.2 * latent
                for noise, latent in zip(run.noise(_SIZE), latents, strict=True)
            ]
            yield from run.loop(latents, steps)
        if self.recipe.loop == "two sizes":
            latents = run.noise(_SIZE + 1)
            yield from run.loop(latents, steps)
        if self.recipe.loop == "calls itself" and not num_inference_steps:
            finer = self(seeds, steps // 2)
            latents = [latent + 0.1 * other for latent, other in zip(latents, finer, strict=True)]
        yield [latent.detach() for latent in latents]


class _Streaming(RandomPipeline):
    def __call__(self, seeds: Sequence[int], num_inference_steps: int | None = None) -> Any:
        yield from self.stream(seeds, num_inference_steps)


class _Run:
    """One call of a pipeline."""

    def __init__(self, pipe: RandomPipeline, seeds: list[int]) -> None:
        self.pipe = pipe
        self.recipe = pipe.recipe
        self.log = pipe.log
        self.seeds = seeds
        self.samples = len(seeds)
        self.dtype = self.recipe.latent_dtype
        self.denoise = asker(self.recipe, pipe.unet)
        self.generators = [torch.Generator().manual_seed(1000 + seed) for seed in seeds]
        self.log.generators += self.generators
        self.steps = int(self.recipe.steps)
        self.versions = [0] * self.samples
        self.strength = 1.0
        self.hint: Tensor | None = None
        self.condition = self._condition()
        self.kept: dict[Any, Any] = {}
        if self.recipe.change == "vanishes":
            self.hint = torch.full((1, WIDTH), 0.8, dtype=self.dtype)

    # What the loop works on ----------------------------------------------------------------------

    def noise(self, size: int) -> list[Tensor]:
        """The latents that every loop begins with, one tensor per stream."""
        frames = [_FRAMES] if self.recipe.layout in _VIDEOS else []
        streams = 2 if self.recipe.streams == "two" else 1
        latents = []
        for stream in range(streams):
            rows = [
                torch.randn(
                    CHANNELS,
                    *frames,
                    size,
                    size,
                    generator=torch.Generator().manual_seed(10 * seed + stream),
                )
                for seed in self.seeds
            ]
            if self.recipe.latents == "all alike":
                one = torch.randn(
                    CHANNELS, size, size, generator=torch.Generator().manual_seed(stream)
                )
                rows = [one[:, None].expand_as(row) if frames else one for row in rows]
            latents.append(torch.stack(rows).to(self.dtype))
        return latents

    def _condition(self) -> Tensor:
        if self.recipe.condition_rows == "per block":
            return torch.linspace(-0.6, 1.4, WIDTH, dtype=self.dtype)[None]
        rows = [
            torch.randn(WIDTH, generator=torch.Generator().manual_seed(77 + seed))
            for seed in self.seeds
        ]
        return torch.stack(rows).to(self.dtype)

    def loop(self, latents: list[Tensor], steps: int) -> Iterator[Any]:
        """One sampling loop; changes `latents`."""
        schedulers = self._schedulers()
        for scheduler in schedulers:
            scheduler.set_timesteps(steps)
        timesteps = list(schedulers[0].timesteps)
        start = float(getattr(schedulers[0], "init_noise_sigma", 1.0))
        latents[:] = [latent * start for latent in latents]
        if self.recipe.loop == "begins late":
            timesteps = timesteps[len(timesteps) // 4 :]
        if self.recipe.loop == "stops early":
            timesteps = timesteps[:-1]
        if self.recipe.loop == "jumps back":
            middle = len(timesteps) // 2
            timesteps = timesteps[:middle] + timesteps[middle - 2 :]
        if self.pipe.told is not None:
            self.pipe.told.begin()
        outputs: list[Tensor] = []
        for i, t in enumerate(timesteps):
            self.log.steps.append(Step(begins=i == 0))
            self._change(i)
            rests = self.recipe.loop == "skips by itself" and i > 2 and i % 3 == 2
            if not rests:
                inputs = [
                    scheduler.scale_model_input(latent, t)
                    if hasattr(scheduler, "scale_model_input")
                    else latent
                    for scheduler, latent in zip(schedulers, latents, strict=True)
                ]
                outputs = self._outputs(i, len(timesteps), t, inputs)
            if self.recipe.callback == "asks before the step":
                self._ask_own(latents[0] * 0.5, t)
            latents[:] = [
                self._step(scheduler, output.clone() if rests else output, t, latent)
                for scheduler, output, latent in zip(schedulers, outputs, latents, strict=True)
            ]
            self._call_back(i, t, latents)
            yield i

    def _schedulers(self) -> list[Any]:
        schedulers = [self.pipe.scheduler]
        if self.recipe.streams == "two":
            schedulers.append(self.pipe.second_scheduler)
        if self.recipe.scheduler == "copied in the call":
            return [copy.deepcopy(scheduler) for scheduler in schedulers]
        return schedulers

    def _step(self, scheduler: Any, output: Tensor, t: Any, latent: Tensor) -> Tensor:
        options: dict[str, Any] = {"return_dict": False}
        if self.recipe.noise in ("given generators",):
            options["generator"] = self.generators
        elif self.recipe.noise in ("given generator", "scripted") or (
            self.recipe.noise == "none" and self.recipe.has_noise
        ):
            options["generator"] = self.generators[0]
        if self.recipe.layout == "stepped one by one":
            pairs = zip(output.split(1), latent.split(1), strict=True)
            moved = [scheduler.step(part, t, row, return_dict=False)[0] for part, row in pairs]
            return torch.cat(moved)
        rows = self.recipe.layout == "frames stepped as rows"
        if rows:
            output, latent = _as_rows(output), _as_rows(latent)
        if self.recipe.scheduler == "step by names":
            options |= {"model_output": output, "sample": latent, "timestep": t}
            moved = stepped(self.recipe, scheduler.step(**options))
        else:
            moved = stepped(self.recipe, scheduler.step(output, t, latent, **options))
        return _as_videos(moved) if rows else moved

    # What the denoiser is asked ------------------------------------------------------------------

    def _outputs(self, i: int, steps: int, t: Any, inputs: list[Tensor]) -> list[Tensor]:
        """What the schedulers are given, one tensor per stream."""
        calls = self._calls(i, steps)
        if self.recipe.loop == "asks twice" and i % 4 == 1:
            calls = [*calls, *calls]  # a corrector
        found: dict[str, list[list[Tensor]]] = {}
        for branches in calls:
            for name, part in self._ask(branches, inputs, t).items():
                found.setdefault(name, []).append(part)
        means = {
            name: [torch.stack(parts).mean(0) for parts in zip(*answers, strict=True)]
            if len(answers) > 1
            else answers[0]
            for name, answers in found.items()
        }
        return self._guided(means, i, steps)

    def _calls(self, i: int, steps: int) -> list[tuple[str, ...]]:
        """The branches of every call of this step."""
        guidance = self.recipe.guidance
        both: list[tuple[str, ...]] = [(_NEGATIVE, _POSITIVE)]
        one: list[tuple[str, ...]] = [(_POSITIVE,)]
        third = steps // 3
        if guidance == "none":
            return one
        if guidance == "three blocks":
            return [(_NEGATIVE, _POSITIVE, _PERTURBED)]
        if guidance == "two calls":
            return [(_NEGATIVE,), (_POSITIVE,)]
        if guidance == "positive first":
            return [(_POSITIVE,), (_NEGATIVE,)]
        if guidance == "begins late":
            return both if i >= third else one
        if guidance == "ends early":
            return both if i < 2 * third else one
        if guidance == "has a gap":
            return one if third <= i < 2 * third else both
        if guidance == "negative has a gap":
            return one if third <= i < 2 * third else [(_NEGATIVE,), (_POSITIVE,)]
        return both

    def _guided(self, found: dict[str, list[Tensor]], i: int, steps: int) -> list[Tensor]:
        positive, negative = found[_POSITIVE], found.get(_NEGATIVE)
        if negative is None:
            return positive
        scale = 1 + 2 * i / steps if self.recipe.guidance == "by number" else 2.0
        guided = [n + scale * (p - n) for p, n in zip(positive, negative, strict=True)]
        perturbed = found.get(_PERTURBED)
        if perturbed is None:
            return guided
        return [g + 0.5 * (p - o) for g, p, o in zip(guided, positive, perturbed, strict=True)]

    def _ask(self, branches: tuple[str, ...], inputs: list[Tensor], t: Any) -> dict[str, Any]:
        """What every branch of one call is answered, one tensor per stream."""
        interleaved = self.recipe.guidance == "interleaved" and len(branches) > 1
        count = len(branches)
        x, *others = [_repeated(each, count, interleaved) for each in inputs]
        question = branches, tuple(self.versions)
        self.log.steps[-1].questions.append(question)
        self.log.steps[-1].blocks.append(count)
        rest = self._rest(x, t, count, interleaved)
        if others:
            rest["second"] = others[0]
        condition = self._given_condition(branches, interleaved)
        if self.recipe.grad == "guided by gradients":
            answers = self._with_gradients(x, t, condition, rest, len(inputs))
        elif self.recipe.layout == "asked one by one":
            answers = self._one_by_one(x, t, self.kept[branches], interleaved, rest)
        else:
            answers = self._answers(x, t, condition, rest, len(inputs))
        if self.recipe.writes == "pipeline into the output":
            for answer in answers:
                answer.mul_(0.97)
        if self.pipe.told is not None:
            answers = self._told(question, t, answers, interleaved)
        parts = [_split(answer, count, interleaved) for answer in answers]
        return {name: [part[b] for part in parts] for b, name in enumerate(branches)}

    def _answers(
        self, x: Tensor, t: Any, condition: Any, rest: dict[str, Any], count: int = 1
    ) -> list[Tensor]:
        size = x.shape[2:]
        if self.recipe.layout == "tokens":
            x = x.flatten(2).transpose(1, 2)
        if self.recipe.dtype == "mixed":
            x = x.bfloat16()
        answered = ask(self.denoise, self.recipe, x, self._time(t, len(x)), condition, **rest)
        answers = unpack(self.recipe.answer, answered, count)
        if self.recipe.layout == "tokens":
            answers = [answer.transpose(1, 2).unflatten(2, size) for answer in answers]
        return [answer.to(self.dtype) for answer in answers]

    def _one_by_one(
        self, x: Tensor, t: Any, condition: Tensor, interleaved: bool, rest: dict[str, Any]
    ) -> list[Tensor]:
        """A call for every sample, with its rows of all branches."""
        count = len(x) // self.samples
        result = torch.empty_like(x[:, :CHANNELS])
        for b in range(self.samples):
            rows = (
                slice(b * count, (b + 1) * count) if interleaved else slice(b, None, self.samples)
            )
            own = condition[rows] if len(condition) == len(x) else condition
            own_rest = {
                name: value[rows] if isinstance(value, Tensor) else value
                for name, value in rest.items()
            }
            given = pack(self.recipe.condition, [own])
            (result[rows],) = self._answers(x[rows], t, given, own_rest)
        return [result]

    def _with_gradients(
        self, x: Tensor, t: Any, condition: Any, rest: Any, count: int
    ) -> list[Tensor]:
        """The outputs, the first of them moved along the gradient of its own norm."""
        with torch.enable_grad():
            given = x.detach().requires_grad_()
            answered = ask(
                self.denoise, self.recipe, given, self._time(t, len(x)), condition, **rest
            )
            answers = unpack(self.recipe.answer, answered, count)
            (slope,) = torch.autograd.grad(answers[0].square().sum(), given)
        first, *others = (answer.detach() for answer in answers)
        return [first - 0.05 * slope, *others]

    def _told(
        self, question: Any, t: Any, answers: list[Tensor], interleaved: bool
    ) -> list[Tensor]:
        assert self.pipe.told is not None
        at = len(self.log.asking) - 1
        earlier = self.log.steps[-1].questions.count(question) - 1
        count = len(answers[0]) // self.samples
        whose = [
            row // count if interleaved else row % self.samples for row in range(len(answers[0]))
        ]
        coordinate = coordinate_of(float(t), self.recipe.solver == "flow")
        return [
            self.pipe.told.answer(at, coordinate, 2 * earlier + stream, question, answer, whose)
            for stream, answer in enumerate(answers)
        ]

    def _time(self, t: Any, rows: int) -> Any:
        if self.recipe.time == "number":
            return float(t)
        tensor = torch.as_tensor(t)
        return tensor.expand(rows) if self.recipe.time == "per row" else tensor

    def _given_condition(self, branches: tuple[str, ...], interleaved: bool) -> Any:
        if self.recipe.renewed != "kept" or branches not in self.kept:
            parts = [_SHARES[branch] * self.condition for branch in branches]
            if interleaved and self.recipe.condition_rows == "per sample":
                rows = torch.stack(parts, dim=1).flatten(0, 1)
            else:
                rows = torch.cat(parts)
            if self.recipe.renewed == "copied in place" and branches in self.kept:
                self.kept[branches].copy_(rows)
            else:
                self.kept[branches] = rows
        return pack(self.recipe.condition, [self.kept[branches]])

    def _rest(self, x: Tensor, t: Any, count: int, interleaved: bool) -> dict[str, Any]:
        rest: dict[str, Any] = {}
        if self.recipe.change == "scalar":
            rest["strength"] = self.strength
        if self.recipe.change in ("appears", "vanishes"):
            hint = self.hint
            rest["hint"] = None if hint is None else hint.expand(len(x), WIDTH)
        if self.recipe.companion == "level":
            rest["level"] = float(t) / 1000
        if self.recipe.companion == "step number":
            rest["number"] = len(self.log.steps)
        if self.recipe.companion == "new dict":
            rest["options"] = {"scale": 1.0, "gate": torch.ones(3)}
        if self.recipe.companion == "new object":
            rest["options"] = object()
        if self.recipe.companion == "residual":
            rest["residual"] = torch.tanh(x[:, :CHANNELS])
        return rest

    def _change(self, i: int) -> None:
        """In the middle of the first loop something about the condition changes."""
        change = self.recipe.change
        if change == "none" or len(self.log.steps) - 1 != self.steps // 2:
            return
        concerned = [change != "one sample" or seed % 2 == 1 for seed in self.seeds]
        if change in ("new tensor", "one sample"):
            factors = torch.where(torch.tensor(concerned), -1.0, 1.0)[: len(self.condition), None]
            self.condition = (factors * self.condition).to(self.dtype)
            self.kept.clear()
        elif change == "in place":
            for kept in [self.condition, *self.kept.values()]:
                kept.mul_(-1)
        elif change == "scalar":
            self.strength = -1.0
        elif change == "appears":
            self.hint = torch.full((1, WIDTH), 0.8, dtype=self.dtype)
        elif change == "vanishes":
            self.hint = None
        else:
            self.pipe.denoiser.change(change)
        self.versions = [v + c for v, c in zip(self.versions, concerned, strict=True)]

    # What callbacks do ---------------------------------------------------------------------------

    def _call_back(self, i: int, t: Any, latents: list[Tensor]) -> None:
        callback = self.recipe.callback
        if callback == "asks after the step":
            self._ask_own(latents[0] * 0.5, t)
        elif callback == "asks a copy":
            usual, self.denoise = self.denoise, copy.deepcopy(self.pipe.unet)
            self._ask_own(latents[0] * 0.5, t)
            self.denoise = usual
        elif callback == "asks for one sample":
            self._ask_own(latents[0][:1] * 0.5, t)
        elif callback == "asks at the sample":
            self._ask_own(latents[0], t)
        elif callback == "rewrites" or (callback == "rewrites once" and i == self.steps // 2):
            latents[:] = [latent * 0.98 + 0.01 for latent in latents]
        elif callback == "writes in place":
            for latent in latents:
                latent.mul_(0.98).add_(0.01)
        elif callback == "previews":
            preview = self.pipe.decoder(latents[0])
            if not torch.equal(preview, latents[0] / 2 + 0.5):
                self.log.faults.append(f"step {i}: the preview is not one of this step's latents")
            self.log.seen.append(preview.clone())
        elif callback == "raises" and i == self.steps // 2 + 1:
            raise StopError("the callback asked for it")

    def _ask_own(self, x: Tensor, t: Any) -> None:
        """A question beside the loop: how the sample would look under the positive condition."""
        condition = self.condition[: len(x)]
        rest: dict[str, Any] = {"second": x} if self.recipe.streams == "two" else {}
        self.log.own_question = True
        given = pack(self.recipe.condition, [condition])
        answer = self._answers(x, t, given, rest)[0].detach().clone()
        self.log.own_question = False
        self.log.seen.append(answer)
        if self.recipe.change == "none" and self.recipe.form != "patched" and x.ndim == 4:
            expected = predict(x, torch.as_tensor(t), condition, flow=self.recipe.solver == "flow")
            if not torch.allclose(answer.float(), expected.float(), atol=1e-2, rtol=1e-2):
                self.log.faults.append("a callback's question got another one's answer")


_TITLES = {
    "Message": "MessagePipeline",
    "MESSAGE": "MESSAGEPipeline",
    "CombinedRandom": "CombinedRandomPipeline",
}


def make(recipe: Recipe) -> RandomPipeline:
    """The pipeline of this recipe."""
    cls: Any = _Streaming if recipe.way == "generator function" else RandomPipeline
    if recipe.title in _TITLES:
        cls = type(_TITLES[recipe.title], (cls,), {})
    return cls(recipe)


def run(pipe: RandomPipeline, seeds: Sequence[int]) -> Outcome:
    """Runs the pipeline from the same random state every time."""
    recipe = pipe.recipe
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    pipe.log.clear()
    pipe.reset()
    outcome = Outcome()
    grad = recipe.grad in ("grad mode", "weights want gradients")
    with torch.set_grad_enabled(grad), torch.inference_mode(recipe.grad == "inference"):
        try:
            if recipe.way == "whole call in a thread":
                returned = POOL.submit(as_here(pipe), seeds).result()
            else:
                returned = pipe(seeds)
                if recipe.way == "generator function":
                    returned = _last(returned)
            outcome.results = [result.clone() for result in returned]
        except Exception as error:
            outcome.error = type(error).__name__, str(error)
    outcome.seen = list(pipe.log.seen)
    outcome.states = [
        torch.get_rng_state(),
        torch.from_numpy(np.random.get_state()[1].astype(np.int64)),  # type: ignore[index]
        torch.tensor(random.getstate()[1]),
        *(generator.get_state() for generator in pipe.log.generators),
    ]
    return outcome


def _last(values: Iterator[Any]) -> Any:
    for value in values:  # noqa: B007
        pass
    return value


def _repeated(tensor: Tensor, count: int, interleaved: bool) -> Tensor:
    if count == 1:
        return tensor
    return tensor.repeat_interleave(count, 0) if interleaved else torch.cat([tensor] * count)


def _split(tensor: Tensor, count: int, interleaved: bool) -> list[Tensor]:
    if interleaved:
        return [tensor[b::count] for b in range(count)]
    return list(tensor.chunk(count))


def _as_rows(videos: Tensor) -> Tensor:
    return videos.movedim(2, 1).flatten(0, 1)


def _as_videos(rows: Tensor) -> Tensor:
    return rows.unflatten(0, (-1, _FRAMES)).movedim(1, 2)
