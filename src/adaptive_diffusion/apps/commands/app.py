"""The command line as a whole. A new command is a file beside this one and a name in the list."""

from __future__ import annotations

from typing import Annotated

import typer

from adaptive_diffusion.apps.commands.batch import batch
from adaptive_diffusion.apps.commands.bench import bench
from adaptive_diffusion.apps.commands.calibrate import calibrate
from adaptive_diffusion.apps.commands.compare import compare
from adaptive_diffusion.apps.commands.doctor import doctor
from adaptive_diffusion.apps.commands.generate import generate
from adaptive_diffusion.apps.commands.groups import with_groups
from adaptive_diffusion.apps.commands.info import info
from adaptive_diffusion.apps.commands.serve import serve
from adaptive_diffusion.apps.commands.ui import ui
from adaptive_diffusion.version import __version__

__all__ = ["app"]

_COMMANDS = (generate, compare, batch, calibrate, bench, serve, ui, doctor, info)

app = typer.Typer(
    help="The picture of the full run in a fraction of the denoiser calls.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in _COMMANDS:
    app.command()(with_groups(_command))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"adaptive-diffusion {__version__}")
        raise typer.Exit


@app.callback()
def _options_of_all(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    pass
