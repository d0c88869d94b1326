"""`adaptive-diffusion compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adaptive_diffusion.apps.commands.options import (
    CallOptions,
    ModelOptions,
    Out,
    PolicyOptions,
    PromptOptions,
)
from adaptive_diffusion.apps.inputs import writable_folder

__all__ = ["compare"]


def compare(
    wanted: PromptOptions,
    model: ModelOptions,
    call: CallOptions,
    policy: PolicyOptions,
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs; the median counts.")] = 1,
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines/--no-baselines",
            help="Also search for the paper's rule at the same number of calls: up to eight more "
            "runs per sample.",
        ),
    ] = False,
    out: Out = Path("out"),
) -> None:
    """Measures full, accelerated and fewer steps: compare.png, report.json and a table.

    Clips and sounds also come as files to watch and listen to.
    """
    from rich.console import Console

    choice = policy.chooser(model)()
    if choice.is_full_run:
        raise ValueError("--policy none leaves nothing to compare: choose another, or generate")
    prompts = wanted.read()
    folder = writable_folder(out)
    with Console(stderr=True).status(f"loading {model.model}") as status:
        from adaptive_diffusion.apps.comparison import compare as run_comparison
        from adaptive_diffusion.apps.comparison_files import write_files
        from adaptive_diffusion.apps.display import comparison_table
        from adaptive_diffusion.apps.record import record
        from adaptive_diffusion.apps.sampling import Sampler

        settings = call.settings(model.model)
        sampler = Sampler(model.load(), settings)
        samples = sampler.plan(prompts, wanted.count, wanted.seed)
        skipping = choice.settle(sampler.pipe, settings.steps, settings.guidance)
        assert skipping.policy is not None
        comparison = run_comparison(
            sampler,
            samples,
            skipping.policy,
            repeats=repeats,
            paper_rule=baselines,
            notes=skipping.notes,
            notify=status.update,
        )
        source = {"model": model.model, **model.options().describe(), **call.describe()}
        report = record(comparison, sampler, source | skipping.source)
        files = write_files(folder, comparison, report)
    Console().print(comparison_table(comparison))
    for note in comparison.notes:
        typer.echo(f"note: {note}")
    for file in files:
        typer.echo(file)
