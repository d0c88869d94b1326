"""Writes the site's page about the command line, from the declarations of its options."""

from __future__ import annotations

import inspect
from enum import Enum
from typing import Any

from mkdocs.structure.files import File, Files
from typer.main import get_command

from adaptive_diffusion.apps.commands.app import app

_INTRODUCTION = """\
# Command line

`adaptive-diffusion COMMAND --help` shows the same in a terminal. An error is one line and
exit code 2. `--debug` shows where it came from.
"""


def on_files(files: Files, config: Any) -> Files:
    """Adds the page."""
    commands: dict[str, Any] = get_command(app).commands
    text = "\n".join([_INTRODUCTION, *map(_section, commands.values())])
    files.append(File.generated(config, "command-line.md", content=text))
    return files


def _section(command: Any) -> str:
    title = f"## {command.name}\n\n{inspect.cleandoc(command.help)}\n"
    return "\n".join(
        [title, "| option | default | |", "|---|---|---|", *map(_row, command.params), ""]
    )


def _row(option: Any) -> str:
    cells = (f"`{_name(option)}`", _default(option.default), option.help or "")
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _name(option: Any) -> str:
    if option.param_type_name == "argument":
        return option.metavar or option.name.upper()
    names = "/".join([*option.opts[:1], *option.secondary_opts[:1]])
    return f"{names} {option.metavar}" if option.metavar else names


def _default(value: Any) -> str:
    if value is None or isinstance(value, bool) or callable(value):
        return ""
    return f"`{value.value if isinstance(value, Enum) else value}`"
