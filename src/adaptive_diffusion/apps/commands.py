"""The commands and their options; what they do is in the modules they call.

What is slow to import (diffusers, matplotlib) is imported inside the commands: help comes at once,
and a missing extra is found before any work is done.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from adaptive_diffusion.apps.doctor import doctor
from adaptive_diffusion.apps.inputs import (
    EngineName,
    PolicyName,
    choose_tolerance,
    make_policy,
    parse_size,
    read_prompts,
    writable_file,
    writable_folder,
)
from adaptive_diffusion.miniatures import ARGUMENTS, GUIDANCE
from adaptive_diffusion.policies import ErrorControlled, Policy
from adaptive_diffusion.profile import Profile

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
    str, typer.Option(help="A folder, a hub id, or a miniature: emoji, emoji-dit, digits.")
]
_Steps = Annotated[int, typer.Option(min=1, help="Steps of the full run.")]
_Scheduler = Annotated[
    str | None,
    typer.Option(
        help="ddim, ddpm, euler, euler-ancestral, heun, dpm++, dpm++-sde, unipc, deis, pndm, lms, "
        "kdpm2, lcm, flow-euler, flow-heun, flow-dpm++ or flow-unipc; the model's own by default."
    ),
]
_Guidance = Annotated[
    float | None,
    typer.Option(min=0, help="Guidance scale; the miniature's or the pipeline's own by default."),
]
_Seed = Annotated[int, typer.Option(min=0, help="Of the first sample; the next has the next.")]
_Count = Annotated[int, typer.Option(min=1, help="Samples for each prompt, or in all without.")]
_Size = Annotated[
    str | None,
    typer.Option(help="512 or 768x512 (width x height); the pipeline's own by default."),
]
_Frames = Annotated[
    int | None, typer.Option(min=1, help="Of a clip; the pipeline's own number by default.")
]
_Policy = Annotated[PolicyName, typer.Option(help="Decides which denoiser calls are skipped.")]
_Tolerance = Annotated[
    float | None,
    typer.Option(help="How far a run of skips may lead astray (error-controlled); 0.02."),
]
_Quality = Annotated[
    str | None,
    typer.Option(help="A tolerance by name: faithful, balanced or fast.", metavar="NAME"),
]
_Profile = Annotated[
    Path | None,
    typer.Option("--profile", help="A tolerance that `calibrate` found.", metavar="FILE"),
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
    frames: _Frames = None,
    policy: _Policy = PolicyName.ERROR_CONTROLLED,
    tolerance: _Tolerance = None,
    quality: _Quality = None,
    profile_file: _Profile = None,
    threshold: _Threshold = None,
    max_skip: _MaxSkip = None,
    device: _Device = None,
    dtype: _Dtype = "float32",
    batch_size: Annotated[int, typer.Option(min=1, help="Samples per call.")] = 4,
    out: _Out = Path("out"),
    debug: _Debug = False,
) -> None:
    """Makes pictures (PNG), clips (GIF) or sounds (WAV) that say how they were made."""
    from adaptive_diffusion.apps.display import StepProgress
    from adaptive_diffusion.apps.loading import load_pipeline
    from adaptive_diffusion.apps.provenance import file_stem, how_made
    from adaptive_diffusion.apps.sampling import Sampler, Settings

    profile = None if profile_file is None else Profile.load(profile_file)
    tolerance = choose_tolerance(tolerance, quality, profile)
    chosen = make_policy(policy, tolerance, threshold, max_skip)
    settings = Settings(
        steps, _guidance(guidance, model), parse_size(size), frames, ARGUMENTS.get(model, {})
    )
    wanted = read_prompts(prompts or [], prompts_file)
    folder = writable_folder(out)
    sampler = Sampler(load_pipeline(model, scheduler, device, dtype), settings)
    samples = sampler.plan(wanted, count, seed)

    made: list[str] = []
    notes = profile.differences(sampler.pipe, steps) if profile else []
    with StepProgress(Console(stderr=True)) as progress:
        for start in range(0, len(samples), batch_size):
            batch = samples[start : start + batch_size]
            label = f"{start + len(batch)}/{len(samples)}"
            result = sampler.run(batch, chosen, on_step=progress.follow(label, steps))
            assert result.made is not None
            notes += [note for note in result.notes if note not in notes]
            for sample, medium, mask in zip(batch, result.made, result.masks, strict=True):
                path = folder / f"{file_stem(sample)}{medium.suffix}"
                entries = how_made(sample, mask, chosen, sampler, model)
                path.write_bytes(medium.encode(entries))
                made.append(f"{path}  {sum(mask)} of {len(mask)} steps computed")
    for line in made + [f"note: {note}" for note in notes]:
        typer.echo(line)


@app.command()
def batch(
    prompts_file: Annotated[
        Path,
        typer.Argument(
            metavar="PROMPTS.jsonl",
            help='A line per picture: {"prompt": "a red apple"}, and negative_prompt, seed, steps, '
            "guidance, width and height, tolerance, id where they differ from the options.",
        ),
    ],
    out: _Out,
    model: _Model = "emoji",
    steps: _Steps = 50,
    scheduler: _Scheduler = None,
    guidance: _Guidance = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all lines that name none.")] = 0,
    size: _Size = None,
    policy: _Policy = PolicyName.ERROR_CONTROLLED,
    tolerance: _Tolerance = None,
    quality: _Quality = None,
    profile_file: _Profile = None,
    threshold: _Threshold = None,
    max_skip: _MaxSkip = None,
    device: _Device = None,
    dtype: _Dtype = "float32",
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
    debug: _Debug = False,
) -> None:
    """Makes the pictures of a file; goes on where it was interrupted. Exit code 1: some failed."""
    from adaptive_diffusion.apps.batch.batch import Engine, run_batch
    from adaptive_diffusion.apps.batch.engines import Workers, make_here, make_on_ray
    from adaptive_diffusion.apps.batch.model import Model
    from adaptive_diffusion.apps.batch.outputs import Outputs
    from adaptive_diffusion.apps.batch.prompts_file import Defaults, read_lines

    profile = None if profile_file is None else Profile.load(profile_file)
    common = choose_tolerance(tolerance, quality, profile)

    def policy_of(own: float | None) -> Policy | None:
        return make_policy(policy, common if own is None else own, threshold, max_skip)

    policy_of(None)
    defaults = Defaults(seed, steps, _guidance(guidance, model), parse_size(size), policy_of)
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
        Model.choose(model, scheduler, device, dtype),
        Outputs(writable_folder(out)),
        make,
        batch_size=batch_size,
        profile=profile,
        console=Console(stderr=True),
    )
    typer.echo(f"{summary}\n{out}")
    if summary.failed:
        raise typer.Exit(1)


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
    frames: _Frames = None,
    policy: _Policy = PolicyName.ERROR_CONTROLLED,
    tolerance: _Tolerance = None,
    quality: _Quality = None,
    profile_file: _Profile = None,
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
    """Measures full against accelerated runs: compare.png, report.json and a table.

    Clips and sounds also come as files to watch and listen to.
    """
    from adaptive_diffusion.apps.comparison import compare as run_comparison
    from adaptive_diffusion.apps.display import comparison_table
    from adaptive_diffusion.apps.figure import MAX_ROWS, save_figure
    from adaptive_diffusion.apps.loading import load_pipeline
    from adaptive_diffusion.apps.provenance import file_stem
    from adaptive_diffusion.apps.record import record, to_json
    from adaptive_diffusion.apps.sampling import Sampler, Settings

    profile = None if profile_file is None else Profile.load(profile_file)
    tolerance = choose_tolerance(tolerance, quality, profile)
    chosen = make_policy(policy, tolerance, threshold, max_skip)
    if chosen is None:
        raise ValueError("--policy none leaves nothing to compare: choose another, or generate")
    settings = Settings(
        steps, _guidance(guidance, model), parse_size(size), frames, ARGUMENTS.get(model, {})
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
        shown = list(zip(samples, comparison.made, comparison.references, strict=True))[:MAX_ROWS]
        files = {
            folder / f"{file_stem(sample)}{suffix}": content
            for sample, made, full in shown
            for suffix, content in made.beside(full).items()
        }
        for path, content in files.items():
            path.write_bytes(content)
    console = Console()
    console.print(comparison_table(comparison))
    misfits = profile.differences(sampler.pipe, steps) if profile else []
    for note in misfits + comparison.notes:
        typer.echo(f"note: {note}")
    part = "" if len(samples) <= MAX_ROWS else f" (the first {MAX_ROWS} of {len(samples)})"
    typer.echo(f"{folder / 'compare.png'}{part}")
    for path in [*files, folder / "report.json"]:
        typer.echo(path)


@app.command()
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
    samples: Annotated[int | None, typer.Option(min=1, help="In place of the suite's.")] = None,
    prompts_file: Annotated[
        Path | None,
        typer.Option("--prompts", help="A line per prompt, or MS-COCO's captions.", metavar="FILE"),
    ] = None,
    device: _Device = None,
    dtype: Annotated[str | None, typer.Option(help="In place of the suite's.")] = None,
    timing: Annotated[
        bool, typer.Option("--timing/--no-timing", help="Also time the rows, without decoding.")
    ] = True,
    timed_samples: Annotated[int, typer.Option(min=1, help="How many to time.")] = 4,
    out: _Out = Path("out/bench"),
    debug: _Debug = False,
) -> None:
    """Runs all ways to make the same pictures side by side; goes on where it was interrupted."""
    from adaptive_diffusion.apps.bench.bench import Choice
    from adaptive_diffusion.apps.bench.bench import bench as run_bench
    from adaptive_diffusion.apps.bench.suite import load_suite, suites
    from adaptive_diffusion.apps.bench.table import default_table, equal_cost_tables

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
    typer.echo(f"{default_table(cells)}\n\n{equal_cost_tables(cells)}")
    for name in ("table.md", "summary.json", "results.csv", "plots"):
        typer.echo(out / name)


def _several(words: str | None) -> list[str] | None:
    """The parts of a list with commas."""
    return None if words is None else [word.strip() for word in words.split(",") if word.strip()]


@app.command()
def calibrate(
    prompts: _Prompts = None,
    prompts_file: _PromptsFile = None,
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
    model: _Model = "emoji",
    steps: _Steps = 50,
    scheduler: _Scheduler = None,
    guidance: _Guidance = None,
    seed: _Seed = 0,
    count: _Count = 1,
    size: _Size = None,
    device: _Device = None,
    dtype: _Dtype = "float32",
    out: Annotated[Path, typer.Option(help="File for the profile.", metavar="FILE")] = Path(
        "profile.json"
    ),
    debug: _Debug = False,
) -> None:
    """Finds the tolerance that a fidelity or a budget allows, and writes it to a file."""
    from adaptive_diffusion.apps.loading import load_pipeline
    from adaptive_diffusion.apps.sampling import Sampler, Settings
    from adaptive_diffusion.calibration import calibrate as run_calibration
    from adaptive_diffusion.calibration import choose_goal

    choose_goal(target_psnr, target_ssim, worst_psnr, budget_nfe)
    width_height = parse_size(size)
    settings = Settings(
        steps, _guidance(guidance, model), width_height, arguments=ARGUMENTS.get(model, {})
    )
    wanted = read_prompts(prompts or [], prompts_file)
    file = writable_file(out)
    with Console(stderr=True).status("loading") as status:
        pipe = load_pipeline(model, scheduler, device, dtype)
        sampler = Sampler(pipe, settings)
        samples = sampler.plan(wanted, count, seed)
        call: dict[str, Any] = {**settings.arguments, "num_inference_steps": steps}
        if settings.guidance is not None:
            call["guidance_scale"] = settings.guidance
        if width_height is not None:
            call["width"], call["height"] = width_height
        profile = run_calibration(
            pipe,
            [sample.prompt or "" for sample in samples] if sampler.is_conditional else len(samples),
            target_psnr=target_psnr,
            target_ssim=target_ssim,
            worst_psnr=worst_psnr,
            budget_nfe=budget_nfe,
            seed=seed,
            notify=status.update,
            **call,
        )
        profile.save(file)
    typer.echo(f"{profile}\n{file}")


@app.command()
def serve(
    models: Annotated[
        list[str] | None,
        typer.Option("--model", help="A folder, a hub id, or a miniature; emoji. Repeatable."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="ADAPTIVE_DIFFUSION_API_KEY", help="What clients must have.", show_default=False
        ),
    ] = None,
    scheduler: _Scheduler = None,
    tolerance: _Tolerance = None,
    quality: _Quality = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Pictures made at a time.")] = 8,
    queue: Annotated[int, typer.Option(min=1, help="Pictures that may wait.")] = 64,
    rows: Annotated[int, typer.Option(min=1, help="Most rows of a joint denoiser call.")] = 32,
    max_images: Annotated[int, typer.Option(min=1, help="Pictures of a request.")] = 10,
    max_steps: Annotated[int, typer.Option(min=1, help="Steps of a picture.")] = 150,
    max_size: Annotated[int, typer.Option(min=1, help="Pixels of its longer side.")] = 1024,
    max_seconds: Annotated[float, typer.Option(min=1, help="Time of a request.")] = 300,
    drain_seconds: Annotated[int, typer.Option(min=1, help="Time to finish on SIGTERM.")] = 60,
    device: _Device = None,
    dtype: _Dtype = "float32",
    engine: Annotated[
        EngineName, typer.Option(help="This process, or Ray Serve's replicas of it (extra ray).")
    ] = EngineName.LOCAL,
    replicas: Annotated[
        int | None, typer.Option(min=1, help="Replicas that Ray always keeps; 1.")
    ] = None,
    max_replicas: Annotated[
        int | None, typer.Option(min=1, help="Replicas under load; as many as always.")
    ] = None,
    cpus_per_replica: Annotated[
        int | None, typer.Option(min=1, help="Processor cores, and threads, of each; 1.")
    ] = None,
    gpus_per_replica: Annotated[
        float | None, typer.Option(min=0, help="GPUs of each; 1 where there are any.")
    ] = None,
    debug: _Debug = False,
) -> None:
    """Serves pictures over HTTP, as OpenAI's images interface does, batched across requests."""
    from adaptive_diffusion.apps.server.command import (
        check_address,
        check_models,
        load_models,
        run,
    )
    from adaptive_diffusion.apps.server.limits import Limits

    if tolerance is None and quality is None:
        quality = "balanced"
    chosen = choose_tolerance(tolerance, quality, None)
    assert chosen is not None
    ErrorControlled(tolerance=chosen)  # raises on one that can't be
    check_address(host, api_key)
    limits = Limits(
        concurrency=concurrency,
        queue=queue,
        images=max_images,
        steps=max_steps,
        size=max_size,
        seconds=max_seconds,
        rows=rows,
    )
    names = models or ["emoji"]
    check_models(names, scheduler, dtype)
    load = partial(load_models, names, scheduler, device, dtype)
    how: dict[str, Any] = {
        "host": host,
        "port": port,
        "api_key": api_key,
        "drain_seconds": drain_seconds,
        "announce": typer.echo,
    }
    if engine is EngineName.RAY:
        from adaptive_diffusion.apps.server.on_ray import Replicas, run_on_ray

        least = replicas or 1
        most = max_replicas or least
        team = Replicas(least, most, cpus_per_replica or 1, gpus_per_replica)
        run_on_ray(load, limits, chosen, team, **how)
    elif (replicas, max_replicas, cpus_per_replica, gpus_per_replica) == (None,) * 4:
        with Console(stderr=True).status("loading"):
            loaded = load()
        run(loaded, limits, chosen, **how)
    else:
        raise ValueError("--replicas and what each gets go with --engine ray")


@app.command()
def ui(
    models: Annotated[
        list[str] | None,
        typer.Option("--model", help="A miniature, a folder or a hub id; may be given repeatedly."),
    ] = None,
    device: _Device = None,
    dtype: _Dtype = "float32",
    host: Annotated[str, typer.Option(help="Where to listen: this machine alone.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="The first free from 7860 by default.")] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open it.")] = False,
    debug: _Debug = False,
) -> None:
    """Shows a page where full and accelerated runs go side by side, as they are made."""
    from adaptive_diffusion.apps.loading import load_pipeline, locate
    from adaptive_diffusion.miniatures import pipeline_miniatures

    names = models or sorted(pipeline_miniatures(), key=lambda name: name != "emoji")
    for name in names:
        locate(name)  # raises on one that can't be loaded, before seconds of imports
    from adaptive_diffusion.apps.page.models import Models
    from adaptive_diffusion.apps.page.page import launch

    def load(name: str) -> Any:
        return load_pipeline(name, device=device, dtype=dtype)

    launch(Models(names, load), host, port, open_browser=browser)


app.command()(doctor)


@app.command()
def info(debug: _Debug = False) -> None:
    """Shows versions, device, installed extras and the miniatures at hand."""
    from adaptive_diffusion.apps.display import info_table
    from adaptive_diffusion.apps.environment import describe_device, extras, versions
    from adaptive_diffusion.miniatures import miniatures

    Console().print(info_table(versions(), describe_device(), extras(), miniatures()))
