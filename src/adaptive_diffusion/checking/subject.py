"""What a bug report has to say of a pipeline, its call, and where it runs."""

from __future__ import annotations

import platform
import textwrap
from collections.abc import Callable
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_diffusion.adapters.diffusers.components import denoisers
from adaptive_diffusion.checking.trials import AcceleratedTrial, RepeatedCall
from adaptive_diffusion.identity import describe_model, describe_scheduler

__all__ = ["describe", "describe_roles"]

_PACKAGES = ("torch", "diffusers", "transformers")
_LONGEST = 40  # characters of an argument


def describe(call: RepeatedCall) -> dict[str, str]:
    """Texts by heading; empty where nothing can be told."""
    pipe = call.pipe
    return {
        "pipeline": _told(describe_model, pipe) or type(pipe).__name__,
        "scheduler": _told(describe_scheduler, pipe),
        "denoiser": "",
        "machine": ", ".join([_device(call.device), *_dtypes(pipe)]),
        "versions": ", ".join(_versions()),
        "call": ", ".join(f"{name}={_shown(value)}" for name, value in call.arguments.items()),
    }


def describe_roles(trial: AcceleratedTrial) -> str:
    """Which modules denoise, and how often each was called in an accelerated run."""
    steps, counted = trial.report.steps, trial.calls
    calls = {name: f", {calls} calls in {steps} steps" for name, calls in counted.items()}
    roles = trial.report.roles.items()
    return ", ".join(f"{name} ({role}{calls.get(name, '')})" for name, role in roles)


def _told(describe: Callable[[Any], str], pipe: Any) -> str:
    try:
        return describe(pipe)
    except Exception:  # of a kind that nobody has thought of: that is what is examined
        return ""


def _device(device: torch.device) -> str:
    kind = platform.processor() or platform.machine()
    if device.type == "cuda":
        kind = torch.cuda.get_device_name(device)
    return f"{device} ({kind})"


def _dtypes(pipe: Any) -> list[str]:
    modules = [module for module in denoisers(pipe) if isinstance(module, nn.Module)]
    found = {str(weight.dtype).removeprefix("torch.") for m in modules for weight in m.parameters()}
    return sorted(found)


def _versions() -> list[str]:
    from adaptive_diffusion import __version__

    found = [f"adaptive-diffusion {__version__}", f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return found


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return repr(textwrap.shorten(value, _LONGEST, placeholder=" ..."))
    if isinstance(value, Tensor):
        return f"tensor{tuple(value.shape)}"
    if isinstance(value, (bool, int, float, type(None))):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value[:2]))}{', ...' if len(value) > 2 else ''}]"
    if isinstance(value, torch.Generator):
        return f"seed {value.initial_seed()}"
    return type(value).__name__
