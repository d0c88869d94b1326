"""Schedulers: those of diffusers, and what people make of them."""

from __future__ import annotations

import functools
import random
import threading
from collections import deque, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput
from torch import Tensor

from random_pipelines.log import Log
from random_pipelines.recipe import Recipe

__all__ = ["make_scheduler", "stepped"]

_BASES: dict[str, tuple[type, dict[str, Any]]] = {
    "ddim": (diffusers.DDIMScheduler, {"clip_sample": False}),
    "euler": (diffusers.EulerDiscreteScheduler, {}),
    "flow": (diffusers.FlowMatchEulerDiscreteScheduler, {}),
    "dpm++": (diffusers.DPMSolverMultistepScheduler, {}),
    "unipc": (diffusers.UniPCMultistepScheduler, {}),
    "heun": (diffusers.HeunDiscreteScheduler, {}),
    "pndm": (diffusers.PNDMScheduler, {"skip_prk_steps": True}),
    "ddim eta": (diffusers.DDIMScheduler, {"clip_sample": False}),
    "ancestral": (diffusers.EulerAncestralDiscreteScheduler, {}),
    "ddpm": (diffusers.DDPMScheduler, {"clip_sample": False}),
}


@dataclass
class _Stepped:
    prev_sample: Tensor


_SteppedTuple = namedtuple("_SteppedTuple", ["prev_sample", "rest"])


def make_scheduler(recipe: Recipe, log: Log, stream: int = 0) -> Any:
    """The scheduler of this recipe, for one of its streams."""
    if recipe.scheduler == "slots":
        return _SlotsScheduler()
    base, settings = _BASES[recipe.solver]
    if recipe.scheduler in ("no config", "timesteps in a list"):
        base, settings = _PlainScheduler, {"listed": recipe.scheduler == "timesteps in a list"}
    if _is_odd(recipe):
        base = type(
            f"My{base.__name__}", (_Odd, base), {"recipe": recipe, "log": log, "stream": stream}
        )
    if recipe.scheduler == "step without names":
        base = type(base.__name__, (_WithoutNames, base), {})
    scheduler: Any = base(**settings)
    if recipe.scheduler == "proxy":
        return _Proxy(scheduler)
    if recipe.scheduler == "step on the instance":
        step = scheduler.step
        scheduler.step = functools.wraps(step)(lambda *args, **kwargs: step(*args, **kwargs))
    return scheduler


def stepped(recipe: Recipe, returned: Any) -> Tensor:
    """The next sample, out of what `step` has returned."""
    if recipe.solver == "pndm" or recipe.scheduler == "slots":
        return returned[0]
    kinds = {
        "tensor": Tensor,
        "dict": dict,
        "dataclass": _Stepped,
        "namedtuple": _SteppedTuple,
        "output class": DDIMSchedulerOutput,
    }
    expected = kinds.get(recipe.step_returns, tuple)
    if not isinstance(returned, expected):
        raise TypeError(f"step gave a {expected.__name__}, and a {type(returned)} arrived")
    if recipe.step_returns == "tensor":
        return returned
    if recipe.step_returns == "dict":
        return returned["prev_sample"]
    return returned[0] if recipe.step_returns == "tuple" else returned.prev_sample


def _is_odd(recipe: Recipe) -> bool:
    return (
        recipe.memory != "none"
        or recipe.noise != "none"
        or recipe.step_returns != "tuple"
        or recipe.writes.startswith("into")
        or recipe.solver == "ddim eta"
        or recipe.scheduler == "injected later"
    )


class _PlainScheduler:
    """DDIM written anew: no base class, no configuration."""

    order = 1
    init_noise_sigma = 1.0

    def __init__(self, listed: bool = False) -> None:
        self.alphas = diffusers.DDIMScheduler().alphas_cumprod
        self.listed = listed
        self.timesteps: Any = []
        self.gap = 0

    def set_timesteps(self, steps: int, device: Any = None) -> None:
        self.gap = 1000 // steps
        timesteps = torch.arange(steps - 1, -1, -1) * self.gap + 1
        self.timesteps = timesteps.tolist() if self.listed else timesteps

    def scale_model_input(self, sample: Tensor, _: Any) -> Tensor:
        return sample

    def step(
        self, model_output: Tensor, timestep: Any, sample: Tensor, return_dict: bool = True
    ) -> tuple[Tensor]:
        now, following = self.alphas[int(timestep)], self.alphas[max(int(timestep) - self.gap, 0)]
        clean = (sample - (1 - now).sqrt() * model_output) / now.sqrt()
        moved = following.sqrt() * clean + (1 - following).sqrt() * model_output
        return (moved.to(sample.dtype),)


class _SlotsScheduler:
    """Has no `__dict__`, and keeps its last output."""

    __slots__ = ("alphas", "gap", "last", "timesteps")
    order = 1
    init_noise_sigma = 1.0

    def __init__(self) -> None:
        self.alphas = diffusers.DDIMScheduler().alphas_cumprod
        self.timesteps: Any = []
        self.last: Tensor | None = None

    def set_timesteps(self, steps: int, device: Any = None) -> None:
        self.gap = 1000 // steps
        self.timesteps = torch.arange(steps - 1, -1, -1) * self.gap + 1
        self.last = None

    def step(
        self, model_output: Tensor, timestep: Any, sample: Tensor, return_dict: bool = True
    ) -> tuple[Tensor]:
        last = model_output if self.last is None else self.last
        self.last = model_output.clone()
        return _PlainScheduler.step(self, 1.3 * model_output - 0.3 * last, timestep, sample)  # type: ignore[arg-type]


class _WithoutNames:
    """A logging layer that says nothing of the arguments."""

    def step(self, *args: Any, **kwargs: Any) -> Any:
        return super().step(*args, **kwargs)  # type: ignore[misc]


class _Proxy:
    """Everything is the inner scheduler's."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_inner":
            raise AttributeError(name)
        return getattr(self._inner, name)


class _Odd:
    """A layer above a scheduler: it remembers the last output, adds noise, writes where it likes.

    The memory makes a two-step method of any solver, so what is remembered wrongly shows. Recipe
    and log are the class's: diffusers' constructors note every argument that they are given.
    """

    recipe: Recipe
    log: Log
    stream: int

    def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        super().set_timesteps(*args, **kwargs)  # type: ignore[misc]
        self._memory = _MEMORIES[self.recipe.memory](self)
        self._own_generator = torch.Generator().manual_seed(11)
        self.log.generators.append(self._own_generator)
        self._own_numpy = np.random.default_rng(11)
        self._own_random = random.Random(11)
        self._own = SimpleNamespace(generator=torch.Generator().manual_seed(11))

    def step(
        self,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        generator: Any = None,
        return_dict: bool = True,
    ) -> Any:
        remember, recall = self._memory
        last = recall()
        remember(model_output.detach().clone())
        combined = model_output if last is None else 1.3 * model_output - 0.3 * last
        if self.recipe.writes == "into the output":
            combined = combined.clone()
            model_output.zero_()
        options: dict[str, Any] = {"return_dict": False}
        if self.recipe.solver in ("ddim eta", "ancestral", "ddpm"):
            options["generator"] = generator[0] if isinstance(generator, list) else generator
        if self.recipe.solver == "ddim eta":
            options["eta"] = 1.0
        (moved, *_) = super().step(combined, timestep, sample, **options)  # type: ignore[misc]
        moved = (moved + self._noise(sample, timestep, generator)).to(sample.dtype)
        if self.recipe.writes == "into the sample":
            moved = sample.copy_(moved)
        return self._returned(moved)

    def _returned(self, moved: Tensor) -> Any:
        makers: dict[str, Callable[[Tensor], Any]] = {
            "tuple": lambda tensor: (tensor,),
            "output class": lambda tensor: DDIMSchedulerOutput(prev_sample=tensor),
            "dataclass": _Stepped,
            "namedtuple": lambda tensor: _SteppedTuple(tensor, None),
            "dict": lambda tensor: {"prev_sample": tensor},
            "tensor": lambda tensor: tensor,
        }
        return makers[self.recipe.step_returns](moved)

    def _noise(self, like: Tensor, timestep: Any, generator: Any) -> Tensor | float:
        level = float(timestep) / 1000
        inside = {
            "always": True,
            "early": level > 0.5,
            "middle": 0.25 < level <= 0.75,
            "late": level <= 0.5,
        }
        if self.recipe.noise == "none" or not inside[self.recipe.window]:
            return 0.0
        drawn = self._draw(like, generator)
        if self.recipe.noise == "scripted":
            drawn = self.log.drawn[self.stream, float(timestep)]
        else:
            self.log.drawn[self.stream, float(timestep)] = drawn
        return (0.2 * level * drawn).to(like.dtype)

    def _draw(self, like: Tensor, generator: Any) -> Tensor:
        shape, source = like.shape, self.recipe.noise
        if source == "own numpy":
            return torch.from_numpy(self._own_numpy.standard_normal(tuple(shape))).float()
        if source == "global numpy":
            return torch.from_numpy(np.random.standard_normal(tuple(shape))).float()
        if source in ("global random", "own random"):
            gauss = random.gauss if source == "global random" else self._own_random.gauss
            return torch.tensor([gauss(0, 1) for _ in range(like.numel())]).reshape(shape)
        if isinstance(generator, list):
            each = len(like) // len(generator)
            return torch.cat([torch.randn(each, *shape[1:], generator=g) for g in generator])
        sources = {
            "own generator": self._own_generator,
            "nested generator": self._own.generator,
            "default generator": None,
        }
        return torch.randn(shape, generator=sources.get(source, generator))


# Where a memory may be kept: each gives a function that remembers, and one that recalls.


def _nowhere(_: Any) -> Any:
    return lambda tensor: None, lambda: None


def _in_list(scheduler: Any) -> Any:
    scheduler.past = []

    def remember(tensor: Tensor) -> None:
        scheduler.past[:] = [tensor]

    return remember, lambda: scheduler.past[0] if scheduler.past else None


def _in_deque(scheduler: Any) -> Any:
    scheduler.past = deque(maxlen=1)
    return (
        lambda tensor: scheduler.past.append(tensor),
        lambda: scheduler.past[0] if scheduler.past else None,
    )


def _in_dict(scheduler: Any) -> Any:
    scheduler.past = {}
    return lambda tensor: scheduler.past.update(last=tensor), lambda: scheduler.past.get("last")


def _in_nested_object(scheduler: Any) -> Any:
    scheduler.past = SimpleNamespace(inner=SimpleNamespace(last=None))

    def remember(tensor: Tensor) -> None:
        scheduler.past.inner.last = tensor

    return remember, lambda: scheduler.past.inner.last


def _in_tensor(scheduler: Any) -> Any:
    scheduler.past = None

    def remember(tensor: Tensor) -> None:
        if scheduler.past is None:
            scheduler.past = tensor.clone()
        else:
            scheduler.past.copy_(tensor)

    return remember, lambda: None if scheduler.past is None else scheduler.past.clone()


def _in_thread_local(scheduler: Any) -> Any:
    scheduler.past = threading.local()

    def remember(tensor: Tensor) -> None:
        scheduler.past.last = tensor

    return remember, lambda: getattr(scheduler.past, "last", None)


def _in_closure(_: Any) -> Any:
    last: list[Tensor] = []

    def remember(tensor: Tensor) -> None:
        last[:] = [tensor]

    return remember, lambda: last[0] if last else None


def _in_class(scheduler: Any) -> Any:
    cls = type(scheduler)
    cls.past = None
    return lambda tensor: setattr(cls, "past", tensor), lambda: cls.past


class _Slot:
    __slots__ = ("last",)


def _in_slots(scheduler: Any) -> Any:
    scheduler.past = _Slot()
    scheduler.past.last = None

    def remember(tensor: Tensor) -> None:
        scheduler.past.last = tensor

    return remember, lambda: scheduler.past.last


def _in_numpy(scheduler: Any) -> Any:
    scheduler.past = np.zeros(0)

    def remember(tensor: Tensor) -> None:
        if not scheduler.past.size:
            scheduler.past = np.zeros(tuple(tensor.shape))
        scheduler.past[:] = tensor.double().numpy()

    def recall() -> Tensor | None:
        return torch.from_numpy(scheduler.past.copy()).float() if scheduler.past.size else None

    return remember, recall


def _in_generator(scheduler: Any) -> Any:
    def remembering() -> Any:
        last = None
        while True:
            given = yield last
            last = last if given is None else given

    scheduler.past = remembering()
    next(scheduler.past)
    return lambda tensor: scheduler.past.send(tensor), lambda: scheduler.past.send(None)


_MEMORIES: dict[str, Callable[[Any], Any]] = {
    "none": _nowhere,
    "list": _in_list,
    "deque": _in_deque,
    "dict": _in_dict,
    "nested object": _in_nested_object,
    "tensor in place": _in_tensor,
    "thread local": _in_thread_local,
    "closure": _in_closure,
    "class attribute": _in_class,
    "slots object": _in_slots,
    "numpy array": _in_numpy,
    "python generator": _in_generator,
}
