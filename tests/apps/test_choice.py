"""Choices: what options ask for, and that nothing is ignored in silence."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest
from profiles import measured_profile, tolerance_profile
from tiny_pipelines import TINY_PIPELINES

from adaptive_diffusion import ProfileError
from adaptive_diffusion.apps.choice import Choice, choose
from adaptive_diffusion.apps.inputs import PolicyName
from adaptive_diffusion.policies import ErrorControlled, Planned, ThirdOrder

MEASURED, TOLERANCE = measured_profile(), tolerance_profile(0.011)


@pytest.mark.parametrize(
    ("options", "choice"),
    [
        ({}, Choice(ErrorControlled())),
        ({"tolerance": 0.3, "max_skip": 2}, Choice(ErrorControlled(0.3, max_skip=2))),
        ({"quality": "fast"}, Choice(ErrorControlled(0.08))),
        ({"nfe": 7}, Choice(Planned(7))),
        ({"profile": MEASURED}, Choice(Planned(4), MEASURED)),
        ({"profile": MEASURED, "nfe": 7}, Choice(Planned(7), MEASURED)),
        ({"profile": MEASURED, "target_psnr": 40}, Choice(Planned(4), MEASURED)),
        ({"profile": MEASURED, "target_psnr": 43}, Choice(Planned(6), MEASURED)),
        ({"profile": TOLERANCE}, Choice(ErrorControlled(0.011), TOLERANCE)),
        ({"profile": TOLERANCE, "max_skip": 2}, Choice(ErrorControlled(0.011, 2), TOLERANCE)),
        ({"profile": TOLERANCE, "nfe": 7}, Choice(Planned(7), TOLERANCE)),
        ({"name": PolicyName.THIRD_ORDER, "threshold": 0.1}, Choice(ThirdOrder(0.1))),
        ({"name": PolicyName.THIRD_ORDER, "max_skip": 2}, Choice(ThirdOrder(max_skip=2))),
        ({"name": PolicyName.NONE}, Choice(None)),
    ],
    ids=str,
)
def test_what_options_ask_for(options: dict[str, Any], choice: Choice) -> None:
    assert choose(**options) == choice


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tolerance": 0.1, "quality": "fast"}, "give only one of --tolerance, --quality"),
        ({"tolerance": 0.1, "profile": MEASURED}, "give only one of --tolerance, --profile"),
        ({"nfe": 7, "tolerance": 0.1}, "give --nfe alone or with --profile, not with --tolerance"),
        ({"nfe": 7, "quality": "fast"}, "give --nfe alone or with --profile, not with --quality"),
        ({"nfe": 7, "target_psnr": 40}, "give --nfe or --target-psnr, not both"),
        ({"target_psnr": 40}, "--target-psnr needs a --profile"),
        ({"nfe": 7, "max_skip": 2}, "--max-skip goes with a tolerance, not with a plan"),
        ({"profile": MEASURED, "max_skip": 2}, "--max-skip goes with a tolerance"),
        ({"nfe": 1}, "nfe must be a whole number of at least 2, not 1"),
        ({"quality": "best"}, "no quality 'best': choose from faithful, balanced, fast"),
        ({"threshold": 0.1}, "--threshold does not go with --policy error-controlled"),
    ],
    ids=str,
)
def test_what_means_nothing_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        choose(**options)


OF_OURS = {
    "tolerance": 0.1,
    "quality": "fast",
    "profile": MEASURED,
    "nfe": 7,
    "target_psnr": 40.0,
}


@pytest.mark.parametrize(
    ("name", "option"), product([PolicyName.THIRD_ORDER, PolicyName.NONE], OF_OURS)
)
def test_other_policies_take_none_of_it(name: PolicyName, option: str) -> None:
    words = f"--{option.replace('_', '-')} does not go with --policy {name.value}"
    with pytest.raises(ValueError, match=words):
        choose(name, **{option: OF_OURS[option]})


def test_a_target_that_no_plan_reaches() -> None:
    with pytest.raises(ProfileError, match="no plan in the profile reaches 60 dB"):
        choose(profile=MEASURED, target_psnr=60)
    with pytest.raises(ProfileError, match="no plans to choose from"):
        choose(profile=TOLERANCE, target_psnr=30)


def test_plans_are_made_with_the_profile_where_it_fits() -> None:
    pipe = TINY_PIPELINES["sd15"].make()
    plan = choose(profile=MEASURED, nfe=6).policy_for(pipe)
    assert (plan.nfe, plan.loops[0][0].kernel.shape) == (6, (8, 8))
    pipe.scheduler.register_to_config(prediction_type="v_prediction")
    assert choose(profile=MEASURED, nfe=6).policy_for(pipe) == Planned(6)
    assert choose(nfe=6).policy_for(pipe) == Planned(6)


def test_what_does_not_fit_is_told() -> None:
    pipe = TINY_PIPELINES["sd15"].make()
    model, steps = choose(profile=MEASURED).misfits(pipe, 50)
    assert model.startswith("the model is StableDiffusionPipeline")
    assert steps == "the call has 50 steps, and the profile was made with 8"
    assert choose(nfe=6).misfits(pipe, 50) == []


def test_descriptions_tell_apart_what_skips_differently() -> None:
    choices = [
        *(choose(), choose(tolerance=0.3), choose(nfe=6), choose(nfe=7), choose(PolicyName.NONE)),
        *(choose(profile=MEASURED, nfe=6), choose(profile=measured_profile(seed=1), nfe=6)),
    ]
    assert len({json.dumps(choice.describe()) for choice in choices}) == len(choices)
    assert len(set(choices)) == len(choices)


def test_descriptions_are_the_same_for_what_skips_the_same() -> None:
    alike = choose(profile=MEASURED), choose(profile=measured_profile(), nfe=4)
    assert alike[0].describe() == alike[1].describe()
    assert alike[0] == alike[1]
    assert choose(profile=TOLERANCE).describe() == choose(tolerance=0.011).describe()
    assert choose(profile=TOLERANCE, nfe=6).describe() == choose(nfe=6).describe()
