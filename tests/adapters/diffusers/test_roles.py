"""Who denoises is seen by what a module does in the loop, not by its name."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from diffusers import DDIMPipeline, StableDiffusionPanoramaPipeline, UNet2DModel
from own_pipeline import STEPS, Network, OwnPipeline, Plans
from torch import Tensor, nn

import adaptive_diffusion as ad
from adaptive_diffusion import UnsupportedPipelineError

PLAN = (True, True, False)
MASK = [PLAN[step % 3] for step in range(STEPS)]


class Decoder(nn.Module):
    """Makes a preview of latents; of the sample's shape, as a denoiser's answer is."""

    def forward(self, latents: Tensor) -> Tensor:
        return latents / 2 + 0.5


def tiny_unet() -> UNet2DModel:
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=4,
    ).eval()


def check_skips(pipe: OwnPipeline, **call: Any) -> Tensor:
    plain = pipe(**call)
    with ad.accelerate(pipe, tolerance=0):
        assert torch.equal(pipe(**call), plain)
    with ad.accelerate(pipe, Plans(PLAN)) as run:
        skipped = pipe(**call)
    assert run.report.mask == [MASK]
    assert run.report.notes == []
    assert not torch.equal(skipped, plain)
    assert torch.equal(pipe(**call), plain)
    return skipped


@pytest.mark.parametrize("name", ["decoder", "unet_decoder", "prior", "preview"])
@pytest.mark.parametrize("kind", [Decoder, tiny_unet])
@pytest.mark.parametrize("before", [False, True], ids=["after the step", "before the step"])
def test_previews_are_of_their_own_step(name: str, kind: Any, before: bool) -> None:
    """Whatever the module is called, of whatever class it is, and whenever it is asked."""
    decoder = kind()
    pipe = OwnPipeline(**{name: decoder})
    previews: list[Tensor] = []

    def decode(x: Tensor, step: int) -> None:
        answer = decoder(x) if kind is Decoder else decoder(x, step).sample
        previews.append(answer.clone())

    if before:

        def ask(unet: Any, x: Tensor, t: Tensor, step: int) -> Tensor:
            decode(x, step)
            return unet(x, t)

        pipe.ask = ask
    else:
        pipe.between = decode
    with ad.accelerate(pipe, Plans(PLAN)) as run:
        pipe()
    assert run.report.mask == [MASK]
    assert len(previews) == STEPS
    assert not any(torch.equal(a, b) for a, b in itertools.pairwise(previews))


@pytest.mark.parametrize("name", ["model", "net", "decoder"])
def test_a_denoiser_may_have_any_name(name: str) -> None:
    class Named(OwnPipeline):
        @property
        def components(self) -> dict[str, Any]:
            return {name: self.unet, "scheduler": self.scheduler}

    check_skips(Named())


def test_a_denoiser_takes_over_in_the_middle() -> None:
    """It is computed where it does, and nothing is forecast from the other one's outputs."""
    pipe = OwnPipeline(second=Network(torch.neg))
    second = pipe.parts["second"]
    pipe.ask = lambda unet, x, t, step: (unet if step < 5 else second)(x, t)
    plain = pipe()
    with ad.accelerate(pipe, Plans(PLAN)) as run:
        skipped = pipe()
    assert run.report.mask == [[computed or step == 5 for step, computed in enumerate(MASK)]]
    assert (skipped - plain).norm() < plain.norm()


def test_denoisers_may_stand_in_a_list() -> None:
    class Listed(OwnPipeline):
        @property
        def components(self) -> dict[str, Any]:
            return {"experts": [self.unet], "scheduler": self.scheduler}

    check_skips(Listed())


class Engine:
    """What stands for a compiled engine: called like a module, and none."""

    def __init__(self, inner: nn.Module) -> None:
        self.inner = inner

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return self.inner(x, t)


def test_an_engine_in_a_denoisers_place_is_served() -> None:
    check_skips(OwnPipeline(Engine(Network())))
    pipe = OwnPipeline()
    ad.enable(pipe, Plans(PLAN))
    pipe.unet = Engine(pipe.unet)
    pipe()
    assert ad.report(pipe).mask == [MASK]
    assert type(pipe.unet) is Engine


def test_an_answer_that_goes_through_numpy_is_taken_for_the_denoisers() -> None:
    pipe = OwnPipeline()
    pipe.ask = lambda unet, x, t, step: torch.from_numpy(unet(x, t).numpy() * 1.0)
    check_skips(pipe)


class Streamed(OwnPipeline):
    """Yields its samples, one after the other."""

    def __call__(self, **call: Any) -> Iterator[Tensor]:  # type: ignore[override]
        for seed in (0, 1):
            yield super().__call__((seed,), **call)


def test_a_pipeline_may_be_a_generator() -> None:
    pipe = Streamed()
    plain = list(pipe())
    with ad.accelerate(pipe, tolerance=0):
        assert all(map(torch.equal, pipe(), plain))
    with ad.accelerate(pipe, Plans(PLAN)) as run:
        results = []
        for result in pipe():
            results.append(result)
            asked = pipe.unet.rows.copy()
            pipe.unet(result, 0.0)  # between two of them, the denoiser is anybody's
            assert len(pipe.unet.rows) == len(asked) + 1
    assert run.report.mask == [MASK * 2]
    assert not torch.equal(results[0], plain[0])


def test_a_pipeline_may_be_a_coroutine() -> None:
    import asyncio

    class Awaited(OwnPipeline):
        async def __call__(self, **call: Any) -> Tensor:  # type: ignore[override]
            await asyncio.sleep(0)
            return super().__call__(**call)

    pipe = Awaited()
    with ad.accelerate(pipe, Plans(PLAN)) as run:
        asyncio.run(pipe())
    assert run.report.mask == [MASK]


# What is not seen ---------------------------------------------------------------------------------


UNSEEN = {
    "thread pool": "another thread",
    "forward": "not by its forward",
    "hidden": "not by its forward",
}


@pytest.mark.parametrize("way", UNSEEN)
def test_where_no_denoiser_is_seen_the_report_says_so_and_warns(way: str) -> None:
    pipe = OwnPipeline()
    hidden = pipe.unet.forward
    with ThreadPoolExecutor(1) as pool:
        pipe.ask = {
            "thread pool": lambda unet, x, t, step: pool.submit(unet, x, t).result(),
            "forward": lambda unet, x, t, step: unet.forward(x, t),
            "hidden": lambda unet, x, t, step: hidden(x, t),
        }[way]
        plain = pipe()
        with ad.accelerate(pipe) as run, pytest.warns(UserWarning, match=UNSEEN[way]):
            assert torch.equal(pipe(), plain)
    assert run.report.steps == 0
    assert "nothing was skipped: 12 steps were seen" in str(run.report)


def test_steps_whose_calls_are_not_seen_count_as_computed() -> None:
    pipe = OwnPipeline()
    pipe.ask = lambda unet, x, t, step: (unet.forward if 4 <= step < 8 else unet)(x, t)
    with ad.accelerate(pipe, Plans((True, False))) as run:
        pipe()
    assert len(run.report.mask[0]) == STEPS
    assert all(run.report.mask[0][4:8])
    assert not all(run.report.mask[0][8:])
    assert "not seen" in str(run.report)


# Refusals -----------------------------------------------------------------------------------------


def test_a_subclass_of_what_is_refused_is_refused(tiny: Any) -> None:
    class Wide(StableDiffusionPanoramaPipeline):
        pass

    parts = tiny("sd15").components
    with pytest.raises(UnsupportedPipelineError, match="Wide can't be accelerated: it blends"):
        ad.enable(Wide(**parts, requires_safety_checker=False))


@pytest.mark.parametrize("name", ["MESSAGEPipeline", "CombinedDigits", "AmusedMyself"])
def test_a_name_alone_is_no_reason(name: str) -> None:
    digits = ad.load_miniature("digits")
    pipe = type(name, (DDIMPipeline,), {})(**digits.components)
    ad.enable(pipe)
    ad.disable(pipe)
