"""`adaptive-diffusion generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adaptive_diffusion.apps.commands.options import (
    CallOptions,
    LearningOptions,
    ModelOptions,
    Out,
    PromptOptions,
)
from adaptive_diffusion.apps.inputs import writable_folder

__all__ = ["generate"]


def generate(
    wanted: PromptOptions,
    model: ModelOptions,
    call: CallOptions,
    policy: LearningOptions,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples per call.")] = 4,
    out: Out = Path("out"),
) -> None:
    """Makes pictures (PNG), clips (GIF) or sounds (WAV) that say how they were made."""
    from rich.console import Console

    choice = policy.chooser(model)()
    prompts = wanted.read()
    folder = writable_folder(out)
    console = Console(stderr=True)
    with console.status(f"loading {model.model}"):
        from adaptive_diffusion.apps.display import StepProgress
        from adaptive_diffusion.apps.sample_files import SampleFiles
        from adaptive_diffusion.apps.sampling import Sampler

        settings = call.settings(model.model)
        sampler = Sampler(model.load(), settings)
    samples = sampler.plan(prompts, wanted.count, wanted.seed)

    source = {"model": model.model, **model.options().describe(), **call.describe()}
    with StepProgress(console) as progress:
        files = SampleFiles(sampler, folder, source, progress)
        if policy.learn is None:
            files.make(samples, choice, batch_size)
        else:
            assert policy.nfe is not None
            files.learn_and_make(samples, policy.nfe, policy.learn, batch_size)
    for line in files.lines + [f"note: {note}" for note in files.notes]:
        typer.echo(line)
