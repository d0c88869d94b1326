"""`adaptive-diffusion calibrate`."""

from __future__ import annotations

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
        float | None, typer.Option(help="Mean number of denoiser evaluations to be kept.")
    ] = None,
    out: Annotated[Path, typer.Option(help="File for the profile.", metavar="FILE")] = Path(
        "profile.json"
    ),
) -> None:
    """Finds the tolerance that a fidelity or a budget allows, and writes it to a file."""
    from rich.console import Console

    prompts = wanted.read()
    file = writable_file(out)
    with Console(stderr=True).status(f"loading {model.model}") as status:
        from adaptive_diffusion.apps.sampling import Sampler
        from adaptive_diffusion.calibration import calibrate as run_calibration
        from adaptive_diffusion.calibration import choose_goal

        choose_goal(target_psnr, target_ssim, worst_psnr, budget_nfe)
        settings = call.settings(model.model)
        sampler = Sampler(model.load(), settings)
        samples = sampler.plan(prompts, wanted.count, wanted.seed)
        profile = run_calibration(
            sampler.pipe,
            [sample.prompt or "" for sample in samples] if sampler.is_conditional else len(samples),
            target_psnr=target_psnr,
            target_ssim=target_ssim,
            worst_psnr=worst_psnr,
            budget_nfe=budget_nfe,
            seed=wanted.seed,
            notify=status.update,
            **sampler.call_arguments,
        )
        profile.save(file)
    typer.echo(f"{profile}\n{file}")
