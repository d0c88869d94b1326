"""Starting the server: models loaded, a socket bound, and uvicorn until it is told to end."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import uvicorn

from adaptive_diffusion.apps import addresses
from adaptive_diffusion.apps.choice import Choice
from adaptive_diffusion.apps.loading import LoadOptions, load_pipeline, locate
from adaptive_diffusion.apps.profiles import Source
from adaptive_diffusion.apps.server.app import create_app
from adaptive_diffusion.apps.server.limits import Limits
from adaptive_diffusion.apps.server.models import Model
from adaptive_diffusion.miniatures import GUIDANCE

__all__ = ["check_models", "load_models", "run"]

_CONNECTIONS = 256  # beside one for each picture; more are answered with 503


def run(
    models: Sequence[Model],
    limits: Limits,
    taken: socket.socket,
    *,
    api_key: str | None,
    drain_seconds: int,
    announce: Callable[[str], None],
) -> None:
    """Serves until SIGTERM or SIGINT: then no new work is taken, and what is begun is finished.

    Args:
        taken: where it listens.
        drain_seconds: how long to finish; what is not done then is dropped.
        announce: told of the address.
    """
    app = create_app(models, limits, api_key)
    config = uvicorn.Config(
        app,
        log_level="info",
        limit_concurrency=_CONNECTIONS + limits.concurrency + limits.queue,
        timeout_graceful_shutdown=drain_seconds,
    )
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    taken.listen()
    announce(f"{addresses.url(taken)}/v1")
    uvicorn.Server(config).run(sockets=[taken])


def check_address(host: str, api_key: str | None) -> None:
    """Raises `ValueError` if the address is open to other machines and there is no key."""
    try:
        is_local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_local = host == "localhost"
    if not is_local and not api_key:
        raise ValueError(
            f"--host {host} can be reached from other machines: set --api-key, "
            "or leave --host out to serve this machine alone"
        )


def check_models(names: Sequence[str]) -> None:
    """Raises `ValueError` on what can be seen to be wrong before a model is loaded."""
    if len(set(names)) < len(names):
        raise ValueError("a --model is given twice: each has one name")
    for name in names:
        locate(name)


def load_models(
    names: Sequence[str],
    options: LoadOptions,
    choices: Mapping[str, Choice],
    profiles: Mapping[str, Source | None] | None = None,
) -> list[Model]:
    """The models of these names, from safetensors alone.

    Args:
        names: of the models.
        options: how they are loaded.
        choices: what they skip by default, if it is not the default tolerance.
        profiles: theirs, if they have any.

    Raises:
        ValueError: on a name that is given twice, or none of a model.
    """
    check_models(names)
    options = replace(options, safetensors_only=True)
    sources = profiles or {}
    return [
        Model(
            name,
            load_pipeline(name, options),
            GUIDANCE.get(name),
            choices.get(name),
            sources.get(name),
        )
        for name in names
    ]
