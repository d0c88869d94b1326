"""`adaptive-diffusion serve`."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer

from adaptive_diffusion.apps.commands.options import (
    LoadingOptions,
    NamedProfiles,
    Nfe,
    Quality,
    TargetPsnr,
    Tolerance,
)
from adaptive_diffusion.apps.inputs import EngineName

__all__ = ["serve"]


def serve(
    loading: LoadingOptions,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="A folder, a .safetensors file, a hub id, or a miniature; emoji by default. "
            "Repeatable.",
            metavar="MODEL",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="ADAPTIVE_DIFFUSION_API_KEY",
            help="The key that clients must send.",
            show_default=False,
        ),
    ] = None,
    tolerance: Tolerance = None,
    quality: Quality = None,
    profiles: NamedProfiles = None,
    nfe: Nfe = None,
    target_psnr: TargetPsnr = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Pictures made at a time.")] = 8,
    queue: Annotated[int, typer.Option(min=1, help="Pictures that may wait.")] = 64,
    rows: Annotated[int, typer.Option(min=1, help="Most rows of a joint denoiser call.")] = 32,
    max_images: Annotated[int, typer.Option(min=1, help="Pictures of a request.")] = 10,
    max_steps: Annotated[int, typer.Option(min=1, help="Steps of a picture.")] = 150,
    max_size: Annotated[int, typer.Option(min=1, help="Pixels of the longer side.")] = 1024,
    max_work: Annotated[
        float,
        typer.Option(
            min=1,
            help="Pixels times steps of a picture, in pictures of the model's own size with the "
            "most steps.",
        ),
    ] = 4,
    max_seconds: Annotated[float, typer.Option(min=1, help="Time of a request.")] = 300,
    drain_seconds: Annotated[int, typer.Option(min=1, help="Time to finish on SIGTERM.")] = 60,
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
) -> None:
    """Serves pictures over HTTP, as OpenAI's images interface does, batched across requests."""
    from rich.console import Console

    from adaptive_diffusion.apps import addresses
    from adaptive_diffusion.apps.choice import choose
    from adaptive_diffusion.apps.profiles import Profiles
    from adaptive_diffusion.apps.server.command import (
        check_address,
        check_models,
        load_models,
        run,
    )
    from adaptive_diffusion.apps.server.limits import Limits

    check_address(host, api_key)
    limits = Limits(
        concurrency=concurrency,
        queue=queue,
        images=max_images,
        steps=max_steps,
        size=max_size,
        work=max_work,
        seconds=max_seconds,
        rows=rows,
    )
    names = models or ["emoji"]
    check_models(names)
    found = Profiles.of_options(names, profiles or [], loading.revision)
    sources = {name: found.of(name) for name in names}
    choices = {
        name: choose(
            tolerance=tolerance,
            quality=quality,
            profiles=source,
            nfe=nfe,
            target_psnr=target_psnr,
        )
        for name, source in sources.items()
    }
    load = partial(load_models, names, loading.options(), choices, sources)
    how: dict[str, Any] = {
        "api_key": api_key,
        "drain_seconds": drain_seconds,
        "announce": typer.echo,
    }
    if engine is EngineName.RAY:
        from adaptive_diffusion.apps.server.on_ray import Replicas, run_on_ray

        least = replicas or 1
        most = max_replicas or least
        team = Replicas(least, most, cpus_per_replica or 1, gpus_per_replica)
        run_on_ray(load, limits, team, host=host, port=port, **how)
    elif (replicas, max_replicas, cpus_per_replica, gpus_per_replica) == (None,) * 4:
        with addresses.take(host, [port]) as taken:
            with Console(stderr=True).status("loading"):
                loaded = load()
            run(loaded, limits, taken, **how)
    else:
        raise ValueError("--replicas and what each gets go with --engine ray")
