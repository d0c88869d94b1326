"""Skipping denoiser calls in a sampler that belongs to others.

The sampler is any function that calls a model. It is not taken apart, and nothing of it is known
but what a probe finds out: so its file, its state and its noise stay what they are.

```python
fast, report = run_loop(lambda model: sample_dpmpp_2m(model, x, sigmas), model, levels="sigma")
```
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from adaptive_diffusion.adapters.containers import rows_taken
from adaptive_diffusion.errors import NotLinearError, PolicyError
from adaptive_diffusion.numerics.call_schedule import amplification, call_schedule, exchange_of
from adaptive_diffusion.numerics.noise_schedule import PREDICTIONS
from adaptive_diffusion.policies import ErrorControlled, Policy
from adaptive_diffusion.trajectory import Report
from adaptive_diffusion.trajectory.linear_stream import LinearStream
from adaptive_diffusion.trajectory.probe import Probe, StandIn, number, probe
from adaptive_diffusion.trajectory.random_sources import RandomSources
from adaptive_diffusion.trajectory.trajectory import Trajectory

_FIELDS = ("mean", "sample")
_UNSTABLE = 20.0  # twice what any solver of second order was found to have

__all__ = ["LEVELS", "Levels", "LinearLoop", "run_loop"]

Levels = str | Callable[[float], tuple[float, float]]

LEVELS: dict[str, Callable[[float], tuple[float, float]]] = {
    "sigma": lambda sigma: (1.0, sigma),
    "flow": lambda sigma: (1.0 - sigma, sigma),
}
"""What the time of a call says of signal and noise, `(alpha, sigma)`, by name."""


class LinearLoop:
    """One run of a sampler that was probed.

    For every call of the sampler: `enter`, then `answer`; `leave` at the end.

    Args:
        found: what the probe found.
        policy: when to compute.
        levels: `(alpha, sigma)` of every call.
        predicts: what the model's outputs are, a key of `PREDICTIONS`.
        samples: how many samples decide for themselves; 1 for a batch decided as a whole.
        parts: how many tensors a sample has that are judged apart.
        forecast: what is forecast in place of clean samples; see `exchange_of`.

    Raises:
        NotLinearError: if there is nothing that could be skipped; the message says why.
        StepsError: if the policy can't serve that many calls.
    """

    def __init__(
        self,
        found: Probe,
        policy: Policy,
        levels: Sequence[tuple[float, float]],
        predicts: str,
        samples: int = 1,
        parts: int = 1,
        forecast: str | None = None,
    ) -> None:
        if found.response.forgets and any(found.noise):
            raise NotLinearError(
                "every call begins from new noise, and keeps nothing that could be forecast"
            )
        predicted, exchange = exchange_of(levels, predicts, forecast)
        amplified = amplification(levels, predicts, found.response)
        if amplified > _UNSTABLE:
            raise NotLinearError(
                f"its last steps amplify errors {amplified:.0f} times; with another noise "
                "schedule, or a solver of lower order, they would not"
            )
        schedule = call_schedule(levels, predicted, found.response.held(exchange))
        self.plan: list[bool] = []
        self._trajectory = Trajectory(policy, schedule, samples)
        self._streams = [
            LinearStream(policy, schedule, samples, found.response, exchange, found.noise)
            for _ in range(parts)
        ]
        for part, stream in enumerate(self._streams):
            self._trajectory.attach(part, stream)
        self._samples: list[Tensor] = []

    @property
    def call(self) -> int:
        """The call that is being answered, or comes next."""
        return self._trajectory.step

    @property
    def mask(self) -> list[list[bool]]:
        """For every sample, which calls were computed."""
        return self._trajectory.mask

    @property
    def remarks(self) -> list[str]:
        """What the policy has to say about what was done."""
        return self._trajectory.remarks

    def enter(
        self, parts: Sequence[Tensor], shares: Sequence[Tensor] | None = None
    ) -> list[Tensor]:
        """Begins a call: the sample to ask the denoiser about; `plan` says which rows need it.

        Args:
            parts: the sampler's own sample.
            shares: for every part, how much of it and of the output the sampler makes use of, where
                something else is blended in on both ways (a mask); all, if None.
        """
        self.plan = self._trajectory.open()
        each = [None] * len(self._streams) if shares is None else shares
        self._samples = [
            stream.enter(self.call, part, share)
            for stream, part, share in zip(self._streams, parts, each, strict=True)
        ]
        return self._samples

    def answer(self, outputs: Sequence[Sequence[Tensor]] | None) -> list[list[Tensor]]:
        """Ends a call: what the sampler is told.

        Args:
            outputs: for every part of the sample the denoiser's outputs, with anything in the rows
                that the plan leaves out; None if that is all of them.
        """
        each = [None] * len(self._streams) if outputs is None else outputs
        told = [
            stream.answer(self.call, self.plan, output, sample)
            for stream, output, sample in zip(self._streams, each, self._samples, strict=True)
        ]
        self._trajectory.close()
        return told

    def leave(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """The sampler's result, corrected."""
        return [stream.leave(part) for stream, part in zip(self._streams, parts, strict=True)]


@torch.no_grad()
def run_loop(
    loop: Callable[[Any], Any],
    denoiser: Callable[..., Any],
    *,
    levels: Levels,
    predicts: str,
    policy: Policy | None = None,
    per_sample: bool = False,
) -> tuple[Any, Report]:
    """Runs a sampler and calls its denoiser only where the output can't be predicted.

    The sampler is run four times more, with a stand-in that costs nothing, to find out how its
    samples depend on the denoiser's outputs; so `loop` should do nothing but sample. If that
    dependence is not linear, or the noise can't be drawn again, it runs in full, and the report
    says why.

    Args:
        loop: `loop(model)` runs the sampler with `model` in the denoiser's place, everything else
            bound, and returns its last sample. `model(x, t, ...)` takes what the denoiser takes,
            and has its attributes.
        denoiser: `denoiser(x, t, ...)` gives an output of the shape of x: a tensor, or an object
            with one as `mean` or `sample`. Guidance belongs into it.
        levels: what t says of signal and noise: "sigma" (`x = data + t * randn`), "flow"
            (`x = (1 - t) * data + t * randn`), or a function `t -> (alpha, sigma)`.
        predicts: "sample" (the clean sample), "epsilon", "v_prediction" or "flow_prediction".
        policy: when to call the denoiser; `ErrorControlled()` by default.
        per_sample: whether every row of the batch has a plan of its own. If not, the batch is
            computed or skipped as a whole.

    Returns:
        What the sampler returns, and the report. Its steps are the sampler's calls.

    Raises:
        PolicyError: on a policy that is none.
        ValueError: on levels or a prediction that are not known.
        StepsError: if the policy was made for another number of calls.
    """
    policy = ErrorControlled() if policy is None else policy
    if not isinstance(policy, Policy):
        raise PolicyError(f"policy must be a Policy such as ErrorControlled(), not {policy!r}")
    if predicts not in PREDICTIONS:
        raise ValueError(f"predicts must be one of {', '.join(PREDICTIONS)}, not {predicts!r}")
    return _Run(loop, denoiser, _level_of(levels), predicts, policy, per_sample).result()


def _level_of(levels: Levels) -> Callable[[float], tuple[float, float]]:
    if callable(levels):
        return levels
    if levels not in LEVELS:
        raise ValueError(f"levels must be one of {', '.join(LEVELS)} or a function, not {levels!r}")
    return LEVELS[levels]


class _Stopped(BaseException):
    """Ends a sampler at its first call. Not an `Exception`, which a sampler may catch."""


class _Run:
    """One `run_loop`."""

    def __init__(
        self,
        loop: Callable[[Any], Any],
        denoiser: Callable[..., Any],
        level_of: Callable[[float], tuple[float, float]],
        predicts: str,
        policy: Policy,
        per_sample: bool,
    ) -> None:
        self._loop = loop
        self._denoiser = denoiser
        self._level_of = level_of
        self._predicts = predicts
        self._policy = policy
        self._per_sample = per_sample
        self._first: tuple[Tensor, Any] | None = None
        self._found: Probe | None = None
        self._linear: LinearLoop | None = None
        self._rows = 1
        self._computed = 0
        self._latest: Any = None
        self._began = time.perf_counter()

    def result(self) -> tuple[Any, Report]:
        """Probes and runs; if need be, runs again in full."""
        sources = RandomSources()
        try:
            self._compute_first(sources)
            self._found = probe(self._without_model, sources)
            self._linear = self._made_linear(self._found)
            result = self._loop(_Model(self._denoiser, self._skipping))
            if self._linear.call != self._found.response.calls:
                raise NotLinearError("it called the model less often than when it was probed")
            notes = [*_too_few(self._policy, len(self._found.times)), *self._linear.remarks]
            return self._linear.leave([result])[0], self._report(self._linear.mask, *notes)
        except NotLinearError as error:
            sources.restore()
            self._computed = 0
            result = self._loop(_Model(self._denoiser, self._counting))
            mask = [[True] * self._computed] * self._rows
            return result, self._report(mask, f"the sampler ran in full: {error}")

    def _report(self, mask: list[list[bool]], *notes: str) -> Report:
        return Report(self._policy, mask, time.perf_counter() - self._began, list(notes))

    def _compute_first(self, sources: RandomSources) -> None:
        """The output of the first call, which is always computed: it shows the outputs' form."""
        seen: list[tuple[Tensor, tuple[Any, ...], dict[str, Any]]] = []

        def stop(x: Tensor, *args: Any, **conditioning: Any) -> Any:
            seen.append((x.clone(), args, conditioning))
            raise _Stopped

        try:
            with sources:
                self._loop(_Model(self._denoiser, stop))
        except _Stopped:
            pass
        finally:
            sources.restore()
        if not seen:
            raise NotLinearError("it did not call the model")
        x, args, conditioning = seen[0]
        output = self._denoiser(x, *args, **conditioning)
        if _tensor_of(output).shape != x.shape:
            raise NotLinearError("the model's output has another shape than its sample")
        self._first = (x, output)
        self._rows = len(x) if self._per_sample else 1

    def _without_model(self, stand_in: StandIn) -> Any:
        assert self._first is not None
        like = self._first[1]

        def model(x: Tensor, t: Any = None, *args: Any, **conditioning: Any) -> Any:
            return _in_form_of(like, stand_in(x, t)[0])

        return self._loop(_Model(self._denoiser, model))

    def _made_linear(self, found: Probe) -> LinearLoop:
        levels = [self._level_of(t) for t in found.times]
        pairs = [(float(alpha), float(sigma)) for alpha, sigma in levels]
        return LinearLoop(found, self._policy, pairs, self._predicts, self._rows)

    def _counting(self, x: Tensor, *args: Any, **conditioning: Any) -> Any:
        """The model in a full run."""
        self._computed += 1
        return self._compute(x, args, conditioning)

    def _skipping(self, x: Tensor, t: Any = None, *args: Any, **conditioning: Any) -> Any:
        """The model in an accelerated run."""
        assert self._found is not None
        assert self._linear is not None
        call = self._linear.call
        if call >= self._found.response.calls or number(t) != self._found.times[call]:
            raise NotLinearError("its calls came at other times than when it was probed")
        (corrected,) = self._linear.enter([x])
        arguments = args if t is None and not args else (t, *args)
        if not any(self._linear.plan):
            outputs = None
        elif all(self._linear.plan):
            self._latest = self._compute(corrected, arguments, conditioning)
            outputs = [[_tensor_of(self._latest)]]
        else:
            outputs = [[self._compute_rows(corrected, arguments, conditioning)]]
        ((told,),) = self._linear.answer(outputs)
        return _in_form_of(self._latest, told)

    def _compute(self, x: Tensor, args: tuple[Any, ...], conditioning: dict[str, Any]) -> Any:
        if self._first is not None:
            (first, output), self._first = self._first, None
            if torch.equal(first, x):
                return output
        return self._denoiser(x, *args, **conditioning)

    def _compute_rows(
        self, x: Tensor, args: tuple[Any, ...], conditioning: dict[str, Any]
    ) -> Tensor:
        """The output of the rows that the plan names, among anything in the others."""
        assert self._linear is not None
        rows = torch.tensor(self._linear.plan, device=x.device).nonzero().flatten()
        (x, *args), conditioning = rows_taken(([x, *args], conditioning), rows, len(x))
        output = self._denoiser(x, *args, **conditioning)
        return _tensor_of(self._latest).index_copy(0, rows, _tensor_of(output))


class _Model:
    """Stands in the denoiser's place: answers calls itself, and has the denoiser's attributes."""

    def __init__(self, denoiser: Any, answer: Callable[..., Any]) -> None:
        self._denoiser = denoiser
        self._answer = answer

    def __call__(self, x: Tensor, *args: Any, **conditioning: Any) -> Any:
        return self._answer(x, *args, **conditioning)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._denoiser, name)


def _too_few(policy: Policy, calls: int) -> list[str]:
    if calls >= policy.fewest_steps:
        return []
    return [
        f"nothing was skipped: the sampler has {calls} calls, and the policy can skip some of "
        f"{policy.fewest_steps} or more"
    ]


def _tensor_of(output: Any) -> Tensor:
    """The tensor in what a denoiser returns."""
    if isinstance(output, Tensor):
        return output
    for name in _FIELDS:
        value = getattr(output, name, None)
        if isinstance(value, Tensor):
            return value
    raise NotLinearError(
        f"the model returns a {type(output).__name__}, which is no tensor and has none as "
        + " or ".join(_FIELDS)
    )


def _in_form_of(like: Any, tensor: Tensor) -> Any:
    """`tensor` in what the denoiser would have returned it in."""
    if isinstance(like, Tensor):
        return tensor.clone()  # the sampler may write into it, and it is kept here
    form = copy.copy(like)
    name = next(name for name in _FIELDS if isinstance(getattr(like, name, None), Tensor))
    setattr(form, name, tensor.clone())
    return form
