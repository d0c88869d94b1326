"""Groups of options, as Typer and the commands see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from adaptive_diffusion.apps.commands.app import app as real_app
from adaptive_diffusion.apps.commands.groups import with_groups


@dataclass(frozen=True)
class Base:
    """A group."""

    names: Annotated[list[str] | None, typer.Argument(help="Names.")] = None
    count: Annotated[int, typer.Option(min=1)] = 2


@dataclass(frozen=True)
class More(Base):
    """The group with one more option, which has another name than its field."""

    size_text: Annotated[str | None, typer.Option("--size")] = None


def run(*arguments: str) -> tuple[int, list[Any]]:
    """The exit code, and what the command was called with."""
    called: list[Any] = []

    def command(group: More, out: Annotated[str, typer.Option()] = "x") -> None:
        """Does something."""
        called.extend((group, out))

    app = typer.Typer()
    app.command()(with_groups(command))
    return CliRunner().invoke(app, arguments).exit_code, called


def test_a_command_gets_its_groups():
    assert run() == (0, [More(), "x"])
    assert run("a", "b", "--count", "3", "--size", "9", "--out", "y") == (
        0,
        [More(["a", "b"], 3, "9"), "y"],
    )


def test_what_a_group_refuses_is_refused():
    assert run("--count", "0") == (2, [])
    assert run("--size-text", "9") == (2, [])


@pytest.mark.parametrize(
    "command", real_app.registered_commands, ids=lambda each: each.callback.__name__
)
def test_every_command_has_help_and_debug(command):
    name = command.callback.__name__
    shown = CliRunner().invoke(real_app, [name, "--help"], env={"COLUMNS": "120"}).output
    assert "--debug" in shown
    assert command.callback.__doc__.splitlines()[0].split(":")[0] in shown
