"""A generation holds little, and lets go of all of it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from tiny_pipelines import BETAS, TINY_PIPELINES, run
from torch import Tensor

import adaptive_diffusion as ad
from adaptive_diffusion import ErrorControlled, FixedSchedule, Policy
from adaptive_diffusion.adapters.diffusers import generation
from adaptive_diffusion.trajectory import trajectory

Tiny = Callable[[str], Any]
STEPS = 24
LARGE = {"height": 256, "width": 256}  # a generator's state is small beside it
MOST = 16  # copies of the denoiser's output
POLICIES = {"longest": ErrorControlled(1e9), "usual": ErrorControlled(0.03)}


def tensors_alive() -> dict[int, int]:
    """The bytes of every storage that some tensor holds which is newer than `clean`."""
    return {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in gc.get_objects()
        if type(tensor) is Tensor and tensor.layout == torch.strided
    }


def most_bytes(pipe: Any, inputs: dict[str, Any]) -> int:
    """What a run has at most newly alive at the end of a step."""
    gc.collect()
    before = tensors_alive().keys()
    most = 0

    def weigh(_: Any, __: int, ___: Any, given: dict[str, Any]) -> dict[str, Any]:
        nonlocal most
        new = sum(size for at, size in tensors_alive().items() if at not in before)
        most = max(most, new)
        return given

    run(pipe, inputs, steps=STEPS, callback_on_step_end=weigh)
    return most


def simplify(denoiser: Any) -> None:
    """Real sizes at no cost: the network's place is taken by a formula."""

    def forward(*args: Any, **kwargs: Any) -> tuple[Tensor]:
        sample = args[0] if args else kwargs["hidden_states"]
        return (0.5 * sample + torch.tanh(sample).roll(1, dims=-1),)

    denoiser.forward = forward


def output_bytes(pipe: Any, inputs: dict[str, Any]) -> int:
    sizes: list[int] = []
    denoiser = getattr(pipe, "unet", None) or pipe.transformer
    handle = denoiser.register_forward_hook(
        lambda _, __, output: sizes.append(output[0].untyped_storage().nbytes())
    )
    run(pipe, inputs, steps=2)
    handle.remove()
    return max(sizes)


@pytest.fixture(params=["ddim", "unipc", "dpmsolver++", "flux"])
def case(request: pytest.FixtureRequest, tiny: Tiny) -> tuple[Any, Callable[[int], dict[str, Any]]]:
    """Guided under three solvers, and a model that takes no guidance."""
    if request.param == "flux":
        pipe = tiny("flux")
        simplify(pipe.transformer)
        return pipe, lambda batch: TINY_PIPELINES["flux"].inputs(batch) | LARGE
    pipe = tiny("sd15")
    simplify(pipe.unet)
    kinds = {
        "ddim": DDIMScheduler,
        "unipc": UniPCMultistepScheduler,
        "dpmsolver++": DPMSolverMultistepScheduler,
    }
    pipe.scheduler = kinds[request.param](**BETAS)
    return pipe, lambda batch: TINY_PIPELINES["sd15"].inputs(batch) | LARGE


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_at_most_16_copies_of_the_denoisers_output_are_held(
    case: tuple[Any, Callable[[int], dict[str, Any]]], batch: int, policy: Policy
) -> None:
    pipe, inputs_of = case
    inputs = inputs_of(batch)
    copy = output_bytes(pipe, inputs)
    plain = most_bytes(pipe, inputs)
    with ad.accelerate(pipe, policy) as accelerated:
        extra = most_bytes(pipe, inputs) - plain
    assert not all(map(all, accelerated.report.mask))
    assert 0 < extra / copy <= MOST


def test_a_long_run_of_skips_does_not_hold_more_and_more(tiny: Tiny) -> None:
    pipe, inputs = tiny("sd15"), TINY_PIPELINES["sd15"].inputs(1) | LARGE
    simplify(pipe.unet)
    copy = output_bytes(pipe, inputs)
    plain = most_bytes(pipe, inputs)
    with ad.accelerate(pipe, FixedSchedule([i < 2 or i == STEPS - 1 for i in range(STEPS)])):
        extra = most_bytes(pipe, inputs) - plain
    assert extra / copy <= MOST


@pytest.fixture
def born(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Any]]:
    """Every generation and trajectory that is made during the test."""
    refs: list[weakref.ref[Any]] = []
    for cls in (generation.Generation, trajectory.Trajectory):

        def init(self: Any, *args: Any, original: Any = cls.__init__, **kwargs: Any) -> None:
            refs.append(weakref.ref(self))
            original(self, *args, **kwargs)

        monkeypatch.setattr(cls, "__init__", init)
    return refs


@pytest.fixture(autouse=True)
def clean(tiny: Tiny) -> Iterator[None]:
    gc.collect()
    gc.freeze()  # what is there already is no longer listed
    yield
    gc.unfreeze()


def test_all_is_freed_when_the_call_ends(
    case: tuple[Any, Callable[[int], dict[str, Any]]], born: list[weakref.ref[Any]]
) -> None:
    """At once, not at the next collection of cycles; only the report remains."""
    pipe, inputs_of = case
    inputs = inputs_of(2)
    run(pipe, inputs, steps=8)  # the schedulers keep some of their last tensors
    held = [sum(tensors_alive().values())]
    for _ in range(2):
        gc.collect()
        gc.disable()
        try:
            with ad.accelerate(pipe, tolerance=1e9) as accelerated:
                run(pipe, inputs, steps=8)
            assert [ref() for ref in born] == [None] * len(born)
        finally:
            gc.enable()
        assert not all(accelerated.report.mask[0])
        gc.collect()
        held.append(sum(tensors_alive().values()))
    assert len(born) == 4
    assert held[1] <= held[0] + 64  # a number or two
    assert held[2] <= held[0] + 64


def test_all_is_freed_after_an_exception(tiny: Tiny, born: list[weakref.ref[Any]]) -> None:
    pipe = tiny("sd15")
    inputs = TINY_PIPELINES["sd15"].inputs(1)
    run(pipe, inputs, steps=8)
    gc.collect()
    held = sum(tensors_alive().values())

    def stop(_: Any, step: int, __: Any, given: dict[str, Any]) -> dict[str, Any]:
        if step == 5:
            raise KeyboardInterrupt
        return given

    with ad.accelerate(pipe, tolerance=1e9), pytest.raises(KeyboardInterrupt):
        run(pipe, inputs, steps=8, callback_on_step_end=stop)
    gc.collect()
    assert len(born) == 2
    assert [ref() for ref in born] == [None, None]
    assert sum(tensors_alive().values()) <= held + 64


def test_a_pipeline_that_was_enabled_can_be_freed(tiny: Tiny) -> None:
    pipe = TINY_PIPELINES["ddim"].make()
    ad.enable(pipe, tolerance=3.0)
    run(pipe, TINY_PIPELINES["ddim"].inputs(1), steps=4)
    ref = weakref.ref(pipe)
    del pipe
    gc.collect()
    assert ref() is None
