"""The server as a Ray Serve application: as many replicas as there is work for.

Every replica is a whole server with models, queue and continuous batching of its own. Ray Serve
starts and ends them, replaces those that die, and deals out the requests.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from fastapi import FastAPI
from ray import serve

from adaptive_diffusion.apps.ray_cluster import gpus_for_each, ray_cluster
from adaptive_diffusion.apps.server.app import create_app
from adaptive_diffusion.apps.server.command import check_address
from adaptive_diffusion.apps.server.limits import Limits
from adaptive_diffusion.apps.server.models import Model
from adaptive_diffusion.errors import AdaptiveDiffusionError

__all__ = ["Replicas", "ServeError", "deployment", "run_on_ray"]

_NAME = "adaptive-diffusion"
_STARTING_SECONDS = 600  # before a replica that loads its models is held for dead


class ServeError(AdaptiveDiffusionError):
    """Ray Serve has failed."""


@dataclass(frozen=True)
class Replicas:
    """How many replicas there may be, and what each gets.

    Attributes:
        least: that are always there.
        most: under load; a replica is added when those there have all the pictures in work that
            they can have.
        cpus: processor cores, and as many threads, for each.
        gpus: GPUs for each; None for one where the cluster has any.

    Raises:
        ValueError: if the most are fewer than the least.
    """

    least: int = 1
    most: int = 1
    cpus: int = 1
    gpus: float | None = None

    def __post_init__(self) -> None:
        if self.most < self.least:
            raise ValueError(f"at least {self.least} replicas can't be at most {self.most}")


def run_on_ray(
    load: Callable[[], Sequence[Model]],
    limits: Limits,
    replicas: Replicas,
    *,
    host: str,
    port: int,
    api_key: str | None,
    drain_seconds: int,
    announce: Callable[[str], None],
) -> None:
    """Serves until SIGTERM or SIGINT: then no new work is taken, and what is begun is finished.

    Args:
        load: loads the models, in each replica.
        drain_seconds: how long to finish; what is not done then is dropped.
        announce: told of the address.

    Raises:
        ValueError: if others could reach the server without an API key, or without a port.
        ServeError: if the address can't be had, or no replica starts.
    """
    check_address(host, api_key)
    if port == 0:
        raise ValueError("--port 0 does not go with --engine ray: name a port")
    with ray_cluster(), _in_one_line():
        serve.start(http_options={"host": host, "port": port})
        try:
            serve.run(
                deployment(load, limits, replicas, api_key, drain_seconds).bind(),
                name=_NAME,
                route_prefix="/",
            )
            ended = threading.Event()
            for kind in (signal.SIGINT, signal.SIGTERM):
                signal.signal(kind, lambda *_: ended.set())
            announce(f"http://{host}:{port}/v1")
            ended.wait()
        finally:
            serve.delete(_NAME)


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Ray's errors bring the traceback of another process; what is wrong is in the last line."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ServeError(f"Ray Serve could not start the server: {reason}") from error


def deployment(
    load: Callable[[], Sequence[Model]],
    limits: Limits,
    replicas: Replicas,
    api_key: str | None,
    drain_seconds: int,
) -> serve.Deployment:
    """What Ray Serve is to run; for a deployment file of one's own, too."""

    def build() -> FastAPI:
        torch.set_num_threads(replicas.cpus)
        return create_app(load(), limits, api_key)

    return serve.deployment(
        serve.ingress(build)(),
        name=_NAME,
        ray_actor_options={"num_cpus": replicas.cpus, "num_gpus": gpus_for_each(replicas.gpus)},
        max_ongoing_requests=limits.concurrency + limits.queue,
        autoscaling_config={
            "min_replicas": replicas.least,
            "max_replicas": replicas.most,
            "target_ongoing_requests": limits.concurrency,
        },
        graceful_shutdown_timeout_s=drain_seconds,
        health_check_timeout_s=_STARTING_SECONDS,
    )
