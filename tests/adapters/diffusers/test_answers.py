"""Whatever container a denoiser takes and answers with, each row of a batch is its own run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from adapters.test_containers import CONTAINERS
from own_pipeline import Network, OwnPipeline, Plans
from torch import Tensor, nn

import adaptive_diffusion as ad

_PLANS = ((True, True, False), (True, True, True, False, False))


def check_rows(pipe: OwnPipeline) -> None:
    """A batch of two with two plans gives what two single runs give."""
    plain = pipe((0, 1))
    with ad.accelerate(pipe, tolerance=0):
        assert torch.equal(pipe((0, 1)), plain)
    with ad.accelerate(pipe, Plans(*_PLANS)) as run:
        together = pipe((0, 1))
        assert run.report.notes == []
        assert run.report.mask[0] != run.report.mask[1]
    for seed, plan in enumerate(_PLANS):
        with ad.accelerate(pipe, Plans(plan)):
            torch.testing.assert_close(together[seed : seed + 1], pipe((seed,)))


@pytest.mark.parametrize("answer", CONTAINERS.values(), ids=CONTAINERS)
def test_denoisers_may_answer_in_any_container(answer: Callable[[Tensor], Any]) -> None:
    check_rows(OwnPipeline(Network(answer)))


class Conditioned(nn.Module):
    """Takes a number for every sample out of a container."""

    def forward(self, sample: Tensor, t: Tensor, given: Any) -> Tensor:
        while not isinstance(given, Tensor):
            given = getattr(given, "sample", None) if hasattr(given, "sample") else _inside(given)
        return 0.3 * sample + torch.tanh(sample + t / 1000 + given.view(-1, 1, 1, 1))


def _inside(given: Any) -> Any:
    return next(iter(given.values() if hasattr(given, "keys") else given))


@pytest.mark.parametrize("make", CONTAINERS.values(), ids=CONTAINERS)
def test_conditioning_may_come_in_any_container(make: Callable[[Tensor], Any]) -> None:
    """It is cut to the rows that are computed, or the batch is decided as a whole and says so."""
    pipe = OwnPipeline(Conditioned())

    def ask(unet: Any, x: Tensor, t: Tensor, step: int) -> Any:
        return unet(x, t, make(x.flatten(1).mean(1)))

    pipe.ask = ask
    with ad.accelerate(pipe, Plans(*_PLANS)) as run:
        together = pipe((0, 1))
    if run.report.notes:
        assert "may keep what it is shown" in str(run.report)
        return
    for seed, plan in enumerate(_PLANS):
        with ad.accelerate(pipe, Plans(plan)):
            torch.testing.assert_close(together[seed : seed + 1], pipe((seed,)))


def test_answers_whose_rows_are_not_samples_keep_a_batch_whole() -> None:
    """Tokens in the first dimension, say."""
    pipe = OwnPipeline(Network(lambda output: (output, output.flatten(0, 1))))
    with ad.accelerate(pipe, Plans(*_PLANS)) as run:
        pipe((0, 1))
    assert "decided as a whole: the denoiser's answer" in str(run.report)


def test_one_buffer_for_all_answers_is_copied() -> None:
    """As CUDA graphs have it: the next call writes over what the last one answered."""
    buffer = torch.empty(1, 4, 8, 8)
    results = []
    for answer in (lambda output: output, lambda output: buffer.copy_(output)):
        pipe = OwnPipeline(Network(answer))
        with ad.accelerate(pipe, Plans(_PLANS[0])):
            results.append(pipe())
    assert torch.equal(*results)


class Patched(Network):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Identity()

    def forward(self, sample: Tensor, t: Tensor, shift: Any = 0.0) -> Any:
        return super().forward(self.block(sample), t)


@pytest.mark.parametrize("way", ["forward", "hook"])
def test_a_module_that_is_patched_from_outside_keeps_a_batch_whole(way: str) -> None:
    """Its code may know how many rows there are: reference-only attention masks all of them."""
    network, mask = Patched(), torch.tensor([0.5, 1.0]).view(2, 1, 1, 1)
    pipe = OwnPipeline(network)
    if way == "forward":
        network.block.forward = lambda x: x * mask  # type: ignore[method-assign]
    else:
        network.block.register_forward_hook(lambda _, __, x: x * mask)
    with ad.accelerate(pipe, Plans(*_PLANS)) as run:
        pipe((0, 1))
    assert "decided as a whole: the denoiser has attention of its own, or other code" in str(
        run.report
    )


def test_a_time_may_stand_before_the_samples() -> None:
    class TimeFirst(nn.Module):
        def forward(self, t: Tensor, sample: Tensor) -> Tensor:
            return 0.3 * sample + torch.tanh(sample + t.view(-1, 1, 1, 1) / 1000)

    pipe = OwnPipeline(TimeFirst())
    pipe.ask = lambda unet, x, t, step: unet(t.expand(len(x)), x)
    check_rows(pipe)
