"""Leading denoiser calls and scheduler steps through the generation that is active.

While a generation runs, another call stands before those of its modules, and the `step` and
`set_timesteps` of its schedulers' classes are wrapped. Both look up the active generation in a
context variable, so that the same modules and schedulers, called from another thread or by
nobody's pipeline, run untouched. When the last generation that needs them ends, all is undone.

`nn.Module.__call__` looks in the instance for another implementation of the call, where
`.compile()` puts its own; that is where ours goes. The module keeps its class, which compiled code
relies on: it would be compiled again for another one. Only a class that has a `__call__` of its own
is exchanged, for a same-named subclass.
"""

from __future__ import annotations

import functools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from torch import nn

__all__ = ["Interceptor", "intercept", "same_named_subclass"]


class Interceptor(Protocol):
    """What denoiser calls and scheduler calls are led through."""

    def call_denoiser(
        self, module: nn.Module, call: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        """Stands in for `call(*args, **kwargs)`."""

    def step(self, scheduler: Any, step: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Stands in for `step(scheduler, *args, **kwargs)`."""

    def set_timesteps(
        self, scheduler: Any, set_timesteps: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        """Stands in for `set_timesteps(scheduler, *args, **kwargs)`."""


_active: ContextVar[tuple[Interceptor, frozenset[int]] | None] = ContextVar("active", default=None)
_lock = threading.RLock()
_users: Counter[tuple[str, int]] = Counter()
_undo: dict[tuple[str, int], Callable[[], None]] = {}
_WRAPPED = ("step", "set_timesteps")


@contextmanager
def intercept(
    interceptor: Interceptor, modules: list[nn.Module], schedulers: list[Any]
) -> Iterator[None]:
    """Leads the calls of these modules and schedulers through the interceptor, in this context."""
    with ExitStack() as stack:
        for module in modules:
            stack.enter_context(_led_through(module))
        for scheduler in schedulers:
            stack.enter_context(_wrapped(type(scheduler)))
        token = _active.set((interceptor, frozenset(map(id, modules))))
        stack.callback(_active.reset, token)
        yield


def _interceptor_of(module: nn.Module) -> Interceptor | None:
    active = _active.get()
    return active[0] if active is not None and id(module) in active[1] else None


def _untouched(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, run as if nothing were active: what it calls itself is not intercepted."""

    def run(*args: Any, **kwargs: Any) -> Any:
        token = _active.set(None)
        try:
            return function(*args, **kwargs)
        finally:
            _active.reset(token)

    run.__wrapped__ = function  # type: ignore[attr-defined]  # keeps the signature
    return run


# one for each method, so that what is known of it (its signature) need not be found out again
_untouched_method = functools.cache(_untouched)


@contextmanager
def _shared(key: tuple[str, int], apply: Callable[[], Callable[[], None]]) -> Iterator[None]:
    """Applies a change for its first user, and undoes it after its last.

    `apply` returns what undoes it.
    """
    with _lock:
        if not _users[key]:
            _undo[key] = apply()
        _users[key] += 1
    try:
        yield
    finally:
        with _lock:
            _users[key] -= 1
            if not _users[key]:
                del _users[key]
                _undo.pop(key)()


def same_named_subclass(cls: Any, call: Callable[..., Any]) -> Any:
    """A subclass that differs from `cls` in what calling its instances does, and in nothing else.

    Giving an object this class changes its calls, and survives whatever is done to its methods.
    """
    functools.update_wrapper(call, cls.__call__)
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, (cls,), {"__call__": call, **names})


def _led_through(module: nn.Module) -> AbstractContextManager[None]:
    is_usual = type(module).__call__ is nn.Module.__call__
    return _shared(
        ("module", id(module)),
        functools.partial(_put_before if is_usual else _exchange_class, module),
    )


def _put_before(module: Any) -> Callable[[], None]:
    compiled = vars(module).get("_compiled_call_impl")
    call = module._call_impl if compiled is None else compiled

    def call_through(*args: Any, **kwargs: Any) -> Any:
        return _call_through(module, call, args, kwargs)

    module._compiled_call_impl = call_through

    def undo() -> None:
        if compiled is None:
            del module._compiled_call_impl
        else:
            module._compiled_call_impl = compiled

    return undo


def _exchange_class(module: nn.Module) -> Callable[[], None]:
    cls: Any = type(module)
    module.__class__ = _subclass(cls)
    return lambda: setattr(module, "__class__", cls)


@functools.cache
def _subclass(cls: Any) -> Any:
    def call_through(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return _call_through(self, functools.partial(cls.__call__, self), args, kwargs)

    return same_named_subclass(cls, call_through)


def _call_through(
    module: nn.Module, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    interceptor = _interceptor_of(module)
    if interceptor is None:
        return call(*args, **kwargs)
    return interceptor.call_denoiser(module, _untouched(call), args, kwargs)


def _wrapped(cls: type) -> AbstractContextManager[None]:
    def apply() -> Callable[[], None]:
        own = {name: cls.__dict__[name] for name in _WRAPPED if name in cls.__dict__}
        for name in _WRAPPED:
            setattr(cls, name, _wrapper(name, getattr(cls, name)))

        def undo() -> None:
            for name in _WRAPPED:
                if name in own:
                    setattr(cls, name, own[name])
                else:
                    delattr(cls, name)

        return undo

    return _shared(("scheduler", id(cls)), apply)


def _wrapper(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    untouched = _untouched_method(method)

    @functools.wraps(method)
    def wrapper(scheduler: Any, *args: Any, **kwargs: Any) -> Any:
        active = _active.get()
        if active is None:
            return method(scheduler, *args, **kwargs)
        return getattr(active[0], name)(scheduler, untouched, args, kwargs)

    return wrapper
