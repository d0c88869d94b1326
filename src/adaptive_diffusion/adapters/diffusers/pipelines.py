"""Switching the acceleration of a pipeline on and off.

An enabled pipeline has a same-named subclass of its class, whose call makes a generation. Nothing
else of it is changed while it rests; `disable` gives it its class back.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from adaptive_diffusion.adapters.diffusers.components import check_pipeline, denoisers, schedulers
from adaptive_diffusion.adapters.diffusers.generation import Generation, StepCallback
from adaptive_diffusion.adapters.diffusers.interception import intercept, same_named_subclass
from adaptive_diffusion.errors import NoReportError, StepsError
from adaptive_diffusion.policies import Policy
from adaptive_diffusion.trajectory import Report

__all__ = [
    "Setting",
    "asked_steps",
    "disable",
    "enable",
    "far_in_steps",
    "report",
    "setting_of",
]

_STEPS = "num_inference_steps"
_FAR = 1.5


@dataclass(frozen=True)
class Setting:
    """How an enabled pipeline runs.

    Attributes:
        policy: decides when the denoiser is called.
        on_step: told of every step.
        calibrated_steps: the fewest and the most steps that the policy was calibrated on, if it
            was: a call far from them warns.
    """

    policy: Policy
    on_step: StepCallback | None = None
    calibrated_steps: tuple[int, int] | None = None


_settings: WeakKeyDictionary[Any, Setting] = WeakKeyDictionary()
_classes: set[type] = set()  # those that enabled pipelines have
_reports: WeakKeyDictionary[Any, Report] = WeakKeyDictionary()


def enable(pipeline: Any, setting: Setting) -> None:
    """From now on the pipeline's calls follow `setting`; an earlier one is replaced.

    Raises:
        UnsupportedPipelineError: if the pipeline can't be served; it is then left as it was.
    """
    check_pipeline(pipeline)
    cls: Any = type(pipeline)
    if cls not in _classes:  # a copy of an enabled pipeline has the class, but no setting
        pipeline.__class__ = _accelerated(cls)
    _settings[pipeline] = setting


def disable(pipeline: Any) -> None:
    """Makes the pipeline exactly what it was; does nothing if it is not enabled."""
    if type(pipeline) in _classes:
        _settings.pop(pipeline, None)
        pipeline.__class__ = type(pipeline).__bases__[0]


def setting_of(pipeline: Any) -> Setting | None:
    """The setting that the pipeline follows, or None if it is not enabled."""
    return _settings.get(pipeline) if type(pipeline) in _classes else None


def report(pipeline: Any) -> Report:
    """What the pipeline's last accelerated call did.

    Raises:
        NoReportError: if there was none.
    """
    try:
        return _reports[pipeline]
    except (KeyError, TypeError):
        raise NoReportError(
            f"{type(pipeline).__name__} has made nothing yet while enabled: "
            "call enable(pipe), then the pipeline"
        ) from None


def asked_steps(pipeline_class: Any, *args: Any, **kwargs: Any) -> Any:
    """How many steps a call with these arguments asks for, None if that is not told."""
    bound = inspect.signature(pipeline_class.__call__).bind_partial(None, *args, **kwargs)
    bound.apply_defaults()
    return {**bound.arguments, **kwargs}.get(_STEPS)


def far_in_steps(asked: int, calibrated: tuple[int, int]) -> str:
    """What to say of a call whose number of steps is far from the calibrated; empty if it isn't."""
    fewest, most = calibrated
    if fewest / _FAR <= asked <= most * _FAR:
        return ""
    span = str(most) if fewest == most else f"{fewest} to {most}"
    return f"the call has {asked} steps, and the profile was calibrated with {span}"


def forget_report(pipeline: Any) -> None:
    """From now on, a report is one of a later call."""
    _reports.pop(pipeline, None)


@functools.cache
def _accelerated(cls: Any) -> Any:
    def call_through(self: Any, *args: Any, **kwargs: Any) -> Any:
        setting = _settings.get(self)
        if setting is None:  # a copy of an enabled pipeline
            return cls.__call__(self, *args, **kwargs)
        steps = asked_steps(cls, *args, **kwargs)
        if steps == 0:
            raise StepsError(f"{_STEPS} must be at least 1: there is nothing to denoise")
        calibrated = setting.calibrated_steps
        if calibrated and isinstance(steps, int) and (line := far_in_steps(steps, calibrated)):
            warnings.warn(line, stacklevel=2)
        modules = denoisers(self)
        generation = Generation(setting.policy, modules, setting.on_step)
        with intercept(generation, modules, schedulers(self)):
            result = cls.__call__(self, *args, **kwargs)
        _reports[self] = generation.finish()
        return result

    subclass = same_named_subclass(cls, call_through)
    _classes.add(subclass)
    return subclass
