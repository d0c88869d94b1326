"""Leading denoiser calls and scheduler steps through the generation that is active.

While a generation runs, another call stands before those of its modules, and the `step` and
`set_timesteps` of its schedulers' classes are wrapped. Both look up the active generation in a
context variable, so that the same modules and schedulers, called from another thread or by
nobody's pipeline, run untouched. When the last generation that needs them ends, all is undone.

`nn.Module.__call__` looks in the instance for another implementation of the call, where
`.compile()` puts its own; that is where ours goes. The module keeps its class, which compiled code
relies on: it would be compiled again for another one. Only what has a `__call__` of its own gets
another class, a same-named subclass. A scheduler whose `step` is an attribute of the instance has
that attribute wrapped.
"""

from __future__ import annotations

import copyreg
import functools
import inspect
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from torch import nn

__all__ = ["Interceptor", "intercept", "same_named_subclass", "untouched"]


class Interceptor(Protocol):
    """What denoiser calls and scheduler calls are led through."""

    def call_denoiser(self, module: Any, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Stands in for `call(*args, **kwargs)`."""

    def step(self, scheduler: Any, step: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Stands in for `step(scheduler, *args, **kwargs)`."""

    def set_timesteps(
        self, scheduler: Any, set_timesteps: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        """Stands in for `set_timesteps(scheduler, *args, **kwargs)`."""

    def hear_elsewhere(self) -> None:
        """Learns that a module of its own was called where it is not active: in another thread."""


_Active = tuple[Interceptor, frozenset[int]]
_active: ContextVar[_Active | None] = ContextVar("active")  # None: nothing, on purpose
_SUBCLASS = "_adaptive_diffusion_subclass"
_ELSEWHERE: Any = object()
_lock = threading.RLock()
_running: list[_Active] = []
_users: Counter[tuple[str, int]] = Counter()
_undo: dict[tuple[str, int], Callable[[], None]] = {}
_WRAPPED = frozenset({"step", "set_timesteps"})


@contextmanager
def intercept(
    interceptor: Interceptor, modules: Iterable[Any], schedulers: Iterable[Any]
) -> Iterator[None]:
    """Leads the calls of these modules and schedulers through the interceptor, in this context."""
    modules = list(modules)
    with ExitStack() as stack:
        for module in modules:
            stack.enter_context(_led_through(module))
        for scheduler in schedulers:
            stack.enter_context(_wrapped(scheduler))
        active = (interceptor, frozenset(map(id, modules)))
        _running.append(active)
        stack.callback(_running.remove, active)
        token = _active.set(active)
        stack.callback(_active.reset, token)
        yield


def _interceptor_of(module: Any) -> Interceptor | None:
    active = _active.get(None)
    return active[0] if active is not None and id(module) in active[1] else None


def _tell_others(module: Any) -> None:
    """Nothing is known of this thread: somebody else's call, or one that was passed on to it."""
    for interceptor, modules in list(_running):
        if id(module) in modules:
            interceptor.hear_elsewhere()


def untouched(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, run as if nothing were active: what it calls itself is not intercepted."""

    def run(*args: Any, **kwargs: Any) -> Any:
        token = _active.set(None)
        try:
            return function(*args, **kwargs)
        finally:
            _active.reset(token)

    run.__wrapped__ = function  # type: ignore[attr-defined]  # keeps the signature
    return run


@contextmanager
def _shared(key: tuple[str, int], apply: Callable[[], Callable[[], None]]) -> Iterator[None]:
    """Applies a change for its first user, and undoes it after its last.

    `apply` returns what undoes it. A result that has been made is not lost if that fails.
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
                try:
                    _undo.pop(key)()
                except Exception as error:
                    warnings.warn(f"a {key[0]} could not be put back: {error!r}", stacklevel=2)


def same_named_subclass(cls: Any, call: Callable[..., Any]) -> Any:
    """A subclass that differs from `cls` in what calling its instances does, and in nothing else.

    Giving an object this class changes its calls, and survives whatever is done to its methods.
    Copied or pickled, the object is one of `cls`.
    """
    functools.update_wrapper(call, cls.__call__)

    def reduce(self: Any, protocol: Any) -> Any:
        reduced = cls.__reduce_ex__(self, protocol)
        if isinstance(reduced, str):
            return reduced
        function, given, *state = reduced
        if function is copyreg.__newobj__:  # type: ignore[attr-defined]  # insists on the class
            function, given = cls.__new__, (cls, *given[1:])
        return function, tuple(cls if each is subclass else each for each in given), *state

    names = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "__reduce_ex__": reduce,
    }
    subclass: Any = type(cls.__name__, (cls,), {"__call__": call, **names})
    return subclass


def _led_through(module: Any) -> AbstractContextManager[None]:
    is_usual = type(module).__call__ is nn.Module.__call__
    return _shared(
        ("module", id(module)),
        functools.partial(_put_before if is_usual else _exchange_class, module),
    )


def _put_before(module: Any) -> Callable[[], None]:
    own = vars(module)  # scripted modules take no new attributes, but have this, too
    compiled = own.get("_compiled_call_impl")
    call = module._call_impl if compiled is None else compiled

    def call_through(*args: Any, **kwargs: Any) -> Any:
        return _call_through(module, call, args, kwargs)

    own["_compiled_call_impl"] = call_through

    def undo() -> None:
        if compiled is None:
            own.pop("_compiled_call_impl", None)
        else:
            own["_compiled_call_impl"] = compiled

    return undo


def _exchange_class(module: Any) -> Callable[[], None]:
    cls: Any = type(module)
    try:
        module.__class__ = _led_through_class(cls)
    except TypeError:  # not made in Python: its calls are not seen, and the report says so
        return lambda: None
    return lambda: setattr(module, "__class__", cls)


def _led_through_class(cls: Any) -> Any:
    """Always the same one, which compiled code relies on; it lives as long as `cls`."""
    if _SUBCLASS not in vars(cls):

        def call_through(self: Any, *args: Any, **kwargs: Any) -> Any:
            return _call_through(self, functools.partial(cls.__call__, self), args, kwargs)

        setattr(cls, _SUBCLASS, same_named_subclass(cls, call_through))
    return vars(cls)[_SUBCLASS]


def _call_through(
    module: Any, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    interceptor = _interceptor_of(module)
    if interceptor is not None:
        return interceptor.call_denoiser(module, untouched(call), args, kwargs)
    if _active.get(_ELSEWHERE) is _ELSEWHERE:
        _tell_others(module)
    return call(*args, **kwargs)


@contextmanager
def _wrapped(scheduler: Any) -> Iterator[None]:
    names = set(_WRAPPED & getattr(scheduler, "__dict__", {}).keys())
    cls = type(scheduler)
    with ExitStack() as stack:
        stack.enter_context(_shared(("scheduler class", id(cls)), functools.partial(_wrap, cls)))
        if names:
            wrap = functools.partial(_wrap_instance, scheduler, names)
            stack.enter_context(_shared(("scheduler", id(scheduler)), wrap))
        yield


def _wrap(cls: type) -> Callable[[], None]:
    wrapped = [name for name in _WRAPPED if hasattr(cls, name)]
    own = {name: cls.__dict__[name] for name in wrapped if name in cls.__dict__}
    for name in wrapped:
        setattr(cls, name, _wrapper(name, getattr(cls, name)))

    def undo() -> None:
        for name in wrapped:
            if name in own:
                setattr(cls, name, own[name])
            else:
                delattr(cls, name)

    return undo


def _wrap_instance(scheduler: Any, names: set[str]) -> Callable[[], None]:
    own = {name: vars(scheduler)[name] for name in names}
    for name, method in own.items():
        vars(scheduler)[name] = functools.partial(_wrapper(name, _unbound(method)), scheduler)
    return lambda: vars(scheduler).update(own)


def _unbound(method: Callable[..., Any]) -> Callable[..., Any]:
    """A function of an instance as a method: with the instance, which it does without, in front."""

    @functools.wraps(method)
    def function(scheduler: Any, *args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs)

    function.__signature__ = _with_self(method)  # type: ignore[attr-defined]
    return function


def _wrapper(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    alone = untouched(method)

    @functools.wraps(method)
    def wrapper(scheduler: Any, *args: Any, **kwargs: Any) -> Any:
        active = _active.get(None)
        if active is None:
            return method(scheduler, *args, **kwargs)
        return getattr(active[0], name)(scheduler, alone, args, kwargs)

    return wrapper


def _with_self(method: Callable[..., Any]) -> inspect.Signature:
    signature = inspect.signature(method)
    first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    given = [each for each in signature.parameters.values() if each.name != "self"]
    return signature.replace(parameters=[first, *given])
