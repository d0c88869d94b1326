"""What every pipeline must keep to, examined on its tiny stand-in."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from tiny_pipelines import TinyPipeline, outputs, single
from torch import Tensor, nn

import adaptive_diffusion as ad
from adaptive_diffusion import Policy, Report, Trace
from adaptive_diffusion.trajectory import Trajectory
from adaptive_diffusion.trajectory.tape import Tape

__all__ = ["Facts", "examine"]

_PLANS = ((True, True, False, True, False, False), (True, True, True, False, False, True))
"""Which steps are computed, over and over: the first sample's, and its neighbour's."""

_CLOSE = 1e-3
"""A batch's rows and single runs differ in rounding only, relative to the result."""


@dataclass(frozen=True)
class Facts:
    """What a pipeline allows; a row of docs/pipelines.md.

    Attributes:
        steps: Steps of the loop, as the scheduler counts them.
        calls: Denoiser calls of the full run.
        calls_made: Those of a run in which half of the steps are to be skipped.
        per_sample: Whether a batch's samples have plans of their own; None if it takes no batch.
        side_calls: Calls of the ControlNets in the full run.
        side_calls_made: Those of the run with skips.
        backfilled: Whether skipped steps were made good.
    """

    steps: int
    calls: int
    calls_made: int
    per_sample: bool | None
    side_calls: int
    side_calls_made: int
    backfilled: bool


class Prescribed(Policy):
    """Plans that are given, sample by sample, and repeated for as long as a loop lasts."""

    def __init__(self, *plans: tuple[bool, ...]) -> None:
        self._plans = plans
        self._samples: dict[int, tuple[Trace, tuple[bool, ...]]] = {}

    def decide(self, trace: Trace) -> bool:
        if id(trace) not in self._samples:  # samples are asked for in their order
            plan = self._plans[len(self._samples) % len(self._plans)]
            self._samples[id(trace)] = trace, plan
        plan = self._samples[id(trace)][1]
        return plan[trace.step % len(plan)]


def examine(tiny: TinyPipeline) -> Facts:
    """Holds the pipeline to all that is promised, and says what it allows.

    Raises:
        AssertionError: where a promise is not kept.
    """
    pipe = tiny.make()
    inputs = tiny.inputs(1)
    cls = type(pipe)
    with _calls(pipe, tiny.denoisers) as calls, _calls(pipe, tiny.side_networks) as side_calls:
        plain = _run(pipe, inputs)
    assert calls, "the denoisers named are not called"
    assert all(tensor.isfinite().all() for tensor in plain), "the plain run is not finite"

    whole_run = _examine_identity(pipe, inputs, plain)
    made, side_made, backfilled = _examine_skips(pipe, tiny, inputs, plain, len(calls))
    if side_calls:
        assert len(side_made) < len(side_calls), "a side network is called where all skip"
    _examine_default(pipe, inputs, plain)
    _examine_exact_calls(pipe, tiny, inputs)
    per_sample = _examine_batch(pipe, tiny) if tiny.batches else None

    ad.disable(pipe)
    assert type(pipe) is cls
    assert _equal(_run(pipe, inputs), plain), "disabled, the pipeline is not what it was"
    return Facts(
        whole_run.steps,
        len(calls),
        len(made),
        per_sample,
        len(side_calls),
        len(side_made),
        backfilled,
    )


def _examine_identity(pipe: Any, inputs: dict[str, Any], plain: list[Tensor]) -> Report:
    """At tolerance zero nothing is skipped, and nothing is changed."""
    ad.enable(pipe, tolerance=0)
    assert _equal(_run(pipe, inputs), plain), "not bit-identical at tolerance 0"
    report = ad.report(pipe)
    assert report.mask, "no denoising loop was seen"
    assert all(all(row) for row in report.mask)
    return report


def _examine_skips(
    pipe: Any, tiny: TinyPipeline, inputs: dict[str, Any], plain: list[Tensor], full_calls: int
) -> tuple[list[int], list[int], bool]:
    """Skips that are asked for are made, and a second call is like the first."""
    with (
        _calls(pipe, tiny.denoisers) as calls,
        _calls(pipe, tiny.side_networks) as side_calls,
        _replays() as replays,
    ):
        ad.enable(pipe, Prescribed(_PLANS[0]))
        skipped = _run(pipe, inputs)
    report = ad.report(pipe)
    expected = _planned(_PLANS[0], report.steps)
    assert 0 < len(calls) < full_calls, f"{len(calls)} of {full_calls} calls made"
    if tiny.strict:
        assert all(row == expected for row in report.mask), "the plan was not obeyed"
        assert len(calls) * report.steps == full_calls * sum(expected), "calls differ from the plan"
    assert [tensor.shape for tensor in skipped] == [tensor.shape for tensor in plain]
    assert all(tensor.isfinite().all() for tensor in skipped), "not finite with skips"
    assert not _equal(skipped, plain), "skipping changes nothing: the denoiser has no effect"
    ad.enable(pipe, Prescribed(_PLANS[0]))
    assert _equal(_run(pipe, inputs), skipped), "a second call differs from the first"
    return calls, side_calls, bool(replays)


def _examine_default(pipe: Any, inputs: dict[str, Any], plain: list[Tensor]) -> None:
    ad.enable(pipe)
    result = _run(pipe, inputs)
    assert [tensor.shape for tensor in result] == [tensor.shape for tensor in plain]
    assert all(tensor.isfinite().all() for tensor in result), "not finite by default"
    assert str(ad.report(pipe))


def _examine_exact_calls(pipe: Any, tiny: TinyPipeline, inputs: dict[str, Any]) -> None:
    """So many calls as are asked for are made in every loop, or the report says why not."""
    for nfe in (2, 4):
        ad.enable(pipe, nfe=nfe)
        with _loops() as loops:
            result = _run(pipe, inputs)
        assert all(tensor.isfinite().all() for tensor in result), f"not finite with {nfe} calls"
        masks = [row for loop in loops for row in loop.mask if row]
        kept = all(sum(row) == min(nfe, len(row)) for row in masks)
        notes = [note for note in ad.report(pipe).notes if "calls instead of" in note]
        assert masks, "no loop was planned"
        if tiny.strict:  # else calls may come that were not planned
            assert kept == tiny.exact, f"{[sum(row) for row in masks]} calls, not {nfe} in each"
        assert bool(notes) != kept, f"the notes are {notes}"


def _examine_batch(pipe: Any, tiny: TinyPipeline) -> bool:
    """A batch of two gives what single runs give, each with a plan of its own."""
    inputs = tiny.inputs(2)
    ad.enable(pipe, Prescribed(*_PLANS))
    together = _run(pipe, inputs)
    report = ad.report(pipe)
    if tiny.whole:
        assert any(tiny.whole in note for note in report.notes), f"the notes are {report.notes}"
        return False
    assert report.notes == [], f"unexpected: {report.notes}"
    for b, plan in enumerate(_PLANS):
        ad.enable(pipe, Prescribed(plan))
        alone = _run(pipe, single(inputs, b), seed=b)
        for row, result in zip(together, alone, strict=False):
            share = len(row) // 2
            difference = (row[b * share : (b + 1) * share] - result).norm() / result.norm()
            assert difference < _CLOSE, f"sample {b} of a batch is {difference:.1e} off its own run"
    return True


def _run(pipe: Any, inputs: dict[str, Any], seed: int = 0) -> list[Tensor]:
    torch.manual_seed(seed)  # some pipelines draw from the global generator, too
    return outputs(pipe, inputs, seed=seed)


def _planned(plan: tuple[bool, ...], steps: int) -> list[bool]:
    return [i == 0 or plan[i % len(plan)] for i in range(steps)]


def _equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


@contextmanager
def _calls(pipe: Any, names: tuple[str, ...]) -> Iterator[list[int]]:
    """A list that grows with every call of the components with these names."""
    calls: list[int] = []
    parts = [functools.reduce(getattr, name.split("."), pipe) for name in names]
    hooks = [
        part.register_forward_pre_hook(lambda *_: calls.append(1))
        for part in parts
        if isinstance(part, nn.Module)
    ]
    yield calls
    for hook in hooks:
        hook.remove()


@contextmanager
def _loops() -> Iterator[list[Trajectory]]:
    """A list that grows with every loop that begins."""
    loops: list[Trajectory] = []
    begin = Trajectory.__init__

    def noted(self: Trajectory, *args: Any, **options: Any) -> None:
        loops.append(self)
        begin(self, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trajectory, "__init__", noted)
        yield loops


@contextmanager
def _replays() -> Iterator[list[int]]:
    """A list that grows whenever skipped steps are taken again."""
    replays: list[int] = []
    replay = Tape.replay

    def counted(self: Tape, *args: Any) -> Tensor:
        replays.append(1)
        return replay(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tape, "replay", counted)
        yield replays
