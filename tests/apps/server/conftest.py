"""Servers for the tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from running_server import Served, serving, tiny_model

from adaptive_diffusion import Profile, calibrate
from adaptive_diffusion.apps.server.models import Model


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Starts servers that end with the test; `serve(model, ..., limits=...)`."""
    with ExitStack() as stack:

        def start(*models: Model, **options: Any) -> Served:
            return stack.enter_context(serving(*(models or (tiny_model(),)), **options))

        yield start


@pytest.fixture(scope="session")
def measured() -> Profile:
    """What is measured of the tiny Stable Diffusion, with the calls that the tests make."""
    pipe = tiny_model().pipe
    call = {"num_inference_steps": 10, "guidance_scale": 5.0, "height": 32, "width": 32}
    return calibrate(pipe, ["a", "b", "c", "d"], budget_nfe=6, **call)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """One server for the tests of a module."""
    with serving(tiny_model("sd15"), tiny_model("ddim")) as running:
        yield running
