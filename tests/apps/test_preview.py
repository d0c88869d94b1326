"""Previews are what the pipeline itself would decode."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_pipelines import TINY_PIPELINES, run

from adaptive_diffusion.apps.preview import Previews, preview


@torch.no_grad()
def test_a_preview_of_the_last_latents_is_the_picture() -> None:
    pipe = TINY_PIPELINES["sd15"].make()
    seen: list[np.ndarray | None] = []

    def look(pipe: Any, _: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append(preview(pipe, tensors["latents"]))
        return tensors

    inputs = TINY_PIPELINES["sd15"].inputs(2)
    picture = run(pipe, inputs, callback_on_step_end=look, output_type="np")
    assert seen[-1] is not None
    assert np.allclose(seen[-1], picture.numpy(), atol=1e-6)


def test_there_is_none_where_latents_are_packed_or_films() -> None:
    assert preview(TINY_PIPELINES["flux"].make(), torch.zeros(1, 64, 16)) is None
    assert preview(TINY_PIPELINES["wan"].make(), torch.zeros(1, 16, 3, 8, 8)) is None
    assert preview(TINY_PIPELINES["ddim"].make(), None) is None


@given(total=st.integers(1, 60), count=st.integers(1, 5))
def test_previews_are_evenly_spread(total: int, count: int) -> None:
    vae = TINY_PIPELINES["sd15"].make().vae
    pipe = SimpleNamespace(vae=vae, num_timesteps=total)
    latents = torch.zeros(1, vae.config.latent_channels, 2, 2)
    shown: list[int] = []
    previews = Previews(count, lambda _: shown.append(step))
    for step in range(total):
        previews(pipe, step, None, {"latents": latents})
    assert len(shown) == min(count, total - 1)
    ends = [0, *(step + 1 for step in shown), total]
    lengths = [after - before for before, after in pairwise(ends)]
    assert max(lengths) - min(lengths) <= 1
