"""Previews are what the pipeline itself would decode."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tiny_pipelines import TINY_PIPELINES, run

from adaptive_diffusion.apps.page.preview import preview


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
