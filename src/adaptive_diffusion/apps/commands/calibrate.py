"""`adaptive-diffusion calibrate`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from adaptive_diffusion.apps.commands.options import CallOptions, ModelOptions, PromptOptions
from adaptive_diffusion.apps.inputs import writable_file

__all__ = ["calibrate"]


def calibrate(
    wanted: PromptOptions,
    model: ModelOptions,
    call: CallOptions,
    target_psnr: Annotated[
        float | None, typer.Option(help="Mean PSNR to be reached, in dB, such as 35.")
    ] = None,
    target_ssim: Annotated[
        float | None, typer.Option(help="Mean SSIM to be reached, such as 0.95.")
    ] = None,
    worst_psnr: Annotated[
        float | None, typer.Option(help="PSNR that no picture is to fall below, in dB, such as 30.")
    ] = None,
    budget_nfe: Annotated[
        float | None, typer.Option(help="Number of denoiser evaluations to be kept.")
    ] = None,
    out: Annotated[Path, typer.Option(help="File for the profile.", metavar="FILE")] = Path(
        "profile.json"
    ),
) -> None:
    """Measures a model and finds the plan for a goal: --profile and --nfe then use the file."""
    from rich.console import Console

    if [target_psnr, target_ssim, worst_psnr, budget_nfe].count(None) != 3:
        raise ValueError("give one of --target-psnr, --target-ssim, --worst-psnr and --budget-nfe")
    prompts = wanted.read()
    file = writable_file(out)
    console = Console(stderr=True)
    with console.status(f"loading {model.model}") as status:
        from adaptive_diffusion.apps.display import plan_table
        from adaptive_diffusion.apps.sampling import Sampler
        from adaptive_diffusion.calibration import calibrate as run_calibration
        from adaptive_diffusion.calibration import choose_goal
        from adaptive_diffusion.measurement import calls_needed
        from adaptive_diffusion.trials import choose_samples

        choose_goal(target_psnr, target_ssim, worst_psnr, budget_nfe)
        settings = call.settings(model.model)
        sampler = Sampler(model.load(), settings)
        planned = sampler.plan(prompts, wanted.count, wanted.seed)
        asked = (
            [sample.prompt or "" for sample in planned] if sampler.is_conditional else len(planned)
        )
        count = len(choose_samples(asked, wanted.seed))  # raises on too few
        fitting = math.ceil(count / 2)
        held_out = (count - fitting) * settings.steps
        calls = calls_needed(settings.steps, fitting) + held_out
        console.print(f"about {calls} denoiser calls to measure the model; then plans are tried")
        profile = run_calibration(
            sampler.pipe,
            asked,
            target_psnr=target_psnr,
            target_ssim=target_ssim,
            worst_psnr=worst_psnr,
            budget_nfe=budget_nfe,
            seed=wanted.seed,
            notify=status.update,
            **sampler.call_arguments,
        )
        profile.save(file)
    typer.echo(profile)
    if profile.measured is not None:
        Console().print(plan_table(profile.measured))
    typer.echo(file)
