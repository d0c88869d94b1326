"""Choices: what options ask for, and that nothing is ignored in silence."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from profiles import measured_profile, tolerance_profile
from tiny_pipelines import TINY_PIPELINES

from adaptive_diffusion import ProfileError
from adaptive_diffusion.apps.choice import Choice, choose
from adaptive_diffusion.apps.inputs import PolicyName
from adaptive_diffusion.apps.profiles import Source
from adaptive_diffusion.identity import describe_model
from adaptive_diffusion.policies import ErrorControlled, Planned, ThirdOrder

MEASURED = Source("measured.json", (measured_profile(),))
TOLERANCE = Source("tolerance.json", (tolerance_profile(0.011),))
SEVERAL = Source("several", (measured_profile(), measured_profile(seed=1)))
PUBLISHED = Source("sd15", (measured_profile(),), named=False)
UNREADABLE = Source("sd15", (), named=False, problem="it is of a later version")


def repr_of_options(value: Any) -> str:
    """Without the numbers of profiles."""
    if not isinstance(value, dict):
        return str(value)[:20]
    return ", ".join(
        f"{name}={value.place if isinstance(value, Source) else value}"
        for name, value in value.items()
    )


@pytest.mark.parametrize(
    ("options", "choice"),
    [
        ({}, Choice(ErrorControlled())),
        ({"tolerance": 0.3, "max_skip": 2}, Choice(ErrorControlled(0.3, max_skip=2))),
        ({"quality": "fast"}, Choice(ErrorControlled(0.08))),
        ({"nfe": 7}, Choice(Planned(7))),
        ({"profiles": MEASURED}, Choice(None, MEASURED)),
        ({"profiles": MEASURED, "nfe": 7}, Choice(None, MEASURED, nfe=7)),
        ({"profiles": MEASURED, "target_psnr": 40}, Choice(None, MEASURED, target_psnr=40)),
        ({"profiles": TOLERANCE, "max_skip": 2}, Choice(None, TOLERANCE, max_skip=2)),
        ({"profiles": PUBLISHED}, Choice(ErrorControlled())),
        ({"profiles": PUBLISHED, "quality": "fast"}, Choice(ErrorControlled(0.08))),
        ({"profiles": PUBLISHED, "nfe": 7}, Choice(None, PUBLISHED, nfe=7)),
        ({"profiles": PUBLISHED, "target_psnr": 40}, Choice(None, PUBLISHED, target_psnr=40)),
        ({"name": PolicyName.THIRD_ORDER, "threshold": 0.1}, Choice(ThirdOrder(0.1))),
        ({"name": PolicyName.THIRD_ORDER, "max_skip": 2}, Choice(ThirdOrder(max_skip=2))),
        ({"name": PolicyName.NONE}, Choice(None)),
    ],
    ids=repr_of_options,
)
def test_what_options_ask_for(options: dict[str, Any], choice: Choice) -> None:
    assert choose(**options) == choice


@pytest.mark.parametrize(
    ("options", "policy"),
    [
        ({"profiles": MEASURED}, Planned(4)),
        ({"profiles": MEASURED, "nfe": 7}, Planned(7)),
        ({"profiles": MEASURED, "target_psnr": 40}, Planned(4)),
        ({"profiles": MEASURED, "target_psnr": 43}, Planned(6)),
        ({"profiles": PUBLISHED, "target_psnr": 43}, Planned(6)),
        ({"profiles": TOLERANCE}, ErrorControlled(0.011)),
        ({"profiles": TOLERANCE, "max_skip": 2}, ErrorControlled(0.011, 2)),
        ({"profiles": TOLERANCE, "nfe": 7}, Planned(7)),
    ],
    ids=repr_of_options,
)
def test_what_a_profile_makes_of_it(options: dict[str, Any], policy: Any) -> None:
    skipping = choose(**options).settle(TINY_PIPELINES["sd15"].make(), 8, 3.0)
    found = skipping.policy
    assert (replace(found, loops=(), plans=()) if isinstance(found, Planned) else found) == policy
    assert isinstance(found, ErrorControlled) or bool(found.loops) == (skipping.source != {})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tolerance": 0.1, "quality": "fast"}, "give only one of --tolerance, --quality"),
        ({"tolerance": 0.1, "profiles": MEASURED}, "give only one of --tolerance, --profile"),
        ({"nfe": 7, "tolerance": 0.1}, "give --nfe alone or with --profile, not with --tolerance"),
        ({"nfe": 7, "quality": "fast"}, "give --nfe alone or with --profile, not with --quality"),
        ({"nfe": 7, "target_psnr": 40}, "give --nfe or --target-psnr, not both"),
        ({"target_psnr": 40}, "--target-psnr needs a --profile"),
        ({"target_psnr": 40, "profiles": UNREADABLE}, "it is of a later version"),
        ({"target_psnr": 40, "quality": "fast"}, "--target-psnr needs a --profile"),
        ({"target_psnr": 40, "quality": "fast", "profiles": PUBLISHED}, "--target-psnr needs a"),
        ({"nfe": 7, "max_skip": 2}, "--max-skip goes with a tolerance, not with a plan"),
        ({"profiles": MEASURED, "max_skip": 2}, "--max-skip goes with a tolerance"),
        ({"nfe": 1}, "nfe must be a whole number of at least 2, not 1"),
        ({"quality": "best"}, "no quality 'best': choose from faithful, balanced, fast"),
        ({"threshold": 0.1}, "--threshold does not go with --policy error-controlled"),
    ],
    ids=repr_of_options,
)
def test_what_means_nothing_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        choose(**options)


OF_OURS = {
    "tolerance": 0.1,
    "quality": "fast",
    "profiles": MEASURED,
    "nfe": 7,
    "target_psnr": 40.0,
}


@pytest.mark.parametrize(
    ("name", "option"), product([PolicyName.THIRD_ORDER, PolicyName.NONE], OF_OURS)
)
def test_other_policies_take_none_of_it(name: PolicyName, option: str) -> None:
    typed = "profile" if option == "profiles" else option.replace("_", "-")
    with pytest.raises(ValueError, match=f"--{typed} does not go with --policy {name.value}"):
        choose(name, **{option: OF_OURS[option]})


@pytest.mark.parametrize("source", [MEASURED, PUBLISHED, SEVERAL], ids=lambda each: each.place)
def test_a_target_that_no_plan_reaches(source: Source) -> None:
    with pytest.raises(ProfileError, match="no plan in the profile reaches 60 dB"):
        choose(profiles=source, target_psnr=60)


def test_a_target_for_a_profile_without_plans() -> None:
    with pytest.raises(ProfileError, match="no plans to choose from"):
        choose(profiles=TOLERANCE, target_psnr=30)


def test_one_profile_that_reaches_the_target_is_enough_beforehand() -> None:
    mixed = Source("mixed", (*TOLERANCE.profiles, *MEASURED.profiles))
    assert choose(profiles=mixed, target_psnr=40).profiles is mixed


def test_plans_are_made_with_the_profile_where_it_means_the_same() -> None:
    pipe = TINY_PIPELINES["sd15"].make()
    plan = choose(profiles=MEASURED, nfe=6).settle(pipe, 8, 3.0).policy
    assert (plan.nfe, plan.loops[0][0].kernel.shape) == (6, (8, 8))
    pipe.scheduler.register_to_config(prediction_type="v_prediction")
    for source in (MEASURED, PUBLISHED):
        skipping = choose(profiles=source, nfe=6).settle(pipe, 8, 3.0)
        assert (skipping.policy, skipping.source) == (Planned(6), {})
        assert "what was measured is not used: the outputs mean something else" in skipping.notes
        assert not any("is used" in note for note in skipping.notes)


def test_what_does_not_fit_is_told() -> None:
    pipe = TINY_PIPELINES["sd15"].make()
    model, steps, guidance = choose(profiles=MEASURED).settle(pipe, 50, 7.5).notes
    assert model.startswith("the model is StableDiffusionPipeline")
    assert steps == "the call has 50 steps, and the profile was made with 8"
    assert guidance == "the call has guidance 7.5, and the profile was made with 3"
    assert choose(nfe=6).settle(pipe, 50, 3.0).notes == ()


def test_that_a_published_profile_is_used_is_told() -> None:
    pipe = TINY_PIPELINES["sd15"].make()
    fitting = replace(measured_profile(), model=describe_model(pipe))
    named, published = (
        choose(profiles=Source("sd15", (fitting,), named), nfe=6).settle(pipe, 8, 3.0)
        for named in (True, False)
    )
    assert named.notes == ()
    assert published.notes == (
        "the profile published with sd15 is used: DDIMScheduler epsilon, 8 steps, guidance 3",
    )
    assert named.policy == published.policy


def test_a_published_profile_that_can_not_be_read_is_told() -> None:
    choice = choose(profiles=UNREADABLE, nfe=6)
    assert choice.settle(TINY_PIPELINES["sd15"].make(), 8, 3.0).policy == Planned(6)
    assert choice.notes == ("what is published with sd15 is not used: it is of a later version",)


def test_descriptions_tell_apart_what_skips_differently() -> None:
    choices = [
        *(choose(), choose(tolerance=0.3), choose(nfe=6), choose(nfe=7), choose(PolicyName.NONE)),
        choose(profiles=MEASURED, nfe=6),
        choose(profiles=Source("other", (measured_profile(seed=1),)), nfe=6),
        *(choose(profiles=SEVERAL, **how) for how in ({}, {"nfe": 6}, {"target_psnr": 40})),
        choose(profiles=replace(SEVERAL, profiles=SEVERAL.profiles[::-1]), nfe=6),
    ]
    assert len({json.dumps(choice.describe()) for choice in choices}) == len(choices)
    assert len(set(choices)) == len(choices)


def test_descriptions_are_the_same_for_what_skips_the_same() -> None:
    alike = choose(profiles=MEASURED, nfe=4), choose(profiles=PUBLISHED, nfe=4)
    assert alike[0].describe() == alike[1].describe() == choose(profiles=MEASURED).describe()
    again = choose(profiles=Source("measured.json", (measured_profile(),)), nfe=4)
    assert again == alike[0]
    assert choose(profiles=TOLERANCE).describe() == choose(tolerance=0.011).describe()
    assert choose(profiles=TOLERANCE, nfe=6).describe() == choose(nfe=6).describe()


def test_what_is_settled_is_described_as_before_where_it_is_used() -> None:
    pipe = TINY_PIPELINES["sd15"].make()
    for choice in (choose(tolerance=0.3), choose(nfe=6), choose(profiles=MEASURED, nfe=6)):
        assert choice.settle(pipe, 8, 3.0).describe() == choice.describe()
    assert choose(PolicyName.NONE).is_full_run
    assert not choose(profiles=MEASURED).is_full_run
