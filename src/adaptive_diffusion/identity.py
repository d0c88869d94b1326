"""What tells one model, one scheduler, and one installation from another: kept in profiles."""

from __future__ import annotations

import hashlib
import inspect
import json
from typing import Any

import torch
from torch import nn

from adaptive_diffusion.adapters.diffusers.components import denoisers, schedulers
from adaptive_diffusion.numerics.noise_schedule import PREDICTIONS
from adaptive_diffusion.version import __version__

__all__ = ["describe_model", "describe_scheduler", "prediction_of", "versions"]

_SOLVER_SETTINGS = ("prediction_type", "algorithm_type")


def describe_model(pipe: Any) -> str:
    """Pipeline class, denoiser classes and a fingerprint of the denoisers' settings."""
    modules = [getattr(module, "_orig_mod", module) for module in denoisers(pipe)]
    names = " + ".join(type(module).__name__ for module in modules)
    settings = "\n".join(_settings(module) for module in modules)
    fingerprint = hashlib.sha256(settings.encode()).hexdigest()[:8]
    return f"{type(pipe).__name__}, {names}, {fingerprint}"


def describe_scheduler(pipe: Any) -> str:
    """Scheduler class and what it takes the model's output for."""
    return " + ".join(
        ", ".join([type(scheduler).__name__, *_solver_settings(scheduler)])
        for scheduler in schedulers(pipe)
    )


def prediction_of(description: str) -> str:
    """What the schedulers so described take the model's output for."""
    return " + ".join(
        next((part for part in each.split(", ")[1:] if part in PREDICTIONS), "")
        for each in description.split(" + ")
    )


def versions() -> dict[str, str]:
    """Of the packages that what is found depends on."""
    import diffusers

    return {
        "adaptive_diffusion": __version__,
        "diffusers": diffusers.__version__,
        "torch": str(torch.__version__),
    }


def _settings(module: nn.Module) -> str:
    """The settings that a module was made with, as JSON; its class's defaults are left out.

    So a setting that a later version of diffusers adds does not make it another model.
    """
    parameters = inspect.signature(type(module).__init__).parameters
    defaults = {name: _json(parameter.default) for name, parameter in parameters.items()}
    given = {name: _json(value) for name, value in dict(getattr(module, "config", {})).items()}
    return _json(
        {
            name: value
            for name, value in given.items()
            if not name.startswith("_") and value != defaults.get(name)
        }
    )


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)  # tuples come out as lists, as in files


def _solver_settings(scheduler: Any) -> list[str]:
    config = getattr(scheduler, "config", {})
    return [str(config[name]) for name in _SOLVER_SETTINGS if config.get(name) is not None]
