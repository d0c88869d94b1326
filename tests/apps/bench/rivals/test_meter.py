"""Work is what torch itself counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tiny_pipelines import TINY_PIPELINES, run
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from adaptive_diffusion.apps.bench.rivals.base import Rival
from adaptive_diffusion.apps.bench.rivals.db_cache import DBCache
from adaptive_diffusion.apps.bench.rivals.deep_cache import DeepCache
from adaptive_diffusion.apps.bench.rivals.first_block_cache import FirstBlockCache
from adaptive_diffusion.apps.bench.rivals.meter import Meter, metered
from adaptive_diffusion.apps.bench.rivals.pyramid_attention import PyramidAttention
from adaptive_diffusion.apps.bench.rivals.taylor_seer import TaylorSeer


def _flops(pipe: Any, name: str, steps: int) -> int:
    # the fused attention of CPUs is unknown to torch's counter
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run(pipe, TINY_PIPELINES[name].inputs(1), steps=steps)
    return counter.get_total_flops()


@pytest.mark.parametrize(
    ("rival", "name", "package"),
    [
        (FirstBlockCache(0.9), "ltx", "diffusers"),
        (TaylorSeer(3, order=1), "flux_cfg", "diffusers"),
        (TaylorSeer(3, order=1, lite=True), "wan", "diffusers"),
        (PyramidAttention(4), "wan", "diffusers"),
        (DeepCache(3), "sd15", "DeepCache"),
        (DBCache(0.9, None), "flux_cfg", "cache_dit"),
        (DBCache(0.9, None), "pixart", "cache_dit"),
    ],
)
def test_agrees_with_torchs_own_count(
    tiny: Callable[[str], Any], rival: Rival, name: str, package: str
) -> None:
    pytest.importorskip(package)
    pipe = tiny(name)
    short, long = (_flops(pipe, name, steps) for steps in (4, 8))
    per_evaluation = (long - short) / 4  # text encoders and the like run once

    with rival.applied(pipe, 8) as work:
        saved = long - _flops(pipe, name, 8)

    assert work.nfe == pytest.approx(8 - saved / per_evaluation, abs=0.1)


@pytest.mark.parametrize("name", ["sd15", "flux_cfg", "wan22", "controlnet", "dit"])
def test_a_full_run_is_one_evaluation_per_step(tiny: Callable[[str], Any], name: str) -> None:
    with metered(tiny(name), Meter()) as work:
        pass
    assert work.per_step == []
    pipe = tiny(name)
    with metered(pipe, Meter()) as work:
        run(pipe, TINY_PIPELINES[name].inputs(1), steps=5)
    assert work.per_step == [1.0] * 5
    assert work.nfe == 5


def test_separate_calls_make_up_one_step(tiny: Callable[[str], Any]) -> None:
    class HalfTheCalls(Meter):
        def run(self, module: Any, position: int, call: Callable[[], Any]) -> Any:
            if position == 0 or not self.work.per_step:
                self.answer = call()
            return self.answer

    pipe = tiny("flux_cfg")
    with metered(pipe, HalfTheCalls()) as work:
        run(pipe, TINY_PIPELINES["flux_cfg"].inputs(1), steps=4)
    assert work.per_step == pytest.approx([1.0, 0.5, 0.5, 0.5], abs=0.01)
