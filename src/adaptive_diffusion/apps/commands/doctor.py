"""`adaptive-diffusion doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from adaptive_diffusion.apps.commands.options import LoadingOptions
from adaptive_diffusion.apps.inputs import parse_size, read_prompts, writable_file
from adaptive_diffusion.miniatures import ARGUMENTS, GUIDANCE

__all__ = ["doctor"]

_PROMPT = "a red apple"


def doctor(
    model: Annotated[
        str,
        typer.Argument(
            help="A folder, a .safetensors file, a hub id, or a miniature such as emoji.",
            metavar="MODEL",
        ),
    ],
    loading: LoadingOptions,
    prompt: Annotated[
        str | None, typer.Option(help=f'What to draw; "{_PROMPT}" by default.')
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each run.")] = 20,
    guidance: Annotated[
        float | None,
        typer.Option(
            min=0, help="Guidance scale; the miniature's or the pipeline's own by default."
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="512 or 768x512 (width x height); the pipeline's own by default."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every run.")] = 0,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Also write what was found to this file.", metavar="FILE"),
    ] = None,
) -> None:
    """Tests a model on this machine with a few short runs, and shows what to expect.

    Send its output with a bug report. Exit code 1: a promise is broken, or nothing is accelerated.
    """
    from rich.console import Console

    from adaptive_diffusion.apps.loading import load_pipeline
    from adaptive_diffusion.checking import check

    read_prompts([] if prompt is None else [prompt], None)  # raises on an empty one
    width, height = parse_size(size) or (None, None)
    file = None if json_file is None else writable_file(json_file, "--json")
    asked = {"prompt": prompt, "guidance_scale": guidance, "width": width, "height": height}
    with Console(stderr=True).status("loading") as status:
        pipe = load_pipeline(model, loading.options())
        call = _call_of(pipe, model, asked)
        found = check(pipe, steps=steps, seed=seed, notify=status.update, **call)
    if file is not None:
        file.write_text(found.to_json(), encoding="utf-8")
    typer.echo(str(found) if file is None else f"{found}\n\n{file}")
    if not found.ok:
        raise typer.Exit(1)


def _call_of(pipe: Any, model: str, asked: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the call: those asked for, and usual ones that the pipeline takes.

    Raises `ValueError` on one that was asked for and that the pipeline doesn't take.
    """
    from adaptive_diffusion.apps.schedulers import takes

    call = type(pipe).__call__
    given = {name: value for name, value in asked.items() if value is not None}
    for name in given:
        if not takes(call, name):
            raise ValueError(f"{type(pipe).__name__} has no {name}: leave it out")
    usual = {"prompt": _PROMPT, "guidance_scale": GUIDANCE.get(model), **ARGUMENTS.get(model, {})}
    return {
        **{name: v for name, v in usual.items() if v is not None and takes(call, name)},
        **given,
    }
