"""`adaptive-diffusion batch`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from adaptive_diffusion.apps.commands.options import (
    CallOptions,
    LearningOptions,
    ModelOptions,
    Out,
)
from adaptive_diffusion.apps.inputs import EngineName, writable_folder

__all__ = ["batch"]


def batch(
    prompts_file: Annotated[
        Path,
        typer.Argument(
            metavar="PROMPTS.jsonl",
            help='A line per picture: {"prompt": "a red apple"}, and negative_prompt, seed, steps, '
            "guidance, width and height, tolerance, nfe, control_image, id where they differ from "
            "the options.",
        ),
    ],
    out: Out,
    model: ModelOptions,
    call: CallOptions,
    policy: LearningOptions,
    seed: Annotated[int, typer.Option(min=0, help="Seed of lines without a seed.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples per call.")] = 4,
    engine: Annotated[
        EngineName, typer.Option(help="This process, or Ray's workers (extra ray).")
    ] = EngineName.LOCAL,
    workers: Annotated[int | None, typer.Option(min=1, help="Pipelines that Ray keeps; 1.")] = None,
    cpus_per_worker: Annotated[
        int | None,
        typer.Option(min=1, help="Processor cores, and threads, of each of Ray's workers; 1."),
    ] = None,
    gpus_per_worker: Annotated[
        float | None,
        typer.Option(min=0, help="GPUs of each of Ray's workers; 1 where there are any."),
    ] = None,
) -> None:
    """Makes the pictures of a file; resumes where it was interrupted. Exit code 1: some failed."""
    from rich.console import Console

    from adaptive_diffusion.apps.batch.batch import Engine, run_batch
    from adaptive_diffusion.apps.batch.engines import Workers, make_here, make_on_ray
    from adaptive_diffusion.apps.batch.model import Model
    from adaptive_diffusion.apps.batch.outputs import Outputs
    from adaptive_diffusion.apps.batch.prompts_file import Defaults, read_lines

    choose = policy.chooser(model)
    choose()
    common = call.settings(model.model)
    defaults = Defaults(
        seed=seed,
        steps=common.steps,
        guidance=common.guidance,
        size=common.size,
        frames=common.frames,
        negative_prompt=common.negative_prompt,
        control_image=None if call.control_image is None else str(call.control_image),
        choose=choose,
    )
    lines = read_lines(prompts_file, defaults)
    if engine is EngineName.RAY:
        import ray.data  # noqa: F401  a missing extra is found before the work

        team = Workers(workers or 1, cpus_per_worker or 1, gpus_per_worker)
        make: Engine = partial(make_on_ray, workers=team)
    elif (workers, cpus_per_worker, gpus_per_worker) == (None, None, None):
        make = make_here
    else:
        raise ValueError("--workers and what each gets go with --engine ray")
    summary = run_batch(
        prompts_file,
        lines,
        Model.choose(model.model, model.options()),
        Outputs(writable_folder(out)),
        make,
        batch_size=batch_size,
        console=Console(stderr=True),
        learn=policy.learn,
    )
    typer.echo(f"{summary}\n{out}")
    if summary.failed:
        raise typer.Exit(1)
