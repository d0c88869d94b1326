"""The commands and their options; what they do is in the modules they call.

What is slow to import (diffusers, matplotlib) is imported inside the commands: help comes at once,
and a missing extra is found before any work is done.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from adaptive_diffusion.apps.inputs import (
    PolicyName,
    make_policy,
    parse_size,
    read_prompts,
    writable_folder,
)
from adaptive_diffusion.miniatures import GUIDANCE

__all__ = ["app"]

app = typer.Typer(
    help="The same picture in a fraction of the denoiser calls.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _remember(context: typer.Context, debug: bool) -> bool:
    """Tells `main` about --debug, which shows the error when this command is long over."""
    context.ensure_object(dict)["debug"] = debug
    return debug


def _guidance(asked: float | None, model: str) -> float | None:
    return GUIDANCE.get(model) if asked is None else asked


_Prompts = Annotated[list[str] | None, typer.Argument(help="What to draw.", show_default=False)]
_PromptsFile = Annotated[
    Path | None,
    typer.Option("--prompts", help="A text file with one prompt per line.", metavar="FILE"),
]
_Model = Annotated[
    str, typer.Option(help="A pipeline's folder, a hub id, or a miniature: emoji, digits.")
]
_Steps = Annotated[int, typer.Option(min=1, help="Steps of the full run.")]
_Scheduler = Annotated[
    str | None,
    typer.Option(
        help="ddim, ddpm, euler, euler-ancestral, heun, dpm++, dpm++-sde, unipc, deis, pndm, lms, "
        "kdpm2, lcm, flow-euler or flow-heun; the model's own by default."
    ),
]
_Guidance = Annotated[
    float | None,
    typer.Option(min=0, help="Guidance scale; the miniature's or the pipeline's own by default."),
]
_Seed = Annotated[int, typer.Option(min=0, help="Of the first sample; the next has the next.")]
_Count = Annotated[int, typer.Option(min=1, help="Pictures for each prompt, or in all without.")]
_Size = Annotated[
    str | None,
    typer.Option(help="512 or 768x512 (width x height); the pipeline's own by default."),
]
_Policy = Annotated[PolicyName, typer.Option(help="Decides which denoiser calls are skipped.")]
_Tolerance = Annotated[
    float | None,
    typer.Option(help="How far a run of skips may lead astray (error-controlled); 0.01."),
]
_Threshold = Annotated[
    float | None,
    typer.Option(help="The paper's threshold (third-order); 0.01."),
]
_MaxSkip = Annotated[
    int | None,
    typer.Option(help="The longest run of skips; 6 (third-order: 4)."),
]
_Device = Annotated[
    str | None,
    typer.Option(help="cpu, cuda, cuda:1, mps; a GPU by default where there is one."),
]
_Dtype = Annotated[str, typer.Option(help="float32, float16 or bfloat16.")]
_Out = Annotated[Path, typer.Option(help="Folder for the files.", metavar="FOLDER")]
_Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error.", callback=_remember)
]


@app.command()
def generate(
    prompts: _Prompts = None,
    prompts_file: _PromptsFile = None,
    model: _Model = "emoji",
    steps: _Steps = 50,
    scheduler: _Scheduler = None,
    guidance: _Guidance = None,
    seed: _Seed = 0,
    count: _Count = 1,
    size: _Size = None,
    policy: _Policy = PolicyName.ERROR_CONTROLLED,
    tolerance: _Tolerance = None,
    threshold: _Threshold = None,
    max_skip: _MaxSkip = None,
    device: _Device = None,
    dtype: _Dtype = "float32",
    batch_size: Annotated[int, typer.Option(min=1, help="Samples per call.")] = 4,
    out: _Out = Path("out"),
    debug: _Debug = False,
) -> None:
    """Makes pictures as PNG files that carry prompt, seed, policy and mask."""
    from adaptive_diffusion.apps.display import StepProgress
    from adaptive_diffusion.apps.loading import load_pipeline
    from adaptive_diffusion.apps.png import file_name, mask_text, save_png
    from adaptive_diffusion.apps.sampling import Sampler, Settings

    chosen = make_policy(policy, tolerance, threshold, max_skip)
    settings = Settings(
        steps, GUIDANCE.get(model) if guidance is None else guidance, parse_size(size)
    )
    wanted = read_prompts(prompts or [], prompts_file)
    folder = writable_folder(out)
    sampler = Sampler(load_pipeline(model, scheduler, device, dtype), settings)
    samples = sampler.plan(wanted, count, seed)

    made: list[str] = []
    notes: list[str] = []
    with StepProgress(Console(stderr=True)) as progress:
        for start in range(0, len(samples), batch_size):
            batch = samples[start : start + batch_size]
            label = f"{start + len(batch)}/{len(samples)}"
            result = sampler.run(batch, chosen, on_step=progress.follow(label, steps))
            assert result.images is not None
            notes += [note for note in result.notes if note not in notes]
            for sample, image, mask in zip(batch, result.images, result.masks, strict=True):
                path = folder / file_name(sample)
                entries = {
                    "prompt": sample.prompt or "",
                    "seed": str(sample.seed),
                    "policy": policy.value if chosen is None else str(chosen),
                    "mask": mask_text(mask),
                    "model": model,
                    "scheduler": type(sampler.pipe.scheduler).__name__,
                    "steps": str(steps),
                }
                save_png(path, image, entries)
                made.append(f"{path}  {sum(mask)} of {len(mask)} steps computed")
    for line in made + [f"note: {note}" for note in notes]:
        typer.echo(line)


@app.command()
def compare(
    prompts: _Prompts = None,
    prompts_file: _PromptsFile = None,
    model: _Model = "emoji",
    steps: _Steps = 50,
    scheduler: _Scheduler = None,
    guidance: _Guidance = None,
    seed: _Seed = 0,
    count: _Count = 1,
    size: _Size = None,
    policy: _Policy = PolicyName.ERROR_CONTROLLED,
    tolerance: _Tolerance = None,
    threshold: _Threshold = None,
    max_skip: _MaxSkip = None,
    device: _Device = None,
    dtype: _Dtype = "float32",
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs; the median counts.")] = 3,
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines/--no-baselines",
            help="Also measure fewer steps and the paper's rule at the same number of calls.",
        ),
    ] = True,
    out: _Out = Path("out"),
    debug: _Debug = False,
) -> None:
    """Measures full against accelerated runs: compare.png, report.json and a table."""
    from adaptive_diffusion.apps.comparison import compare as run_comparison
    from adaptive_diffusion.apps.display import comparison_table
    from adaptive_diffusion.apps.figure import MAX_ROWS, save_figure
    from adaptive_diffusion.apps.loading import load_pipeline
    from adaptive_diffusion.apps.record import record, to_json
    from adaptive_diffusion.apps.sampling import Sampler, Settings

    chosen = make_policy(policy, tolerance, threshold, max_skip)
    if chosen is None:
        raise ValueError("--policy none leaves nothing to compare: choose another, or generate")
    settings = Settings(
        steps, GUIDANCE.get(model) if guidance is None else guidance, parse_size(size)
    )
    wanted = read_prompts(prompts or [], prompts_file)
    folder = writable_folder(out)
    with Console(stderr=True).status("loading") as status:
        sampler = Sampler(load_pipeline(model, scheduler, device, dtype), settings)
        samples = sampler.plan(wanted, count, seed)
        comparison = run_comparison(
            sampler, samples, chosen, repeats=repeats, baselines=baselines, notify=status.update
        )
        report = record(comparison, sampler, model, policy.value)
        (folder / "report.json").write_text(to_json(report), encoding="utf-8")
        title = (
            f"{model}, {report['scheduler'].removesuffix('Scheduler')}, {steps} steps, {chosen}: "
            f"{report['speedup_nfe']:.2f}× fewer calls, {report['speedup_wall']:.2f}× faster"
        )
        save_figure(folder / "compare.png", comparison, title)
    console = Console()
    console.print(comparison_table(comparison))
    for note in comparison.notes:
        typer.echo(f"note: {note}")
    shown = "" if len(samples) <= MAX_ROWS else f" (the first {MAX_ROWS} of {len(samples)})"
    typer.echo(f"{folder / 'compare.png'}{shown}\n{folder / 'report.json'}")


@app.command()
def info(debug: _Debug = False) -> None:
    """Shows versions, device, installed extras and the miniatures at hand."""
    from adaptive_diffusion.apps.display import info_table
    from adaptive_diffusion.apps.environment import describe_device, extras, versions
    from adaptive_diffusion.miniatures import miniatures

    Console().print(info_table(versions(), describe_device(), extras(), miniatures()))
