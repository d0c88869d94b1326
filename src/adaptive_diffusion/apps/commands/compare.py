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
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs; the median counts.")] = 3,
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines/--no-baselines",
            help="Also measure fewer steps and the paper's rule at the same number of calls.",
        ),
    ] = True,
    out: Out = Path("out"),
) -> None:
    """Measures full against accelerated runs: compare.png, report.json and a table.

    Clips and sounds also come as files to watch and listen to.
    """
    from rich.console import Console

    from adaptive_diffusion.apps.comparison import compare as run_comparison
    from adaptive_diffusion.apps.display import comparison_table
    from adaptive_diffusion.apps.figure import MAX_ROWS, save_figure
    from adaptive_diffusion.apps.provenance import file_stem
    from adaptive_diffusion.apps.record import record, to_json
    from adaptive_diffusion.apps.sampling import Sampler

    chosen = policy.make()
    if chosen is None:
        raise ValueError("--policy none leaves nothing to compare: choose another, or generate")
    settings = call.settings(model.model)
    prompts = wanted.read()
    folder = writable_folder(out)
    with Console(stderr=True).status("loading") as status:
        sampler = Sampler(model.load(), settings)
        samples = sampler.plan(prompts, wanted.count, wanted.seed)
        comparison = run_comparison(
            sampler, samples, chosen, repeats=repeats, baselines=baselines, notify=status.update
        )
        report = record(comparison, sampler, model.model, policy.policy.value)
        (folder / "report.json").write_text(to_json(report), encoding="utf-8")
        title = (
            f"{model.model}, {report['scheduler'].removesuffix('Scheduler')}, {call.steps} steps, "
            f"{chosen}: {report['speedup_nfe']:.2f}× fewer calls, "
            f"{report['speedup_wall']:.2f}× faster"
        )
        save_figure(folder / "compare.png", comparison, title)
        shown = list(zip(samples, comparison.made, comparison.references, strict=True))[:MAX_ROWS]
        files = {
            folder / f"{file_stem(sample)}{suffix}": content
            for sample, made, full in shown
            for suffix, content in made.beside(full).items()
        }
        for path, content in files.items():
            path.write_bytes(content)
    Console().print(comparison_table(comparison))
    for note in policy.misfits(sampler.pipe, call.steps) + comparison.notes:
        typer.echo(f"note: {note}")
    part = "" if len(samples) <= MAX_ROWS else f" (the first {MAX_ROWS} of {len(samples)})"
    typer.echo(f"{folder / 'compare.png'}{part}")
    for path in [*files, folder / "report.json"]:
        typer.echo(path)
