"""The public face, used as the README does."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from schedulers import generate, relative_difference

import adaptive_diffusion as ad

Tiny = Callable[[str], Any]


def test_all_names_are_there_and_documented() -> None:
    assert sorted(ad.__all__) == sorted(set(ad.__all__))
    for name in ad.__all__:
        assert inspect.getdoc(getattr(ad, name)), name


def test_enable_generate_report_disable(tiny: Tiny) -> None:
    pipe = tiny("sd15")
    plain = generate(pipe, 2, steps=20)
    ad.enable(pipe)
    skipped = generate(pipe, 2, steps=20)
    report = ad.report(pipe)
    assert report.policy == ad.ErrorControlled()
    assert report.steps == 20
    assert len(report.nfe) == 2
    assert report.mask[0][:3] == [True] * 3
    assert report.mask[0][-1]
    assert report.speedup > 1.1
    assert report.seconds > 0
    assert 0 < relative_difference(skipped, plain) < 0.1
    ad.disable(pipe)
    assert torch.equal(generate(pipe, 2, steps=20), plain)


def test_tolerance_is_short_for_the_policy(tiny: Tiny) -> None:
    pipe = tiny("sd15")
    ad.enable(pipe, tolerance=0.05)
    first = generate(pipe)
    assert ad.report(pipe).policy == ad.ErrorControlled(tolerance=0.05)
    ad.enable(pipe, ad.ErrorControlled(tolerance=0.05))
    assert torch.equal(generate(pipe), first)


def test_accelerate_is_enable_for_a_block(tiny: Tiny) -> None:
    pipe = tiny("sd15")
    plain = generate(pipe)
    with ad.accelerate(pipe, tolerance=0.1) as run:
        skipped = generate(pipe)
        assert run.report.nfe[0] < 8
    assert run.report.nfe[0] < 8  # still there after the block
    assert not torch.equal(skipped, plain)
    assert torch.equal(generate(pipe), plain)


def test_a_larger_tolerance_takes_fewer_calls_and_is_further_off(tiny: Tiny) -> None:
    pipe = tiny("sd15")
    plain = generate(pipe, 2, steps=30)
    found = []
    for tolerance in (0.001, 0.02, 0.5):
        with ad.accelerate(pipe, tolerance=tolerance) as run:
            result = generate(pipe, 2, steps=30)
        found.append((sum(run.report.nfe), relative_difference(result, plain)))
    evaluations, distances = zip(*found, strict=True)
    assert evaluations[0] >= evaluations[1] >= evaluations[2]
    assert evaluations[0] > evaluations[2]
    assert distances[0] <= distances[1] <= distances[2]
    assert distances[0] < distances[2]


@pytest.mark.parametrize("policy", [ad.ErrorControlled(0.1), ad.ThirdOrder(0.3)], ids=["a", "b"])
def test_a_report_names_its_policy(policy: ad.Policy, tiny: Tiny) -> None:
    pipe = tiny("sd15")
    with ad.accelerate(pipe, policy) as run:
        generate(pipe, steps=12)
    assert str(policy) in str(run.report)
