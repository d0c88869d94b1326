"""Groups of options: dataclasses whose fields are options that several commands have.

A command names a group as one parameter, and gets an instance of it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from inspect import Parameter, Signature
from typing import Annotated, Any, get_type_hints

import typer

__all__ = ["with_groups"]


def _remember(context: typer.Context, debug: bool) -> bool:
    """Tells `main` about --debug, which shows the error after the command has ended."""
    context.ensure_object(dict)["debug"] = debug
    return debug


_DEBUG = Parameter(
    "debug",
    Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.", callback=_remember)
    ],
)


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer reads it: with the fields of its groups as options, and --debug."""
    own = inspect.signature(command, eval_str=True).parameters
    groups: dict[str, Any] = {
        name: each.annotation for name, each in own.items() if is_dataclass(each.annotation)
    }

    @functools.wraps(command)
    def flat(debug: bool, **given: Any) -> None:
        for name, group in groups.items():
            values = {field.name: given.pop(field.name) for field in fields(group)}
            given[name] = group(**values)
        command(**given)

    parameters: list[Parameter] = []
    for name, parameter in own.items():
        parameters += _options(groups[name]) if name in groups else [parameter]
    parameters = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in [*parameters, _DEBUG]]
    flat.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    flat.__annotations__ = {each.name: each.annotation for each in parameters}
    return flat


def _options(group: Any) -> Iterator[Parameter]:
    types = get_type_hints(group, include_extras=True)
    for field in fields(group):
        yield Parameter(
            field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=types[field.name]
        )
