"""Writes the site's page about the command line, from the declarations of its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import Enum
from typing import Any, get_args

from mkdocs.structure.files import File, Files
from typer.models import ArgumentInfo

from adaptive_diffusion.apps.commands.app import app

_INTRODUCTION = """\
# Command line

`adaptive-diffusion COMMAND --help` shows the same in a terminal. An error is one line and exit code
2; `--debug` shows where it came from.
"""


def on_files(files: Files, config: Any) -> Files:
    """Adds the page."""
    commands = [each.callback for each in app.registered_commands if each.callback]
    text = "\n".join([_INTRODUCTION, *map(_section, commands)])
    files.append(File.generated(config, "command-line.md", content=text))
    return files


def _section(command: Callable[..., Any]) -> str:
    rows = [_row(each) for each in inspect.signature(command).parameters.values()]
    return "\n".join(
        [
            f"## {command.__name__}\n",
            f"{inspect.getdoc(command)}\n",
            "| option | default | |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def _row(parameter: inspect.Parameter) -> str:
    declared = get_args(parameter.annotation)[1]
    cells = (_name(parameter, declared), _default(parameter.default), declared.help or "")
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _name(parameter: inspect.Parameter, declared: Any) -> str:
    if isinstance(declared, ArgumentInfo):
        return f"`{declared.metavar or parameter.name.upper()}`"
    names = declared.param_decls or [f"--{parameter.name.replace('_', '-')}"]
    value = f" {declared.metavar}" if declared.metavar else ""
    return f"`{names[0]}{value}`"


def _default(value: Any) -> str:
    if value in (None, inspect.Parameter.empty) or isinstance(value, bool):
        return ""
    return f"`{value.value if isinstance(value, Enum) else value}`"
