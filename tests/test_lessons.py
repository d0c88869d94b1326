"""Pipelines that learn from their first samples: what teaches, and what comes of it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from own_pipeline import OwnPipeline
from schedulers import generate, pipeline_with, relative_difference
from tiny_pipelines import TINY_PIPELINES, run
from torch import Tensor

import adaptive_diffusion as ad

Tiny = Callable[[str], Any]
NFE = 5


def note_of(pipe: Any) -> str:
    """What the report of the last call says of teaching or learning."""
    return ad.report(pipe).notes[-1]


def taught(pipe: Any, samples: int = 2, **call: Any) -> Any:
    """The pipeline, after the samples that teach."""
    ad.enable(pipe, nfe=NFE, learn=samples)
    for seed in range(samples):
        generate(pipe, seed=seed, **call)
    return pipe


# What teaches ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["ddim", "dpmsolver++", "euler_ancestral", "heun", "pndm", "unipc"]
)
def test_samples_that_teach_are_the_plain_ones_and_later_ones_have_their_calls(name: str) -> None:
    pipe = pipeline_with(name)
    plain = [generate(pipe, seed=seed) for seed in range(3)]
    ad.enable(pipe, nfe=NFE, learn=2)
    for seed in range(2):
        assert torch.equal(generate(pipe, seed=seed), plain[seed])
        assert ad.report(pipe).nfe == [ad.report(pipe).steps]
        assert note_of(pipe) == f"taught: sample {seed + 1} of 2"
        assert "in full, to learn" in str(ad.report(pipe))
    later = generate(pipe, seed=2)
    assert ad.report(pipe).nfe == [NFE]
    assert note_of(pipe) == str(ad.profile(pipe))
    assert ad.profile(pipe).noisy == (name == "euler_ancestral")
    assert 0 < relative_difference(later, plain[2]) < 1


@pytest.mark.parametrize("name", ["sd3", "wan22", "controlnet", "animatediff", "ddim"])
def test_pipelines_of_every_kind_teach(name: str) -> None:
    tiny = TINY_PIPELINES[name]
    pipe = tiny.make()
    plain = run(pipe, tiny.inputs(1), steps=8)
    ad.enable(pipe, nfe=NFE, learn=1)
    assert torch.equal(run(pipe, tiny.inputs(1), steps=8), plain)
    assert note_of(pipe) == "taught: sample 1 of 1"
    assert run(pipe, tiny.inputs(1), steps=8).isfinite().all()
    assert ad.report(pipe).nfe == [NFE]


def test_every_row_of_a_batch_teaches(tiny: Tiny) -> None:
    pipe = tiny("sd15")
    ad.enable(pipe, nfe=NFE, learn=2)
    generate(pipe, batch=4)
    assert note_of(pipe) == "taught: samples 1 to 4 of 4"
    assert ad.profile(pipe).learned_from == 4
    generate(pipe, batch=4)
    assert ad.report(pipe).nfe == [NFE] * 4


def test_a_batch_teaches_what_its_samples_teach(tiny: Tiny) -> None:
    pipe = tiny("sd15")
    call = {"prompt": ["a red apple"] * 3, "seed": 0}
    ad.enable(pipe, nfe=NFE, learn=3)
    generate(pipe, batch=3, **call)
    together = ad.profile(pipe).measured
    ad.enable(pipe, nfe=NFE, learn=3)
    for seed in range(3):
        generate(pipe, prompt=["a red apple"], seed=seed)
    apart = ad.profile(pipe).measured
    assert together is not None
    assert apart is not None
    torch.testing.assert_close(
        together.loops[0][0].kernel, apart.loops[0][0].kernel, rtol=1e-4, atol=1e-6
    )


def test_a_call_that_fails_teaches_nothing(tiny: Tiny) -> None:
    pipe = tiny("sd15")
    ad.enable(pipe, nfe=NFE, learn=1)

    def fail(*_: Any) -> dict[str, Any]:
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        generate(pipe, callback_on_step_end=fail)
    with pytest.raises(ad.ProfileError, match="0 of 1 samples have taught: make 1 more"):
        ad.profile(pipe)
    generate(pipe)
    assert note_of(pipe) == "taught: sample 1 of 1"


def test_a_call_that_is_interrupted_teaches_nothing(tiny: Tiny) -> None:
    pipe = tiny("sd15")

    def interrupt(pipe: Any, step: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        pipe._interrupt = step == 4
        return tensors

    ad.enable(pipe, nfe=NFE, learn=1)
    generate(pipe, callback_on_step_end=interrupt)
    assert note_of(pipe) == "taught nothing: a loop was ended early"
    generate(pipe)
    assert note_of(pipe) == "taught: sample 1 of 1"


def test_loops_that_always_end_early_teach() -> None:
    class Leaves(OwnPipeline):
        def __call__(self, **call: Any) -> Tensor:  # type: ignore[override]
            try:
                return super().__call__(**call)
            except StopIteration as reached:
                return reached.value

    def leave(x: Tensor, step: int) -> None:
        if step == 8:
            raise StopIteration(x)

    pipe = Leaves()
    pipe.between = leave
    ad.enable(pipe, nfe=NFE, learn=1)
    pipe()
    assert note_of(pipe) == "taught nothing: a loop was ended early"
    pipe()
    assert note_of(pipe) == "taught: sample 1 of 1"
    pipe()
    assert ad.report(pipe).nfe_reduction > 1


def test_a_generator_that_is_left_teaches_nothing() -> None:
    class Yielding(OwnPipeline):
        def __call__(self, **call: Any) -> Iterator[Tensor]:  # type: ignore[override]
            yield super().__call__(**call)
            yield torch.zeros(1)

    pipe = Yielding()
    ad.enable(pipe, nfe=NFE, learn=1)
    left = pipe()
    next(left)
    left.close()
    with pytest.raises(ad.ProfileError, match="0 of 1"):
        ad.profile(pipe)
    list(pipe())
    assert ad.profile(pipe).learned_from == 1


def test_outputs_that_are_no_numbers_teach_nothing() -> None:
    pipe = OwnPipeline()
    pipe.unet.scale = float("nan")
    ad.enable(pipe, nfe=NFE, learn=1)
    pipe()
    assert note_of(pipe) == "taught nothing: outputs of the denoiser are not finite"
    pipe.unet.scale = 1.0
    pipe()
    assert pipe().isfinite().all()
    assert ad.report(pipe).nfe == [NFE]


@pytest.mark.parametrize("steps", [1, 2])
def test_loops_of_which_nothing_can_be_skipped_teach_nothing(steps: int, tiny: Tiny) -> None:
    pipe = tiny("sd15")
    ad.enable(pipe, nfe=NFE, learn=1)
    generate(pipe, steps=steps)
    assert note_of(pipe) == (
        "taught nothing: it ran no loop of 3 steps or more that can be followed"
    )


def test_where_streams_differ_in_their_steps_calls_are_as_without_learning() -> None:
    """The second stream goes every other step only."""
    from diffusers import DDIMScheduler

    def steps_twice(pipe: OwnPipeline) -> Callable[[Tensor, int], None]:
        def between(x: Tensor, step: int) -> None:
            if step % 2 == 0:
                t = pipe.parts["other"].timesteps[step]
                pipe.parts["other"].step(0.1 * x, t, 2 * x)

        return between

    pipe = OwnPipeline(other=DDIMScheduler(clip_sample=False))
    pipe.parts["other"].set_timesteps(12)
    pipe.between = steps_twice(pipe)
    ad.enable(pipe, nfe=NFE, learn=1)
    pipe()
    why = (
        "nothing can be learned: the streams of a loop differ in their steps; calls are nearly even"
    )
    assert note_of(pipe) == why
    pipe()
    assert ad.report(pipe).policy == ad.Planned(NFE)
    assert ad.report(pipe).nfe == [NFE]
    assert note_of(pipe) == why
    with pytest.raises(ad.ProfileError, match="nothing could be learned"):
        ad.profile(pipe)


# What was learned ------------------------------------------------------------------------------


def test_what_was_learned_is_kept_as_it_is(tiny: Tiny) -> None:
    pipe = taught(tiny("sd15"))
    profile = ad.profile(pipe)
    first = generate(pipe, seed=7)
    generate(pipe, seed=8)
    generate(pipe, seed=9, steps=12)
    assert ad.profile(pipe) is profile
    assert torch.equal(generate(pipe, seed=7), first)


def test_the_same_samples_teach_the_same(tiny: Tiny) -> None:
    one, other = taught(tiny("sd15")), taught(tiny("sd15"))
    assert ad.profile(one) == ad.profile(other)
    assert torch.equal(generate(one, seed=5), generate(other, seed=5))


def test_a_learned_profile_makes_the_same_pictures_elsewhere(tiny: Tiny, tmp_path: Path) -> None:
    pipe = taught(tiny("sd15"))
    picture = generate(pipe, seed=5)
    ad.profile(pipe).save(tmp_path / "profile.json")
    other = tiny("sd15")
    ad.enable(other, profile=tmp_path / "profile.json")
    assert torch.equal(generate(other, seed=5), picture)
    assert ad.profile(other) == ad.profile(pipe)


def test_a_learned_profile_says_what_it_is(tiny: Tiny) -> None:
    profile = ad.profile(taught(tiny("sd15")))
    assert profile.evidence is None
    assert (profile.nfe, profile.steps, profile.guidance) == (NFE, (8, 8), 5.0)
    assert str(profile) == (
        "a plan of 5 calls, learned from 2 samples (how close it comes was not measured)"
    )


def test_loops_that_differ_teach_side_by_side(tiny: Tiny) -> None:
    pipe = tiny("sd15")
    ad.enable(pipe, nfe=NFE, learn=2)
    generate(pipe, steps=8)
    generate(pipe, steps=10, guidance_scale=7.0)
    profile = ad.profile(pipe)
    assert profile.measured is not None
    assert sorted(len(loop[0]) for loop in profile.measured.loops) == [8, 10]
    assert profile.steps == (8, 10)
    assert profile.guidance is None
    for steps in (8, 9, 10):
        generate(pipe, steps=steps)
        assert ad.report(pipe).nfe == [NFE]


def test_a_call_far_from_those_that_taught_warns(tiny: Tiny) -> None:
    pipe = taught(tiny("sd15"))
    with pytest.warns(UserWarning, match="the call has 20 steps, and the profile was made with 8"):
        generate(pipe, steps=20)
    assert ad.report(pipe).nfe == [NFE]


# Switching -------------------------------------------------------------------------------------


def test_it_can_be_disabled_on_the_way_and_begins_anew(tiny: Tiny) -> None:
    pipe = tiny("sd15")
    plain = generate(pipe)
    ad.enable(pipe, nfe=NFE, learn=2)
    generate(pipe)
    ad.disable(pipe)
    assert torch.equal(generate(pipe), plain)
    ad.enable(pipe, nfe=NFE, learn=2)
    generate(pipe)
    assert note_of(pipe) == "taught: sample 1 of 2"
    ad.enable(pipe, nfe=NFE)
    generate(pipe)
    assert ad.report(pipe).nfe == [NFE]
    assert ad.report(pipe).notes == []


def test_a_block_within_the_lessons_leaves_them_as_they_were(tiny: Tiny) -> None:
    pipe = tiny("sd15")
    ad.enable(pipe, nfe=NFE, learn=2)
    generate(pipe)
    with ad.accelerate(pipe, nfe=4) as run:
        generate(pipe)
    assert run.report.nfe == [4]
    with pytest.raises(ad.ProfileError, match="1 of 2 samples have taught: make 1 more"):
        ad.profile(pipe)
    generate(pipe)
    assert note_of(pipe) == "taught: sample 2 of 2"


def test_a_block_may_learn(tiny: Tiny) -> None:
    pipe = tiny("sd15")
    with ad.accelerate(pipe, nfe=NFE, learn=1) as run:
        generate(pipe)
        generate(pipe)
        assert ad.profile(pipe).learned_from == 1
    assert run.report.nfe == [NFE]
    with pytest.raises(ad.ProfileError, match="uses no profile: enable it with profile="):
        ad.profile(pipe)


def test_lessons_keep_no_pipeline_alive() -> None:
    pipe = taught(TINY_PIPELINES["sd15"].make())
    gone = weakref.ref(pipe)
    del pipe
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"learn": 2}, "learn needs nfe: how many denoiser calls later samples make"),
        ({"learn": 0, "nfe": 4}, "learn must be a whole number of at least 1, not 0"),
        ({"learn": True, "nfe": 4}, "learn must be a whole number"),
        ({"learn": 2, "nfe": 1}, "nfe must be a whole number of at least 2, not 1"),
        ({"learn": 2, "tolerance": 0.1}, "give learn with nfe, not with tolerance"),
        ({"learn": 2, "policy": ad.ThirdOrder()}, "give learn with nfe, not with policy"),
        ({"learn": 2, "nfe": 4, "target_psnr": 30}, "give nfe or target_psnr, not both"),
    ],
    ids=str,
)
def test_learning_goes_with_a_number_of_calls(
    options: dict[str, Any], words: str, tiny: Tiny
) -> None:
    pipe = tiny("sd15")
    kind = type(pipe)
    with pytest.raises(ad.PolicyError, match=words):
        ad.enable(pipe, **options)
    assert type(pipe) is kind


def test_a_pipeline_without_a_profile_says_so(tiny: Tiny) -> None:
    pipe = tiny("sd15")
    for switch in (lambda: None, lambda: ad.enable(pipe), lambda: ad.enable(pipe, nfe=4)):
        switch()
        with pytest.raises(ad.ProfileError, match="StableDiffusionPipeline uses no profile"):
            ad.profile(pipe)
