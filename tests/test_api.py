"""The public face, used as the README does."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import EulerDiscreteScheduler
from schedulers import generate, relative_difference
from toy_statistics import statistics_on

import adaptive_diffusion as ad
from adaptive_diffusion import NoiseSchedule
from adaptive_diffusion.evidence import Evidence, Goal
from adaptive_diffusion.identity import describe_model, describe_scheduler
from adaptive_diffusion.measured import FoundPlan, Measured
from adaptive_diffusion.policies.error_controlled import QUALITIES

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
    assert report.nfe_reduction > 1.1
    assert report.seconds > 0
    assert 0 < relative_difference(skipped, plain) < 0.1
    ad.disable(pipe)
    assert torch.equal(generate(pipe, 2, steps=20), plain)


def test_tolerance_is_short_for_the_policy(tiny: Tiny) -> None:
    pipe = tiny("sd15")
    ad.enable(pipe, tolerance=2.0)
    first = generate(pipe)
    assert ad.report(pipe).policy == ad.ErrorControlled(tolerance=2.0)
    ad.enable(pipe, ad.ErrorControlled(tolerance=2.0))
    assert torch.equal(generate(pipe), first)


def test_accelerate_is_enable_for_a_block(tiny: Tiny) -> None:
    pipe = tiny("sd15")
    plain = generate(pipe)
    with ad.accelerate(pipe, tolerance=3.0) as run:
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


@pytest.mark.parametrize("policy", [ad.ErrorControlled(3.0), ad.ThirdOrder(0.3)], ids=["a", "b"])
def test_a_report_names_its_policy(policy: ad.Policy, tiny: Tiny) -> None:
    pipe = tiny("sd15")
    with ad.accelerate(pipe, policy) as run:
        generate(pipe, steps=12)
    assert str(policy) in str(run.report)


# Quality and profile ---------------------------------------------------------------------------


def profile_of(pipe: Any, **changes: Any) -> ad.Profile:
    """A profile as a calibration of the pipeline on eight steps gives it."""
    found: dict[str, Any] = {
        "model": describe_model(pipe),
        "scheduler": describe_scheduler(pipe),
        "steps": (8, 8),
        "tolerance": 2.0,
        "goal": Goal("psnr", 35.0),
        "evidence": Evidence(8, 8, 40.0, 36.0, 36.0, None, None, 6.0, 8 / 6),
        "versions": {"torch": "2"},
        "date": "2026-01-31",
    }
    return ad.Profile(**found | changes)


@pytest.mark.parametrize("quality", QUALITIES)
def test_quality_is_a_tolerance_by_name(quality: str, tiny: Tiny) -> None:
    pipe = tiny("sd15")
    with ad.accelerate(pipe, quality=quality) as run:
        generate(pipe)
    assert run.report.policy == ad.ErrorControlled(QUALITIES[quality])


def test_qualities_go_from_close_to_fast() -> None:
    assert list(QUALITIES) == ["faithful", "balanced", "fast"]
    assert sorted(QUALITIES.values()) == list(QUALITIES.values())


def test_a_profile_or_its_file_gives_its_tolerance(tiny: Tiny, tmp_path: Path) -> None:
    pipe = tiny("sd15")
    profile = profile_of(pipe)
    profile.save(tmp_path / "profile.json")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for given in (profile, tmp_path / "profile.json", str(tmp_path / "profile.json")):
            with ad.accelerate(pipe, profile=given) as run:
                generate(pipe, steps=8)
            assert run.report.policy == ad.ErrorControlled(2.0)


@pytest.mark.parametrize("part", ["model", "scheduler"])
def test_a_profile_of_another_pipeline_warns(part: str, tiny: Tiny) -> None:
    pipe = tiny("sd15")
    with pytest.warns(UserWarning, match=f"the {part} is .*made with another"):
        ad.enable(pipe, profile=profile_of(pipe, **{part: "another"}))


@pytest.mark.parametrize(("steps", "warns"), [(6, False), (12, False), (5, True), (13, True)])
def test_a_call_with_far_more_or_fewer_steps_warns(steps: int, warns: bool, tiny: Tiny) -> None:
    pipe = tiny("sd15")
    ad.enable(pipe, profile=profile_of(pipe))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        generate(pipe, steps=steps)
    said = [str(warning.message) for warning in caught if warning.category is UserWarning]
    line = f"the call has {steps} steps, and the profile was made with 8"
    assert (line in said) == warns


@pytest.mark.parametrize(
    ("call", "calibrated", "said"),
    [
        ({"timesteps": [901, 701, 501, 301, 101]}, 5, ""),
        ({"timesteps": [901, 701, 501, 301, 101]}, 50, "the call has 5 steps"),
        ({"steps": 50, "strength": 0.2}, 50, "the call has 10 steps"),
    ],
    ids=["as calibrated", "timesteps", "strength"],
)
def test_the_steps_that_count_are_those_of_the_loop(
    call: dict[str, Any], calibrated: int, said: str, tiny: Tiny
) -> None:
    """Not those that are asked for: timesteps may be given, and a loop may start in the middle."""
    pipe = tiny("img2img" if "strength" in call else "sd15")
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    if "strength" in call:
        call = call | {"image": torch.rand(1, 3, 16, 16)}
    ad.enable(pipe, profile=profile_of(pipe, steps=(calibrated, calibrated)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        generate(pipe, **call)
    lines = [str(w.message) for w in caught if "the profile was made" in str(w.message)]
    assert len(lines) == bool(said)
    assert all(said in line for line in lines)
    assert (said in str(ad.report(pipe))) == bool(said) or not said


# Numbers of calls ------------------------------------------------------------------------------


def measured_profile(pipe: Any, **changes: Any) -> ad.Profile:
    """With plans for loops of eight steps, of which one is said to reach 40 dB."""
    loop = (statistics_on(NoiseSchedule.uniform(8)),)
    evidence = Evidence(8, 8, 40.0, 39.0, 38.0, None, None, 5.0, 8 / 5)
    plans = (FoundPlan(3, (), 1e-3), FoundPlan(5, (), 1e-4, evidence))
    measured = Measured((loop,), 5.0, "float32", plans)
    return profile_of(pipe, tolerance=None, nfe=3, measured=measured, **changes)


def test_nfe_is_a_number_of_calls(tiny: Tiny) -> None:
    pipe = tiny("sd15")
    with ad.accelerate(pipe, nfe=4) as run:
        generate(pipe, 2, steps=10)
    assert run.report.nfe == [4, 4]
    assert "Planned(nfe=4, not measured)" in str(run.report)


@pytest.mark.parametrize(
    ("options", "nfe"), [({}, 3), ({"nfe": 4}, 4), ({"target_psnr": 38}, 5)], ids=str
)
def test_a_profile_has_its_plan_others_and_those_that_reach_a_target(
    options: dict[str, Any], nfe: int, tiny: Tiny
) -> None:
    pipe = tiny("sd15")
    with ad.accelerate(pipe, profile=measured_profile(pipe), **options) as run:
        generate(pipe, steps=8)
    assert run.report.nfe == [nfe]
    assert f"Planned(nfe={nfe}, measured)" in str(run.report)


def test_a_profile_with_a_tolerance_alone_takes_a_number_of_calls(tiny: Tiny) -> None:
    pipe = tiny("sd15")
    with ad.accelerate(pipe, profile=profile_of(pipe), nfe=4) as run:
        generate(pipe, steps=8)
    assert run.report.policy == ad.Planned(4)
    with pytest.raises(ad.ProfileError, match="no plans to choose from"):
        ad.enable(pipe, profile=profile_of(pipe), target_psnr=30)


def test_what_was_measured_of_other_outputs_is_not_used(tiny: Tiny) -> None:
    pipe = tiny("sd15")
    profile = measured_profile(pipe, scheduler="DDIMScheduler, v_prediction")
    with (
        pytest.warns(UserWarning, match="the scheduler is .*, and the profile was made with"),
        pytest.warns(
            UserWarning, match="what was measured is not used: the outputs mean something"
        ),
    ):
        ad.enable(pipe, profile=profile)
    generate(pipe, steps=8)
    assert ad.report(pipe).policy == ad.Planned(3)
    assert ad.report(pipe).nfe == [3]


@pytest.mark.parametrize(
    ("guidance", "warns"), [(5.0, False), (7.4, False), (8.0, True), (1, True)]
)
def test_a_call_with_much_other_guidance_warns(guidance: float, warns: bool, tiny: Tiny) -> None:
    pipe = tiny("sd15")
    ad.enable(pipe, profile=measured_profile(pipe))
    line = f"the call has guidance {guidance:g}, and the profile was made with 5"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        generate(pipe, steps=8, guidance_scale=guidance)
    assert (line in [str(warning.message) for warning in caught]) == warns
    assert (line in ad.report(pipe).notes) == warns
    assert ad.report(pipe).nfe == [3]


def test_after_another_setting_the_profile_warns_no_more(tiny: Tiny) -> None:
    pipe = tiny("sd15")
    ad.enable(pipe, profile=profile_of(pipe))
    ad.enable(pipe, tolerance=2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        generate(pipe, steps=20)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quality": "best"}, "no quality 'best': choose from faithful, balanced, fast"),
        ({"quality": "fast", "tolerance": 0.1}, "give only one of tolerance, quality"),
        ({"quality": "fast", "policy": ad.ThirdOrder()}, "give only one of policy, quality"),
        ({"policy": ad.ThirdOrder(), "tolerance": 0.1}, "give only one of policy, tolerance"),
        ({"policy": 0.1}, "policy must be a Policy"),
        ({"nfe": 4, "tolerance": 0.1}, "give nfe alone or with profile, not with tolerance"),
        ({"nfe": 4, "policy": ad.ThirdOrder()}, "give nfe alone or with profile"),
        ({"nfe": 1}, "nfe must be a whole number of at least 2, not 1"),
        ({"nfe": 4.5}, "nfe must be a whole number"),
        ({"target_psnr": 35}, "target_psnr needs a profile"),
    ],
    ids=str,
)
def test_one_choice_is_made(options: dict[str, Any], words: str, tiny: Tiny) -> None:
    pipe = tiny("sd15")
    kind = type(pipe)
    with pytest.raises(ad.PolicyError, match=words):
        ad.enable(pipe, **options)
    assert type(pipe) is kind


def test_a_profile_is_a_choice_too(tiny: Tiny, tmp_path: Path) -> None:
    pipe = tiny("sd15")
    kind = type(pipe)
    with pytest.raises(ad.PolicyError, match="give only one of tolerance, profile"):
        ad.enable(pipe, tolerance=3.0, profile=profile_of(pipe))
    with pytest.raises(ad.ProfileError, match="can't be read"):
        ad.enable(pipe, profile=tmp_path / "nowhere.json")
    with pytest.raises(ad.UnsupportedPipelineError):
        ad.enable(object(), profile=profile_of(pipe))
    assert type(pipe) is kind
