"""Where the denoiser calls of all requests meet, and become as few calls as possible.

Every request runs its pipeline in a thread of its own. At the denoiser it waits; a thread here
takes the calls that fit together and makes them one. A request whose step is skipped does not come,
so that it waits for nobody. What a request gets does not depend on who else is there, but for
float rounding.

Between two denoiser calls only one request runs at a time, because other parts of a pipeline may
not be safe in threads (tokenizers are not). So the global random state can be each request's own.
Pictures are decoded beside that, one at a time: decoding takes as long as many steps.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn

from adaptive_diffusion.adapters.diffusers.components import denoisers
from adaptive_diffusion.adapters.diffusers.interception import same_named_subclass
from adaptive_diffusion.apps.server.decoding import picture_decoders
from adaptive_diffusion.apps.server.joining import (
    Call,
    are_finite,
    difference,
    join,
    may_join,
    split,
)

__all__ = ["Meeting", "NotFiniteError"]

_logger = logging.getLogger(__name__)

OnCall = Callable[[int, int], None]


class NotFiniteError(ArithmeticError):
    """The denoiser's output for a request alone holds NaN or infinity."""


class _Waiting:
    """A request that waits for its denoiser call."""

    def __init__(self, module: nn.Module, function: Callable[..., Any], call: Call) -> None:
        self.module = module
        self.function = function
        self.call = call
        self.output: Future[Any] = Future()

    @functools.cached_property
    def kind(self) -> Hashable:
        return id(self.module), self.call.layout

    def fail(self, error: BaseException) -> None:
        if not self.output.done():
            self.output.set_exception(error)

    def fits(self, other: _Waiting) -> bool:
        return self.module is other.module and may_join(self.call, other.call)


class Meeting:
    """Joins the denoiser calls of the requests that attend.

    Args:
        largest: rows in one call, at most; one request's own call may be larger.
        patience: how long a call waits for requests that are on their way, as a share of the time
            that the last call took: so waiting costs little, whatever it gains.
        on_call: told of every call's number of requests and rows.
    """

    def __init__(
        self, largest: int = 32, patience: float = 0.1, on_call: OnCall | None = None
    ) -> None:
        self._largest = largest
        self._patience = patience
        self._on_call = on_call
        self._changed = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._attending = 0
        self._is_closed = False
        self._floor = threading.Lock()
        self._decoding = threading.Lock()
        self._present: ContextVar[bool] = ContextVar("present", default=False)
        self._invited: dict[int, tuple[nn.Module, Any]] = {}  # and the classes they had
        self._verdicts: dict[Hashable, bool] = {}  # may calls of this kind be joined?
        self._last_seconds = 0.0
        self._thread = threading.Thread(target=self._serve, name="denoiser", daemon=True)
        self._thread.start()

    def invite(self, pipe: Any) -> None:
        """From now on the pipeline's denoisers, called by a request that attends, are met here."""
        for module in denoisers(pipe):
            self._exchange(module, self._call_together)
        for module in picture_decoders(pipe):
            self._exchange(module, self._call_beside)

    @contextmanager
    def attend(self) -> Iterator[None]:
        """Runs a request's pipeline call, or anything else that must not run beside another."""
        present = self._present.set(True)
        try:
            with self._counted(1), self._floor:
                yield
        finally:
            self._present.reset(present)

    def close(self) -> None:
        """Ends the thread and leaves the denoisers as they were; nobody may attend any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join()
        for module, cls in self._invited.values():
            module.__class__ = cls

    def _exchange(self, module: nn.Module, instead: Callable[..., Any]) -> None:
        """Leads the calls of a request that attends to `instead`."""
        if id(module) in self._invited:
            return
        cls: Any = type(module)

        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            function = functools.partial(cls.__call__, module)
            if not self._present.get():
                return function(*args, **kwargs)
            return instead(module, function, args, kwargs)

        self._invited[id(module)] = module, cls
        module.__class__ = same_named_subclass(cls, call)

    def _call_together(
        self, module: nn.Module, function: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        waiting = _Waiting(module, function, Call(args, kwargs))
        with self._left_floor():
            with self._changed:
                self._waiting.append(waiting)
                self._changed.notify_all()
            return waiting.output.result()

    def _call_beside(
        self, module: nn.Module, function: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        with self._counted(-1), self._left_floor(), self._decoding:
            return function(*args, **kwargs)

    @contextmanager
    def _counted(self, more: int) -> Iterator[None]:
        """Meanwhile so many more requests may come to the denoiser, or fewer."""
        self._count_attending(more)
        try:
            yield
        finally:
            self._count_attending(-more)

    def _count_attending(self, more: int) -> None:
        with self._changed:
            self._attending += more
            self._changed.notify_all()

    @contextmanager
    def _left_floor(self) -> Iterator[None]:
        random_state = _random_state()
        self._floor.release()
        try:
            yield
        finally:
            self._floor.acquire()
            _restore_random_state(random_state)

    def _serve(self) -> None:
        with torch.no_grad():
            while group := self._next_group():
                began = time.perf_counter()
                try:
                    self._evaluate(group)
                except Exception as error:  # whatever it is, nobody may wait for ever
                    for waiting in group:
                        waiting.fail(error)
                self._last_seconds = time.perf_counter() - began
                del group  # its tensors

    def _next_group(self) -> list[_Waiting]:
        """The longest waiting call with those that fit it; empty once the meeting is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            self._changed.wait_for(
                lambda: len(self._waiting) == self._attending,
                timeout=self._patience * self._last_seconds,
            )
            group = self._choose()
            self._waiting = [waiting for waiting in self._waiting if waiting not in group]
            return group

    def _choose(self) -> list[_Waiting]:
        group = self._waiting[:1]
        rows = sum(waiting.call.rows for waiting in group)
        for waiting in self._waiting[1:]:
            verdict = self._verdicts.get(group[0].kind)
            if verdict is False or (verdict is None and len(group) == 2):
                break
            if rows + waiting.call.rows <= self._largest and group[0].fits(waiting):
                group.append(waiting)
                rows += waiting.call.rows
        return group

    def _evaluate(self, group: list[_Waiting]) -> None:
        if len(group) == 1:
            self._evaluate_alone(group[0])
        elif group[0].kind not in self._verdicts:
            self._try_joining(group)
        elif (outputs := self._outputs(group)) is not None:
            for waiting, output in zip(group, outputs, strict=True):
                waiting.output.set_result(output)
        else:
            middle = len(group) // 2
            self._evaluate(group[:middle])
            self._evaluate(group[middle:])

    def _evaluate_alone(self, waiting: _Waiting) -> None:
        try:
            waiting.output.set_result(self._output(waiting))
        except BaseException as error:
            waiting.fail(error)

    def _output(self, waiting: _Waiting) -> Any:
        self._count([waiting])
        output = waiting.function(*waiting.call.args, **waiting.call.kwargs)
        if not are_finite(output):
            raise NotFiniteError("the denoiser gave values that are not finite (NaN or infinity)")
        return output

    def _outputs(self, group: list[_Waiting]) -> list[Any] | None:
        """Each request's output of the joined call; None if that failed, for whatever reason."""
        self._count(group)
        calls = [waiting.call for waiting in group]
        try:
            args, kwargs = join(calls)
            outputs = split(group[0].function(*args, **kwargs), calls)
            if all(map(are_finite, outputs)):
                return outputs
            reason = "values that are not finite"
        except torch.cuda.OutOfMemoryError as error:
            self._largest = max(1, sum(call.rows for call in calls) // 2)
            reason = f"{error}; from now on at most {self._largest} rows"
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
        _logger.warning("a call for %d requests is done again in halves: %s", len(group), reason)
        return None

    def _try_joining(self, group: list[_Waiting]) -> None:
        """Serves the requests one by one, and finds out whether that can be told from joining."""
        together = self._outputs(group)
        try:
            alone = [self._output(waiting) for waiting in group]
        except Exception:
            for waiting in group:
                self._evaluate_alone(waiting)
            return
        if difference(*alone) > 1:  # else a mix of the two could not be seen
            joinable = together is not None and all(
                difference(*pair) < 1 for pair in zip(together, alone, strict=True)
            )
            self._verdicts[group[0].kind] = joinable
            if not joinable:
                name = type(group[0].module).__name__
                _logger.warning("requests of %s can't be batched: its rows are not alone", name)
        for waiting, output in zip(group, alone, strict=True):
            waiting.output.set_result(output)

    def _count(self, group: list[_Waiting]) -> None:
        if self._on_call is not None:
            self._on_call(len(group), sum(waiting.call.rows for waiting in group))


def _random_state() -> list[torch.Tensor]:
    states = [torch.get_rng_state()]
    if torch.cuda.is_initialized():
        states.append(torch.cuda.get_rng_state())
    return states


def _restore_random_state(states: list[torch.Tensor]) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1])
