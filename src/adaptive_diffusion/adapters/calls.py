"""A call of a denoiser, and what is kept of the calls before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_diffusion.adapters.changes import Arguments
from adaptive_diffusion.adapters.containers import items, map_tensors, tensors, version_of

__all__ = [
    "Branch",
    "Call",
    "copied",
    "has_unclear_rows",
    "is_patched",
    "made_after_all",
    "modules_of",
]


@dataclass
class Call:
    """A call of a module, made or asked for.

    Attributes:
        run: makes the call itself.
        answer: what the caller was given, to be set by `give`.
    """

    module: Any
    run: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    answer: Any = None
    _versions: list[int | None] = field(default_factory=list)

    def give(self, answer: Any) -> Any:
        """Notes what the caller is given."""
        self.answer = answer
        self._versions = [version_of(tensor) for tensor in tensors(answer)]
        return answer

    @property
    def is_as_given(self) -> bool:
        """Whether nobody has written into the answer since."""
        return self._versions == [version_of(tensor) for tensor in tensors(self.answer)]

    def compute(self) -> Any:
        """Calls the module for all rows."""
        return self.run(*self.args, **self.kwargs)

    def compute_after_all(self) -> Any:
        """Calls it for all rows and writes the answer into the one that was handed out."""
        computed = self.compute()
        with torch.no_grad():
            for handed, better in zip(tensors(self.answer), tensors(computed), strict=False):
                handed.copy_(better)
        return computed

    def records_gradients(self, weights: bool = True) -> bool:
        """Whether gradients may pass through the call: to its arguments, or to the weights."""
        if not torch.is_grad_enabled():
            return False
        parts = [p for each in modules_of(self.module) for p in each.parameters() if weights]
        return any(each.requires_grad for each in (*tensors((self.args, self.kwargs)), *parts))


@dataclass
class Branch:
    """One denoiser call of every iteration: the conditional one, say.

    Attributes:
        output: what it last answered; a copy of our own.
        arguments: what it was last asked.
    """

    output: Any = None
    arguments: Arguments = field(default_factory=Arguments)

    def remember(self, output: Any) -> None:
        self.output = copied(output)


def made_after_all(spared: Sequence[tuple[Call, Branch]]) -> bool:
    """Makes calls that were spared; none, and False, if somebody has gone on with their answers."""
    if not all(call.is_as_given for call, _ in spared):
        return False
    for call, branch in spared:
        branch.remember(call.compute_after_all())
    return True


def copied(value: Any) -> Any:
    """The same, with tensors of its own and without gradients."""
    return map_tensors(lambda tensor: tensor.detach().clone(), value)


def has_unclear_rows(value: Any, rows: int) -> bool:
    """Whether an argument may have something for each of a batch's rows that is no tensor's row.

    A list or an array with an entry per row; a packed sequence with the bounds of its parts.
    A list of tensors of one shape may be such a list whatever rows they have: those may be tokens.
    """
    if isinstance(value, Tensor):
        is_bounds = value.ndim == 1 and not value.is_floating_point() and len(value) == rows + 1
        return is_bounds and bool(value[0] == 0) and bool((value.diff() >= 0).all())
    if hasattr(value, "__array__"):
        return getattr(value, "ndim", 0) > 0 and len(value) == rows
    if isinstance(value, (list, tuple)) and len(value) == rows:
        shapes = [each.shape if isinstance(each, Tensor) else () for each in value]
        are_entries = isinstance(value, list) and len(set(shapes)) == 1
        have_rows = _are_layers(shapes, rows) and not are_entries
        hold_tensors = any(tensors(each) for each in value)
        are_alike = not hold_tensors and all(each == value[0] for each in value)
        return not have_rows and not are_alike
    return any(has_unclear_rows(each, rows) for each in items(value))


def _are_layers(shapes: Sequence[Sequence[int]], rows: int) -> bool:
    """Whether tensors of these shapes all have a row for each sample, or for each of its frames."""
    if len({tuple(shape[:1]) for shape in shapes}) > 1 or not shapes[0]:
        return False
    return shapes[0][0] > 0 and shapes[0][0] % rows == 0


def is_patched(module: Any) -> bool:
    """Whether parts of a module run other code than their classes'.

    Such code may look across rows, or know how many there are: attention processors that are none
    of diffusers' models', a `forward` that stands in an instance, hooks.
    """
    processors = getattr(module, "attn_processors", {}).values()
    if not all(type(each).__module__.startswith("diffusers.models") for each in processors):
        return True
    inners = [getattr(each, "_orig_mod", each) for each in modules_of(module)]
    parts = (part for inner in inners for part in inner.modules() if part is not inner)
    return any(map(_has_foreign_code, parts))


def modules_of(denoiser: Any) -> list[nn.Module]:
    """The module that a denoiser is, or those that an object or a method of one holds."""
    if isinstance(denoiser, nn.Module):
        return [denoiser]
    owner = getattr(denoiser, "__self__", denoiser)
    held = [owner, *getattr(owner, "__dict__", {}).values()]
    return [each for each in held if isinstance(each, nn.Module)]


def _has_foreign_code(part: nn.Module) -> bool:
    own = vars(part)
    if "forward" in own and not {"_hf_hook", "_diffusers_hook"} & own.keys():
        return True
    hooks = [*part._forward_hooks.values(), *part._forward_pre_hooks.values()]
    libraries = ("accelerate", "diffusers", "peft", "torch")
    return not all(getattr(hook, "__module__", "").startswith(libraries) for hook in hooks)
