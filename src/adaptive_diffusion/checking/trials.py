"""One call of a pipeline, made again and again from the same seed: plain, or by a policy."""

from __future__ import annotations

import copy
import functools
import inspect
import math
import time
import types
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_diffusion.adapters.diffusers.components import candidates, name_of
from adaptive_diffusion.adapters.diffusers.randomness import (
    global_sources,
    is_source,
    standing_at,
)
from adaptive_diffusion.api import accelerate
from adaptive_diffusion.checking.outputs import Outputs
from adaptive_diffusion.policies import Policy
from adaptive_diffusion.trajectory import Report

__all__ = ["AcceleratedTrial", "RepeatedCall", "Step", "Trial"]

_STEPS = "num_inference_steps"
_SEVERAL = ("num_images_per_prompt", "num_videos_per_prompt", "num_waveforms_per_prompt")
_TF32 = 2.0**-11  # the precision of a GPU's products, unless it is told otherwise
_DIGITS_LEFT = 0.6
_FEW = 8  # steps of a batch: it is run several times


@dataclass(frozen=True)
class Step:
    """One step of an accelerated run.

    Attributes:
        computed: for each sample, whether the denoiser was called.
        calls: of modules that may denoise, made since the step before.
        seconds: since then.
    """

    computed: list[bool]
    calls: Counter[str]
    seconds: float


@dataclass(frozen=True, eq=False)
class Trial:
    """What one run made and took.

    Attributes:
        outputs: what it made.
        seconds: wall-clock time of the whole call.
        calls: of each module that may denoise, by name.
    """

    outputs: Outputs
    seconds: float
    calls: Counter[str]


@dataclass(frozen=True, eq=False)
class AcceleratedTrial(Trial):
    """A run by a policy.

    Attributes:
        report: of the run.
        steps: in their order.
    """

    report: Report
    steps: list[Step]

    @property
    def all_skipped(self) -> list[Step]:
        """The steps that were skipped for every sample."""
        return [step for step in self.steps if not any(step.computed)]


class RepeatedCall:
    """A pipeline, and a call that can be made again: every run begins with the same numbers.

    Args:
        pipe: the pipeline.
        args: of the call.
        kwargs: of the call. A seeded generator, the number of steps and `output_type="np"` are
            added, where the pipeline takes them and they are not given.
        steps: that number.
        seed: of the generator, and of a pipeline that takes one.
    """

    def __init__(
        self,
        pipe: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        steps: int,
        seed: int | None,
    ) -> None:
        self.pipe = pipe
        self._seed = seed or 0
        self.device = _device_of(pipe)
        self._parameters = _parameters(pipe)
        self._args, self.arguments = _by_name(pipe, args, kwargs)
        ways = (_STEPS, "timesteps", "sigmas")
        if _STEPS in self._parameters and all(self.arguments.get(way) is None for way in ways):
            self.arguments[_STEPS] = steps
        usual = {"output_type": "np", "generator": self._generator(), "seed": self._seed}
        for name, value in usual.items():
            if name in self._parameters and self.arguments.get(name) is None:
                self.arguments[name] = value

    def run_plain(self, **changes: Any) -> Trial:
        """Makes the call without acceleration, with other arguments as given.

        Raises:
            Exception: whatever the pipeline raises.
        """
        meter = _Meter(self.pipe, self.device)
        outputs, seconds = self._measured(meter, changes)
        return Trial(outputs, seconds, meter.calls)

    def run(self, policy: Policy, **changes: Any) -> AcceleratedTrial:
        """Makes the same call by a policy."""
        meter = _Meter(self.pipe, self.device)
        with accelerate(self.pipe, policy, on_step=meter.note_step) as accelerated:
            outputs, seconds = self._measured(meter, changes)
            report = accelerated.report
        return AcceleratedTrial(outputs, seconds, meter.calls, report, meter.steps)

    def _measured(self, meter: _Meter, changes: dict[str, Any]) -> tuple[Outputs, float]:
        args, arguments = _fresh(self._args), _fresh(self.arguments | changes)
        with (
            warnings.catch_warnings(),
            standing_at(global_sources(self.device)),
            meter.counting(),
        ):
            warnings.simplefilter("ignore")
            began = meter.begin()
            result = self.pipe(*args, **arguments)
            if isinstance(result, types.GeneratorType):
                result = list(result)
            seconds = meter.now() - began
        return Outputs.of(result, self.pipe), seconds

    @property
    def rounding(self) -> float:
        """How far two results may be from each other by rounding alone, in dB.

        Over a loop errors grow: of the digits that a number type has, this leaves a part.
        """
        types = {weight.dtype for weight in _weights(self.pipe) if weight.is_floating_point()}
        eps = max((torch.finfo(each).eps for each in types), default=torch.finfo().eps)
        if self.device.type == "cuda":
            eps = max(eps, _TF32)
        return -20 * math.log10(eps) * _DIGITS_LEFT

    def batches(self) -> list[dict[str, Any]]:
        """Changes that make the call one of two samples, as far as is known; likelier ones first.

        A call that has several already is only made shorter.
        """
        more: dict[str, Any] = {}
        if "generator" in self._parameters:
            more["generator"] = self._generator()
        if isinstance(self.arguments.get(_STEPS), int):
            more[_STEPS] = min(self.arguments[_STEPS], _FEW)
        found: Iterable[dict[str, Any]] = [{}] if self.has_several else self._two_samples()
        return [changes | more for changes in found]

    @property
    def has_several(self) -> bool:
        """Whether the call asks for more than one sample."""
        prompt = self.arguments.get("prompt")
        return isinstance(prompt, list) and len(prompt) > 1

    def _two_samples(self) -> Iterator[dict[str, Any]]:
        doubled = {name: _doubled(value) for name, value in self.arguments.items()}
        ones = {name: value for name, value in doubled.items() if value is not None}
        prompt = self.arguments.get("prompt")
        if isinstance(prompt, str):
            yield {**ones, "prompt": [prompt, _other(prompt)]}
        elif ones:
            yield ones
        several = [name for name in ("batch_size", *_SEVERAL) if name in self._parameters]
        yield from [{several[0]: 2}] if several else []

    def _generator(self) -> torch.Generator:
        return torch.Generator("cpu").manual_seed(self._seed)


def _device_of(pipe: Any) -> torch.device:
    """Where the pipeline runs."""
    for name in ("_execution_device", "device"):
        device = getattr(pipe, name, None)
        if isinstance(device, torch.device):
            return device
    return next((weight.device for weight in _weights(pipe)), torch.device("cpu"))


def _weights(pipe: Any) -> Iterator[Tensor]:
    """Of the modules that may denoise."""
    modules = [part for part in candidates(pipe) if isinstance(part, nn.Module)]
    return (weight for module in modules for weight in module.parameters())


class _Meter:
    """Counts denoiser calls and takes times, in one run."""

    def __init__(self, pipe: Any, device: torch.device) -> None:
        self.calls: Counter[str] = Counter()
        self.steps: list[Step] = []
        self._pipe = pipe
        self._device = device
        self._at = 0.0
        self._counted: Counter[str] = Counter()

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Counts by hooks, where modules take them."""
        with ExitStack() as stack:
            for part in candidates(self._pipe):
                if _takes_hooks(part):
                    count = functools.partial(self._count, name_of(part, self._pipe))
                    stack.callback(part.register_forward_pre_hook(count).remove)
            yield

    def begin(self) -> float:
        self._at = self.now()
        return self._at

    def now(self) -> float:
        """The time at which the device has done what it was told."""
        if self._device.type in ("cuda", "mps", "xpu"):
            getattr(torch, self._device.type).synchronize()
        return time.perf_counter()

    def note_step(self, mask: list[list[bool]]) -> None:
        """To be called at the end of every step."""
        now = self.now()
        computed = [row[-1] for row in mask]
        self.steps.append(Step(computed, self.calls - self._counted, now - self._at))
        self._at, self._counted = now, self.calls.copy()

    def _count(self, name: str, *_: Any) -> None:
        self.calls[name] += 1


def _takes_hooks(part: Any) -> bool:
    """Whether hooks can be had: compiled code would be compiled again, scripted code has none."""
    if not isinstance(part, nn.Module) or isinstance(part, torch.jit.ScriptModule):
        return False
    return part._compiled_call_impl is None


def _parameters(pipe: Any) -> set[str]:
    """What the pipeline can be asked for: arguments of its call, or inputs of its blocks."""
    names = {*inspect.signature(type(pipe).__call__).parameters}
    return names | {*getattr(getattr(pipe, "blocks", None), "input_names", ())}


def _by_name(
    pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A call's arguments by name, as far as the signature tells their names."""
    parameters = list(inspect.signature(type(pipe).__call__).parameters.values())[1:]
    names = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    if len(args) > len(names):
        return args, dict(kwargs)
    return (), {**dict(zip(names, args, strict=False)), **kwargs}


def _fresh(value: Any) -> Any:
    """An argument that a run can use up: generators and tensors are copied."""
    if isinstance(value, torch.Generator):
        return torch.Generator(value.device).set_state(value.get_state())
    if is_source(value):
        return copy.deepcopy(value)
    if isinstance(value, Tensor):
        return value.detach().clone()
    if type(value) in (list, tuple):
        return type(value)(map(_fresh, value))
    return {key: _fresh(item) for key, item in value.items()} if type(value) is dict else value


def _doubled(value: Any) -> Any:
    """A list or a tensor for one sample, for two; None if it is something else."""
    if isinstance(value, list) and len(value) == 1 and not is_source(value[0]):
        return value * 2
    return torch.cat([value] * 2) if isinstance(value, Tensor) and value.shape[:1] == (1,) else None


def _other(prompt: str) -> str:
    """Another prompt of the same length."""
    words = prompt.split()
    return " ".join(reversed(words)) if len(words) > 1 else prompt[::-1]
