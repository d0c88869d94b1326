"""Every pipeline class that diffusers exports is accounted for, by name."""

from __future__ import annotations

import inspect
import types
import typing
from typing import Any

import pytest
from torch import nn

import adaptive_diffusion as ad
from adaptive_diffusion import UnsupportedPipelineError
from conformance import table, walk


def test_every_class_is_built_refused_or_not_built() -> None:
    sorts = [walk.built(), {*walk.refused()}, {*walk.not_built()}]
    exported = {*walk.exported()}
    assert exported - set().union(*sorts) == set(), "nothing is known of these"
    assert set().union(*sorts) - exported == set(), "diffusers exports no such classes"
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert sorts[one] & sorts[other] == set(), "these are in two sorts"


def test_the_page_is_up_to_date() -> None:
    assert table.text() == table.page(table.rows()), "run: make pipelines"


@pytest.mark.parametrize("name", walk.refused())
def test_what_is_refused_is_refused_by_name_with_the_reason(name: str) -> None:
    pipe = look_alike(walk.exported()[name])
    with pytest.raises(UnsupportedPipelineError, match=name) as error:
        ad.enable(pipe)
    assert walk.refused()[name] in str(error.value)


def look_alike(cls: Any) -> Any:
    """Of the class's name, with hollow components of the types that its constructor asks for."""
    hints = typing.get_type_hints(cls.__init__)
    names = [name for name in inspect.signature(cls.__init__).parameters if name in hints]
    components = {name: hollow(hints[name]) for name in names}
    return type(cls.__name__, (LookAlike,), {})(components)


class LookAlike:
    """Something like a pipeline, which must not be called."""

    def __init__(self, components: dict[str, Any]) -> None:
        self.components = components

    def __call__(self) -> None:
        raise AssertionError("must not be called")


def hollow(hint: Any) -> Any:
    """An object of the type, or of the first that a union names, without any content."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = typing.get_args(hint)[0]
    if not inspect.isclass(hint) or hint.__module__ == "builtins":
        return None
    thing = object.__new__(hint)
    if isinstance(thing, nn.Module):
        nn.Module.__init__(thing)
    return thing
