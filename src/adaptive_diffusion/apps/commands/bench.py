"""`adaptive-diffusion bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adaptive_diffusion.apps.commands.options import Device, Out

__all__ = ["bench"]


def bench(
    suite: Annotated[
        str | None, typer.Argument(help="A suite's name, or a file.", show_default=False)
    ] = None,
    list_suites: Annotated[bool, typer.Option("--list", help="Show the suites.")] = False,
    models: Annotated[
        str | None, typer.Option(help="Only these of the suite: emoji,digits")
    ] = None,
    schedulers: Annotated[str | None, typer.Option(help="Only these: ddim,euler")] = None,
    steps: Annotated[str | None, typer.Option(help="Only these: 28,50")] = None,
    guidance: Annotated[str | None, typer.Option(help="Only these: 1,7.5")] = None,
    rows: Annotated[
        str | None,
        typer.Option(help="Only these families, or rows by pattern: ours,fewer steps,UniPC*"),
    ] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Samples of a cell.")] = None,
    prompts_file: Annotated[
        Path | None,
        typer.Option("--prompts", help="A line per prompt, or MS-COCO's captions.", metavar="FILE"),
    ] = None,
    device: Device = None,
    dtype: Annotated[str | None, typer.Option(help="float32, float16 or bfloat16.")] = None,
    timing: Annotated[
        bool, typer.Option("--timing/--no-timing", help="Also time the rows, without decoding.")
    ] = True,
    timed_samples: Annotated[int, typer.Option(min=1, help="How many to time.")] = 4,
    out: Out = Path("out/bench"),
) -> None:
    """Runs all ways to make the same pictures side by side; resumes where it was interrupted."""
    from rich.console import Console

    from adaptive_diffusion.apps.bench.bench import Choice
    from adaptive_diffusion.apps.bench.bench import bench as run_bench
    from adaptive_diffusion.apps.bench.suite import load_suite, suites
    from adaptive_diffusion.apps.bench.terminal import shown_tables

    if list_suites:
        for name in suites():
            typer.echo(f"{name:12}{load_suite(name).description}")
        return
    if suite is None:
        raise ValueError("say which suite: --list shows them")
    choice = Choice(
        models=_several(models),
        schedulers=_several(schedulers),
        steps=_several(steps),
        guidance=_several(guidance),
        rows=_several(rows),
        samples=samples,
        dtype=dtype,
    )
    cells = run_bench(
        suite,
        choice,
        out,
        prompts=prompts_file,
        device=device,
        timed_samples=timed_samples if timing else 0,
        console=Console(stderr=True),
    )
    for table in shown_tables(cells):
        Console().print(table)
    for name in ("table.md", "summary.json", "results.csv", "plots"):
        typer.echo(out / name)


def _several(words: str | None) -> list[str] | None:
    """The parts of a list with commas."""
    return None if words is None else [word.strip() for word in words.split(",") if word.strip()]
