"""A server on a free port of this machine, over tiny models, and clients for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import openai
from asgi import running
from tiny_pipelines import TINY_PIPELINES

from adaptive_diffusion.apps.choice import Choice
from adaptive_diffusion.apps.profiles import Source
from adaptive_diffusion.apps.server.app import create_app
from adaptive_diffusion.apps.server.limits import Limits
from adaptive_diffusion.apps.server.models import Model
from adaptive_diffusion.policies import ErrorControlled

TOLERANCE = 3.0  # at which a tiny model's few steps have something to skip
LOOSE = Choice(ErrorControlled(TOLERANCE))
FULL = Choice(ErrorControlled(0))


@dataclass(frozen=True)
class Served:
    """A running server.

    Attributes:
        url: its root.
        model: its first model, for what it makes alone.
    """

    url: str
    model: Model

    def client(self, **options: Any) -> openai.OpenAI:
        """OpenAI's own client."""
        defaults: dict[str, Any] = {"api_key": "none", "max_retries": 0, "timeout": 60}
        return openai.OpenAI(base_url=f"{self.url}/v1", **defaults | options)


def tiny_model(
    kind: str = "sd15", choice: Choice | None = None, profiles: Source | None = None
) -> Model:
    pipe = TINY_PIPELINES[kind].make()
    pipe.set_progress_bar_config(disable=True)
    guidance = 5.0 if kind == "sd15" else None
    return Model(kind, pipe, guidance, choice or LOOSE, profiles)


@contextmanager
def serving(*models: Model, limits: Limits | None = None, **options: Any) -> Iterator[Served]:
    """Runs a server for the length of the block."""
    with running(create_app(models, limits, **options)) as url:
        yield Served(url, models[0])
