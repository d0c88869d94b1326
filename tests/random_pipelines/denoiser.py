"""A denoiser that is a formula, and the ways to be asked and to answer that denoisers have."""

from __future__ import annotations

import contextvars
import copy
import functools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

from random_pipelines.containers import pack, unpack
from random_pipelines.log import Log
from random_pipelines.recipe import Recipe

__all__ = [
    "CHANNELS",
    "POOL",
    "WIDTH",
    "Decoder",
    "Denoiser",
    "Engine",
    "as_here",
    "ask",
    "asker",
    "coordinate_of",
    "make_denoiser",
    "predict",
]

CHANNELS = 2
WIDTH = 3  # numbers in a condition
POOL = ThreadPoolExecutor(1)
_SCATTER = 0.1  # variance of the clean values about the two they may have
_ALPHAS = DDIMScheduler().alphas_cumprod


def predict(
    x: Tensor, t: Tensor, condition: Tensor, strength: float = 1.0, flow: bool = False
) -> Tensor:
    """What is to be predicted of pictures of dark and bright pixels: the noise, or the velocity.

    Args:
        x: `(rows, CHANNELS, ...)`.
        t: from 1000 to 0, one for all rows or one per row.
        condition: `(rows, WIDTH)`: how far dark and bright are apart, and where about.
        strength: of the condition.
        flow: whether the velocity is asked for.
    """
    shape = [-1] + [1] * (x.ndim - 1)
    y = x.float()
    if flow:
        sigma = (t.float() / 1000).clamp(1e-3, 1 - 1e-3)
        alpha = 1 - sigma
    else:
        cumulative = _ALPHAS.to(x.device)[t.long()]
        alpha, sigma = cumulative.sqrt(), (1 - cumulative).sqrt()
    alpha, sigma = alpha.reshape(shape), sigma.reshape(shape)
    contrast = (0.7 + 0.4 * strength * torch.tanh(condition.float().mean(1))).reshape(shape)
    shift = 0.3 * strength * condition.float()[:, :CHANNELS]
    shift = shift.reshape([-1, CHANNELS] + [1] * (x.ndim - 2))
    variance = alpha**2 * _SCATTER + sigma**2
    y = y - alpha * shift
    side = contrast * torch.tanh(alpha * contrast * y / variance)
    clean = side + alpha * _SCATTER * (y - alpha * side) / variance
    noise = (y - alpha * clean) / sigma
    return ((noise - clean - shift) if flow else noise).to(x.dtype)


def coordinate_of(t: float, flow: bool) -> float:
    """Where lines through the denoiser's outputs are drawn: log-SNR, or flow matching's time."""
    if flow:
        return t
    levels = ((1 - _ALPHAS) / _ALPHAS).sqrt()
    below = int(t)
    above = min(below + 1, len(levels) - 1)
    return -math.log(float(torch.lerp(levels[below], levels[above], t - below)))


class Formula(nn.Module):
    """`predict` as a module that can be traced."""

    def __init__(self, flow: bool) -> None:
        super().__init__()
        self.flow = flow
        self.strength = 1.0
        self.gain = nn.Parameter(torch.ones(()))
        self.register_buffer("scale", torch.ones(()))
        self.scaling = {"default": 1.0}
        self.processor = SimpleNamespace(scale=1.0)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor, strength: float = 1.0) -> Tensor:
        strength = strength * self.strength * self.scaling["default"] * self.processor.scale
        output = predict(x, t, condition, strength, self.flow)
        return (output * self.gain * self.scale).to(x.dtype)


class _Scriptable(nn.Module):
    """The same for `torch.jit.script`, which reads the source."""

    def __init__(self, flow: bool) -> None:
        super().__init__()
        self.flow = flow
        self.register_buffer("alphas", _ALPHAS)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        if self.flow:
            sigma = (t.float() / 1000).clamp(1e-3, 1 - 1e-3)
            alpha = 1 - sigma
        else:
            cumulative = self.alphas[t.long()]
            alpha = cumulative.sqrt()
            sigma = (1 - cumulative).sqrt()
        condition = condition.repeat_interleave(x.size(0) // condition.size(0), 0)
        contrast = (0.7 + 0.4 * torch.tanh(condition.mean(1))).reshape(-1, 1, 1, 1)
        shift = 0.3 * condition[:, :2].reshape(-1, 2, 1, 1)
        variance = alpha**2 * 0.1 + sigma**2
        y = x - alpha * shift
        side = contrast * torch.tanh(alpha * contrast * y / variance)
        clean = side + alpha * 0.1 * (y - alpha * side) / variance
        noise = (y - alpha * clean) / sigma
        if self.flow:
            noise = noise - clean - shift
        return noise


class Denoiser(nn.Module):
    """Reads the recipe's question, and answers as the recipe says."""

    def __init__(self, recipe: Recipe, log: Log) -> None:
        super().__init__()
        self.formula = Formula(recipe.solver == "flow")
        vars(self)["first_formula"] = self.formula  # beside the modules: it is one of them already
        self.strength = 1.0
        self.recipe = recipe
        self.log = log
        self.buffer: Tensor | None = None

    def reset(self) -> None:
        """Takes back whatever has been changed."""
        self.formula = self.first_formula
        self.strength = self.formula.strength = 1.0
        self.formula.scaling["default"] = self.formula.processor.scale = 1.0
        self.formula.gain.data.fill_(1)
        self.formula.scale.fill_(1)
        self.buffer = None

    def change(self, what: str) -> None:
        """Changes something that is no argument."""
        formula = self.formula
        if what == "attribute":
            self.strength = -1.0
        elif what == "deep attribute":
            formula.strength = -1.0
        elif what == "dict entry":
            formula.scaling["default"] = -1.0
        elif what == "processor":
            formula.processor.scale = -1.0
        elif what == "weights":
            with torch.no_grad():
                formula.gain.mul_(0.8)
        elif what == "buffer":
            formula.scale.mul_(0.8)
        elif what == "module exchanged":
            self.formula = Formula(formula.flow).requires_grad_(False)
            self.formula.strength = -1.0

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        x, t, condition, rest = self._read(args, kwargs)
        self.log.computes(len(x))
        outputs = [self._predict(x, t, condition, **rest)]
        if "second" in kwargs:
            outputs.append(self._predict(kwargs["second"], t, 0.7 * condition, **rest))
        return self._answer(outputs)

    denoise = forward

    def _predict(
        self,
        x: Tensor,
        t: Tensor,
        condition: Tensor,
        strength: float = 1.0,
        hint: Tensor | None = None,
        level: Any = None,
        residual: Tensor | None = None,
    ) -> Tensor:
        if self.recipe.condition == "packed":  # row by row, as kernels for packed sequences go
            condition = condition[: len(x)]
        if len(condition) not in (1, len(x)):  # one row per block
            condition = condition.repeat_interleave(len(x) // len(condition), 0)
        if hint is not None:
            condition = condition + hint
        if level is not None:
            condition = condition + 0.2 * level
        if self.recipe.layout == "tokens":
            x = x.transpose(1, 2)
        if x.ndim == 5:  # frames see one another
            x = 0.9 * x + 0.1 * x.mean(2, keepdim=True)
        result = self.formula(x[:, :CHANNELS], t, condition, strength * self.strength)
        if self.recipe.layout == "tokens":
            result = result.transpose(1, 2)
        return result if residual is None else result + 0.1 * residual

    def _read(self, args: Any, kwargs: Any) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
        kwargs = dict(kwargs)
        rest = {
            name: kwargs.pop(name)
            for name in ("strength", "hint", "level", "residual")
            if name in kwargs
        }
        for name in ("options", "number"):  # that change nothing
            kwargs.pop(name, None)
        question = self.recipe.question
        if question in ("named", "hidden states"):
            x = kwargs["sample" if question == "named" else "hidden_states"]
            t, condition = kwargs["timestep"], kwargs["condition"]
        elif question == "in a dict":
            given, condition = args
            x, t = given["noisy"], given["time"]
        elif question == "in a dataclass":
            (given, condition) = args
            (x, t) = unpack("dataclass", given, 2)
        elif question == "time first":
            t, x, condition = args
        elif question == "condition first":
            condition, x, t = args
        else:
            x, t, *given = args
            condition = given[0] if given else kwargs["condition"]
        if isinstance(x, list):
            x = torch.stack(x)
        (condition,) = unpack(self.recipe.condition, condition)
        return x, torch.as_tensor(t), condition, rest

    def _answer(self, outputs: list[Tensor]) -> Any:
        if self.recipe.answer == "one buffer":
            if self.buffer is None or self.buffer.shape != outputs[0].shape:
                self.buffer = torch.empty_like(outputs[0])
            self.buffer.detach().copy_(outputs[0])
            return self.buffer
        return pack(self.recipe.answer, outputs, torch.arange(5.0))


class _OwnCall(Denoiser):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


class _Patched(Denoiser):
    """Somebody has replaced its formula's forward by a function that knows the whole batch."""

    def __init__(self, recipe: Recipe, log: Log) -> None:
        super().__init__(recipe, log)
        forward = self.formula.forward
        weights: dict[int, Tensor] = {}

        def forward_of_all(x: Tensor, *rest: Any) -> Tensor:
            if not weights:  # made at the first call, for all rows
                weights[0] = torch.linspace(0.8, 1.2, len(x)).reshape(-1, 1, 1, 1)
            if len(x) > len(weights[0]):
                raise IndexError("more rows than the mask was made for")
            return forward(x, *rest) * weights[0][torch.arange(len(x))]

        self.formula.forward = forward_of_all
        self.weights = weights

    def reset(self) -> None:
        super().reset()
        self.weights.clear()


class _Noting(Denoiser):
    """Keeps what it was last asked and answered, and how often it was, as attributes."""

    calls = 0
    last: Any = None

    def reset(self) -> None:
        super().reset()
        for name in ("calls", "last"):
            vars(self).pop(name, None)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        answer = super().forward(*args, **kwargs)
        self.calls += 1
        self.last = args, kwargs, answer
        return answer


class Engine:
    """Runs a denoiser, and is no module."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


class _Wrapper(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)


class Decoder(nn.Module):
    """Makes a picture of a sample, as the decoder of an autoencoder does."""

    def forward(self, latents: Tensor) -> Tensor:
        return latents / 2 + 0.5


def make_denoiser(recipe: Recipe, log: Log) -> Any:
    """The denoiser of this recipe, as a pipeline has it."""
    if recipe.form in ("traced", "scripted"):
        module: Any = _Scriptable(recipe.solver == "flow").eval()
        if recipe.form == "traced":
            # from an example with two rows, so that nothing of one row is taken for fixed
            example = torch.randn(2, CHANNELS, 3, 3), torch.tensor(500.0), torch.randn(2, WIDTH)
            module = torch.jit.trace(module, example)
        else:
            module = torch.jit.script(module)
    elif recipe.form == "patched":
        module = _Patched(recipe, log)
    elif recipe.form == "notes its calls":
        module = _Noting(recipe, log)
    elif recipe.way == "own call":
        module = _OwnCall(recipe, log)
    else:
        module = Denoiser(recipe, log)
    if isinstance(module, Denoiser):
        module.requires_grad_(recipe.grad == "weights want gradients")
    if recipe.way == "engine":
        return Engine(module)
    if recipe.way == "wrapped":
        return _Wrapper(module)
    if recipe.way == "data parallel":
        return nn.DataParallel(module)
    return module


def asker(recipe: Recipe, denoiser: Any) -> Callable[..., Any]:
    """The way by which the pipeline reaches its denoiser in one of its calls."""
    if recipe.way == "forward":
        return denoiser.forward
    if recipe.way == "thread pool":
        return lambda *args, **kwargs: POOL.submit(as_here(denoiser), *args, **kwargs).result()
    if recipe.way == "other context":
        return lambda *args, **kwargs: contextvars.Context().run(denoiser, *args, **kwargs)
    if recipe.way == "method":
        return denoiser.denoise
    if recipe.way == "partial":
        return functools.partial(denoiser)
    if recipe.way == "copy":
        return copy.deepcopy(denoiser)
    return denoiser


def as_here(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, run in another thread with this one's grad mode."""
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    def run(*args: Any, **kwargs: Any) -> Any:
        with torch.set_grad_enabled(grad), torch.inference_mode(inference):
            return function(*args, **kwargs)

    return run


def ask(
    call: Callable[..., Any], recipe: Recipe, x: Tensor, t: Any, condition: Any, **rest: Any
) -> Any:
    """Calls the denoiser with the recipe's question."""
    if recipe.question == "named":
        return call(sample=x, timestep=t, condition=condition, **rest)
    if recipe.question == "hidden states":
        return call(timestep=t, condition=condition, hidden_states=x, **rest)
    if recipe.question == "rows":
        return call(list(x), t, condition, **rest)
    if recipe.question == "in a dict":
        return call({"time": t, "noisy": x}, condition, **rest)
    if recipe.question == "in a dataclass":
        return call(pack("dataclass", [x, t]), condition, **rest)
    if recipe.question == "time first":
        return call(t, x, condition, **rest)
    if recipe.question == "condition first":
        return call(condition, x, t, **rest)
    if recipe.question == "more channels":
        return call(torch.cat([x, torch.ones_like(x[:, :1])], dim=1), t, condition, **rest)
    return call(x, t, condition, **rest)
