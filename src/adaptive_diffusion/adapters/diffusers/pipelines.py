"""Switching the acceleration of a pipeline on and off.

An enabled pipeline has a same-named subclass of its class, whose call makes a generation. Nothing
else of it is changed while it rests; `disable` gives it its class back. A copy of it, or what comes
out of a pickle, is a plain pipeline.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import types
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from adaptive_diffusion.adapters.diffusers.components import (
    candidates,
    check_pipeline,
    schedulers,
)
from adaptive_diffusion.adapters.diffusers.generation import Generation, StepCallback
from adaptive_diffusion.adapters.diffusers.interception import (
    intercept,
    same_named_subclass,
    untouched,
)
from adaptive_diffusion.errors import NoReportError, StepsError
from adaptive_diffusion.policies import Policy
from adaptive_diffusion.trajectory import Report
from adaptive_diffusion.trajectory.stream import Stream
from adaptive_diffusion.trajectory.trajectory import StreamMaker

__all__ = [
    "Calibrated",
    "Setting",
    "Settings",
    "asked_steps",
    "disable",
    "enable",
    "far_in_guidance",
    "far_in_steps",
    "plain",
    "report",
    "setting_of",
]

_STEPS = "num_inference_steps"
_GUIDANCE = "guidance_scale"
_OTHER_WAYS = ("timesteps", "sigmas")  # to say how many steps there are
_FAR = 1.5


class Calibrated(Protocol):
    """What is asked of the profile that a policy is from."""

    @property
    def steps(self) -> tuple[int, int]:
        """The fewest and the most of the calls that it was made with."""

    @property
    def guidance(self) -> float | None:
        """Their guidance scale, or None if it was not given or does not count."""


@dataclass(frozen=True)
class Setting:
    """How a call of an enabled pipeline runs.

    Attributes:
        policy: decides when the denoiser is called.
        on_step: told of every step.
        calibrated: the profile that the policy is from, if it is: a call far from that warns.
        make_stream: makes what leads outputs and samples on; a measurement has others.
        at_end: called when the pipeline's call has come to its end; what to note of it, or nothing.
    """

    policy: Policy
    on_step: StepCallback | None = None
    calibrated: Calibrated | None = None
    make_stream: StreamMaker = Stream
    at_end: Callable[[], str] = lambda: ""

    def of_call(self, pipeline: Any, guidance: Any) -> Setting:
        """The same for every call."""
        return self


class Settings(Protocol):
    """How an enabled pipeline runs: every call the same, or each as it comes."""

    def of_call(self, pipeline: Any, guidance: Any) -> Setting:
        """How the call that begins runs; it has this guidance scale, if any."""


_settings: WeakKeyDictionary[Any, Settings] = WeakKeyDictionary()
_reports: WeakKeyDictionary[Any, Report] = WeakKeyDictionary()
_running: ContextVar[tuple[tuple[int, Generation], ...]] = ContextVar("running", default=())


def enable(pipeline: Any, setting: Settings) -> None:
    """From now on the pipeline's calls follow `setting`; an earlier one is replaced.

    Raises:
        UnsupportedPipelineError: if the pipeline can't be served; it is then left as it was.
    """
    check_pipeline(pipeline)
    if not _is_accelerated(pipeline):
        pipeline.__class__ = _accelerated(type(pipeline))
    _settings[pipeline] = setting


def disable(pipeline: Any) -> None:
    """Makes the pipeline exactly what it was; does nothing if it is not enabled."""
    if _is_accelerated(pipeline):
        _settings.pop(pipeline, None)
        pipeline.__class__ = type(pipeline).__bases__[0]


def setting_of(pipeline: Any) -> Settings | None:
    """The setting that the pipeline follows, or None if it is not enabled."""
    return _settings.get(pipeline) if _is_accelerated(pipeline) else None


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


@contextmanager
def plain(pipeline: Any) -> Iterator[None]:
    """The pipeline is not enabled; its setting and its report come back afterwards."""
    setting, filed = setting_of(pipeline), _reports.get(pipeline)
    disable(pipeline)
    try:
        yield
    finally:
        disable(pipeline)
        if setting is not None:
            enable(pipeline, setting)
        forget_report(pipeline)
        if filed is not None:
            _reports[pipeline] = filed


def asked_steps(pipeline_class: Any, *args: Any, **kwargs: Any) -> Any:
    """How many steps a call with these arguments asks for, None if that is not told.

    A loop may have another number: where timesteps are given, or one starts in the middle.
    """
    given = _bound(pipeline_class, args, kwargs)
    if any(given.get(name) is not None for name in _OTHER_WAYS):
        return None
    return given.get(_STEPS)


def _bound(pipeline_class: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """All arguments of a call by name, as far as its signature tells them."""
    try:
        bound = inspect.signature(pipeline_class.__call__).bind_partial(None, *args, **kwargs)
    except TypeError:  # a wrapper that takes more than the signature says
        return dict(kwargs)
    bound.apply_defaults()
    return {**bound.arguments, **kwargs}


def far_in_steps(asked: int, calibrated: tuple[int, int]) -> str:
    """What to say of a loop whose number of steps is far from the calibrated; empty if it isn't."""
    fewest, most = calibrated
    if fewest / _FAR <= asked <= most * _FAR:
        return ""
    span = str(most) if fewest == most else f"{fewest} to {most}"
    return f"the call has {asked} steps, and the profile was made with {span}"


def far_in_guidance(asked: Any, measured: float | None) -> str:
    """The same of a guidance scale; empty also where either is not known."""
    if measured is None or not isinstance(asked, int | float):
        return ""
    if max(measured, 1.0) / _FAR <= max(asked, 1.0) <= max(measured, 1.0) * _FAR:
        return ""
    return f"the call has guidance {asked:g}, and the profile was made with {measured:g}"


def forget_report(pipeline: Any) -> None:
    """From now on, a report is one of a later call."""
    _reports.pop(pipeline, None)


def _is_accelerated(pipeline: Any) -> bool:
    return "_is_accelerated" in vars(type(pipeline))


def _accelerated(cls: Any) -> Any:
    def call_through(self: Any, *args: Any, **kwargs: Any) -> Any:
        setting = _settings.get(self)
        if setting is None:  # made by somebody from the class of an enabled pipeline
            return cls.__call__(self, *args, **kwargs)
        if asked_steps(cls, *args, **kwargs) == 0:
            raise StepsError(f"{_STEPS} must be at least 1: there is nothing to denoise")
        guidance = _bound(cls, args, kwargs).get(_GUIDANCE)
        run = _Run(self, setting.of_call(self, guidance), guidance)
        with _callbacks_apart(cls, args, kwargs) as (args, kwargs), run.active():
            result = cls.__call__(self, *args, **kwargs)
        if isinstance(result, types.GeneratorType):
            return run.through(result)
        if inspect.iscoroutine(result):
            return run.awaited(result)
        run.finish()
        return result

    subclass = same_named_subclass(cls, call_through)
    subclass._is_accelerated = True
    return subclass


class _Run:
    """One call of an enabled pipeline, whose loop may go on after the call has returned."""

    def __init__(self, pipeline: Any, setting: Setting, guidance: Any = None) -> None:
        self._pipeline = pipeline
        self._at_end = setting.at_end
        self._modules = candidates(pipeline)
        self._generation = Generation(
            pipeline,
            setting.policy,
            self._modules,
            setting.on_step,
            functools.partial(_check_loop, setting.calibrated, guidance),
            setting.make_stream,
        )

    @contextmanager
    def active(self) -> Iterator[None]:
        """The time in which the pipeline's own code runs."""
        outer = _running.get()
        token = _running.set((*outer, (id(self._pipeline), self._generation)))
        try:
            with intercept(self._generation, self._modules, schedulers(self._pipeline)):
                yield
        finally:
            _running.reset(token)
            self._generation.close()

    def through(self, results: Generator[Any, Any, Any]) -> Iterator[Any]:
        """What the pipeline yields, one by one."""
        ended = False
        try:
            while True:
                with self.active():
                    result = next(results, _END)
                if result is _END:
                    ended = True
                    break
                yield result
        finally:
            results.close()
            self.finish(ended)

    async def awaited(self, result: Any) -> Any:
        """What the pipeline returns in the end."""
        with self.active():
            value = await result
        self.finish()
        return value

    def finish(self, ended: bool = True) -> None:
        """Files the report. The result has been made, and nothing here may lose it."""
        report = self._generation.finish(self._at_end() if ended else "")
        _reports[self._pipeline] = report
        same = [each for key, each in _running.get() if key == id(self._pipeline)]
        if same:
            same[-1].adopt(report)
        if not report.steps:
            warnings.warn("; ".join(report.notes), stacklevel=4)


_END: Any = object()


def _check_loop(calibrated: Calibrated | None, guidance: Any, steps: int) -> str:
    if calibrated is None:
        return ""
    lines = [far_in_steps(steps, calibrated.steps), far_in_guidance(guidance, calibrated.guidance)]
    line = "; ".join(filter(None, lines))
    if line:
        warnings.warn(line, stacklevel=2)
    return line


@contextmanager
def _callbacks_apart(
    cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """A call's arguments, with callbacks whose questions to the denoiser are their own."""
    names = [*inspect.signature(cls.__call__).parameters][1:]
    with ExitStack() as stack:

        def apart(name: str, value: Any) -> Any:
            if "callback" not in name or not callable(value):
                return value
            if inspect.isroutine(value) or isinstance(value, functools.partial):
                return functools.update_wrapper(untouched(value), value)
            stack.enter_context(_called_apart(value))  # the pipeline may know it by its class
            return value

        placed = itertools.zip_longest(names[: len(args)], args, fillvalue="")
        yield (
            tuple(apart(name, value) for name, value in placed),
            {name: apart(name, value) for name, value in kwargs.items()},
        )


@contextmanager
def _called_apart(value: Any) -> Iterator[None]:
    cls = type(value)
    call: Callable[..., Any] = untouched(cls.__call__)

    def call_through(self: Any, *args: Any, **kwargs: Any) -> Any:
        return call(self, *args, **kwargs)

    try:
        value.__class__ = same_named_subclass(cls, call_through)
    except TypeError:
        yield
        return
    try:
        yield
    finally:
        value.__class__ = cls
