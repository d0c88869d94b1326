"""The size at which a picture is edited."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_diffusion.apps.sharing import editing_size, own_side

sides = st.integers(1, 6000)
scales = st.sampled_from([1, 2, 8, 32])
own_sizes = st.none() | st.integers(1, 128)


def pipeline(scale: int, own: int | None) -> Any:
    unet = SimpleNamespace(config={} if own is None else {"sample_size": own})
    return SimpleNamespace(vae_scale_factor=scale, unet=unet)


@given(width=sides, height=sides, scale=scales, own=own_sizes, longest=st.integers(1, 2048))
def test_it_is_in_whole_blocks_and_within_the_bounds(
    width: int, height: int, scale: int, own: int | None, longest: int
) -> None:
    block = 2 * scale
    found = editing_size(pipeline(scale, own), (width, height), longest)
    bound = min(longest, max(width, height), longest if own is None else own * scale)
    assert all(side % block == 0 for side in found)
    assert max(found) <= max(block, bound)
    for side, before in zip(found, (width, height), strict=True):  # the picture's shape is kept
        assert side == block or 0 <= before * bound / max(width, height) - side < block


@pytest.mark.parametrize(
    ("name", "side"),
    [("sd15", 32), ("sdxl", 32), ("ddim", 16), ("sd3", None), ("flux", None)],
)
def test_a_models_own_size(tiny: Any, name: str, side: int | None) -> None:
    pipe = tiny(name)
    found = own_side(pipe)
    if side is None:  # where the call says it: what the pipeline makes unasked
        side = pipe.default_sample_size * pipe.vae_scale_factor
    assert found == side


@given(width=st.integers(1, 64), height=st.integers(1, 64), scale=scales)
def test_a_picture_that_fits_is_not_resized(width: int, height: int, scale: int) -> None:
    size = width * 2 * scale, height * 2 * scale
    assert editing_size(pipeline(scale, None), size, max(size)) == size
