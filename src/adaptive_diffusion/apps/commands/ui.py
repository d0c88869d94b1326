"""`adaptive-diffusion ui`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from adaptive_diffusion.apps.commands.options import LoadingOptions, NamedProfiles

__all__ = ["ui"]

_PORTS = range(7860, 7960)


def ui(
    loading: LoadingOptions,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="A folder, a .safetensors file, a hub id, or a miniature. Repeatable.",
            metavar="MODEL",
        ),
    ] = None,
    controlnet: Annotated[
        str | None,
        typer.Option(
            help="A ControlNet for the model; the page takes its picture.", metavar="FOLDER_OR_ID"
        ),
    ] = None,
    profiles: NamedProfiles = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="0 takes a free one; the first free from 7860 by default."
        ),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open a browser.")
    ] = False,
) -> None:
    """Shows a page where full and accelerated runs go side by side, as they are made."""
    from rich.console import Console

    from adaptive_diffusion.apps import addresses
    from adaptive_diffusion.apps.loading import locate
    from adaptive_diffusion.apps.profiles import Profiles
    from adaptive_diffusion.miniatures import pipeline_miniatures

    names = models or sorted(pipeline_miniatures(), key=lambda name: name != "emoji")
    if controlnet is not None and len(names) > 1:
        raise ValueError("--controlnet is for one model: say which with one --model")
    options = replace(loading.options(), controlnet=controlnet)
    options.check()
    for name in names:
        locate(name)  # raises on one that can't be loaded, before seconds of imports
    found = Profiles.of_options(names, profiles or [], loading.revision)
    with addresses.take(host, _PORTS if port is None else [port]) as taken:
        with Console(stderr=True).status("loading"):
            from adaptive_diffusion.apps.page.models import Models
            from adaptive_diffusion.apps.page.page import launch, make_app

            app = make_app(Models(names, options, found))
        launch(app, taken, typer.echo, open_browser=browser)
