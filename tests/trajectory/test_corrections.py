"""Corrections: what is put together still acts as it did apart, and there is little of it."""

from __future__ import annotations

import pytest
import torch
from samplers import SAMPLERS, sigmas, start

from adaptive_diffusion.trajectory.corrections import Corrections
from adaptive_diffusion.trajectory.probe import probe
from adaptive_diffusion.trajectory.random_sources import RandomSources


@pytest.mark.parametrize("name", SAMPLERS)
def test_merged_changes_act_as_apart_and_are_few(name: str) -> None:
    def run(stand_in):  # type: ignore[no-untyped-def]
        return SAMPLERS[name](lambda x, t: stand_in(x, t)[0], start(), sigmas(20))

    response = probe(run, RandomSources()).response
    apart, merged = Corrections(response), Corrections(response)
    noise = torch.Generator().manual_seed(0)
    most = 0
    for call in range(response.calls):
        change = torch.randn(50, generator=noise)
        apart.add((call, 0), change)
        merged.add((call, 0), change)
        merged.merge(call + 1)
        most = max(most, len(merged))
        expected, found = apart.at(call + 1), merged.at(call + 1)
        assert expected is not None
        assert found is not None
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert len(apart) == response.calls
    assert most <= 4


def test_nothing_lacks_at_first() -> None:
    def run(stand_in):  # type: ignore[no-untyped-def]
        return SAMPLERS["euler"](lambda x, t: stand_in(x, t)[0], start(), sigmas(6))

    corrections = Corrections(probe(run, RandomSources()).response)
    assert corrections.at(3) is None
    corrections.add((4, 0), torch.ones(2))
    assert corrections.at(3) is None
