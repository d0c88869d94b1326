"""`adaptive-diffusion generate`."""

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

__all__ = ["generate"]


def generate(
    wanted: PromptOptions,
    model: ModelOptions,
    call: CallOptions,
    policy: PolicyOptions,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples per call.")] = 4,
    out: Out = Path("out"),
) -> None:
    """Makes pictures (PNG), clips (GIF) or sounds (WAV) that say how they were made."""
    from rich.console import Console

    choice = policy.choose()
    prompts = wanted.read()
    folder = writable_folder(out)
    console = Console(stderr=True)
    with console.status(f"loading {model.model}"):
        from adaptive_diffusion.apps.display import StepProgress
        from adaptive_diffusion.apps.provenance import file_stem, how_made, write_beside
        from adaptive_diffusion.apps.sampling import Sampler

        settings = call.settings(model.model)
        sampler = Sampler(model.load(), settings)
    samples = sampler.plan(prompts, wanted.count, wanted.seed)

    made: list[str] = []
    chosen = choice.policy_for(sampler.pipe)
    source = {"model": model.model, **model.options().describe(), **call.describe()}
    source |= choice.source
    notes = choice.misfits(sampler.pipe, call.steps)
    with StepProgress(console) as progress:
        for start in range(0, len(samples), batch_size):
            batch = samples[start : start + batch_size]
            label = f"{start + len(batch)}/{len(samples)}"
            result = sampler.run(batch, chosen, on_step=progress.follow(label, call.steps))
            assert result.made is not None
            notes += [note for note in result.notes if note not in notes]
            for sample, medium, mask in zip(batch, result.made, result.masks, strict=True):
                entries = how_made(sample, medium, mask, chosen, sampler, source)
                content = medium.encode(entries)
                path = write_beside(folder, file_stem(sample), medium.suffix, content)
                made.append(f"{path}  {sum(mask)} of {len(mask)} steps computed")
    for line in made + [f"note: {note}" for note in notes]:
        typer.echo(line)
