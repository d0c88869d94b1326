"""Profiles: written and read, and nothing else is taken for one."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st
from tiny_pipelines import BETAS, TINY_PIPELINES, tiny_unet
from toy_statistics import statistics_on

from adaptive_diffusion import ErrorControlled, NoiseSchedule, PolicyError, Profile, ProfileError
from adaptive_diffusion.evidence import Evidence, Goal
from adaptive_diffusion.identity import describe_model, describe_scheduler
from adaptive_diffusion.measured import FoundPlan, Measured
from adaptive_diffusion.policies import Planned

EVIDENCE = Evidence(8, 8, 52.31, 41.5, 39.25, 0.9991, 0.9978, 15.6, 3.205)
PROFILE = Profile(
    model="StableDiffusionPipeline, UNet2DConditionModel, 01234567",
    scheduler="DDIMScheduler, epsilon",
    steps=(50, 50),
    tolerance=0.011,
    goal=Goal("psnr", 35.0),
    evidence=EVIDENCE,
    versions={"torch": "2.4.0"},
    date="2026-01-31",
)


# Files -----------------------------------------------------------------------------------------

numbers = st.floats(1e-300, 1e300)


@given(
    tolerance=numbers,
    goal=st.builds(Goal, st.sampled_from(["psnr", "ssim", "nfe"]), numbers),
    similarity=st.none() | numbers,
    model=st.text(),
)
def test_what_is_saved_is_loaded(
    tmp_path_factory: pytest.TempPathFactory,
    tolerance: float,
    goal: Goal,
    similarity: float | None,
    model: str,
) -> None:
    evidence = replace(EVIDENCE, ssim_mean=similarity, ssim_worst_tenth=similarity)
    profile = replace(PROFILE, tolerance=tolerance, goal=goal, evidence=evidence, model=model)
    path = tmp_path_factory.getbasetemp() / "profile.json"
    profile.save(path)
    assert Profile.load(path) == profile
    assert Profile.load(str(path)) == profile


def test_the_file_is_small_and_readable(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    PROFILE.save(path)
    assert path.stat().st_size < 2000
    found = json.loads(path.read_text())
    assert found["tolerance"] == 0.011
    assert found["goal"] == {"kind": "psnr", "value": 35.0}
    assert found["evidence"]["psnr_worst"] == 39.25
    assert os.listdir(tmp_path) == ["profile.json"]


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "profile.json"
    PROFILE.save(path)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        replace(PROFILE, tolerance=0.5).save(path)
    assert Profile.load(path) == PROFILE
    assert os.listdir(tmp_path) == ["profile.json"]


def changed(**changes: Any) -> str:
    return json.dumps(asdict(PROFILE) | changes)


def without(name: str) -> str:
    return json.dumps({key: value for key, value in asdict(PROFILE).items() if key != name})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tolerance = 0.1", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        ("[1, 2]", "the profile must be a JSON object"),
        ("{}", "the profile lacks date, evidence, goal, model"),
        (without("tolerance"), "a profile has either a tolerance or an nfe"),
        (changed(nfe=12), "a profile has either a tolerance or an nfe"),
        (changed(tolerance=None, nfe=12), "a profile with an nfe has what was measured, too"),
        (changed(tolerance=None, nfe=1), "nfe must be a whole number of at least 2"),
        (changed(tolerance=None, nfe=12, measured={}), "what was measured can't be read"),
        (changed(tolerance=None, nfe=12, measured={"version": 9}), "update adaptive-diffusion"),
        (changed(goal={"kind": [], "value": 1}), "goal.kind must be one of"),
        (changed(colour="red"), "the profile has unknown colour"),
        (changed(goal=35), "goal must be a JSON object, not 35"),
        (
            changed(goal={"kind": "beauty", "value": 1}),
            "goal.kind must be one of psnr, ssim, worst, nfe",
        ),
        (changed(goal={"kind": "psnr", "value": "high"}), "goal.value must be a finite number"),
        (changed(evidence=None), "a profile has either evidence or learned_from"),
        (changed(learned_from=2), "a profile has either evidence or learned_from"),
        (changed(evidence=None, learned_from=0), "learned_from must be a whole number"),
        (changed(evidence={"nfe": 1}), "evidence lacks fitting, held_out"),
        (changed(evidence=asdict(EVIDENCE) | {"nfe": -1}), "evidence.nfe must be a finite number"),
        (changed(evidence=asdict(EVIDENCE) | {"held_out": 0}), "evidence.held_out must be a whole"),
        (changed(evidence=asdict(EVIDENCE) | {"ssim_mean": "1"}), "evidence.ssim_mean must be"),
        (changed(tolerance=-0.1), "tolerance must be a finite number above 0, not -0.1"),
        (changed(tolerance=True), "tolerance must be a finite number"),
        (changed(tolerance=float("nan")), "tolerance must be a finite number"),
        (changed(tolerance=float("inf")), "tolerance must be a finite number"),
        (changed(steps=50), "steps must be the fewest and the most"),
        (changed(steps=[50, 20]), "steps must be the fewest, then the most"),
        (changed(steps=[0, 50]), "steps must be a whole number"),
        (changed(model=None), "model must be a text"),
        (changed(versions={"torch": 2}), "versions must be texts by package"),
        (changed(date="yesterday"), "date must look like 2026-01-31, not 'yesterday'"),
        (changed(date=7), "date must look like"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 60 else "",
)
def test_what_is_no_profile_is_refused(tmp_path: Path, text: str | bytes, words: str) -> None:
    path = tmp_path / "profile.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ProfileError, match=r"profile .*profile\.json can't be used: .*") as raised:
        Profile.load(path)
    assert words in str(raised.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"can't be read .*make one with calibrate"):
        Profile.load(tmp_path / "nowhere.json")


def test_it_says_in_a_line_what_was_reached() -> None:
    line = str(PROFILE)
    assert "\n" not in line
    for part in ("0.011", "a PSNR of 35 dB", "52.3 dB", "41.5", "39.2", "3.2", "15.6", "8 samples"):
        assert part in line


def test_a_profile_with_a_tolerance_alone_is_still_read(tmp_path: Path) -> None:
    """As it was written before models were measured."""
    path = tmp_path / "profile.json"
    path.write_text(OLD_FILE)
    profile = Profile.load(path)
    assert profile.policy() == ErrorControlled(0.0226)
    assert profile.policy(nfe=15) == Planned(15)
    assert profile.measured is profile.nfe is None
    assert profile.evidence.nfe_reduction == 3.22  # in the file it has its old name
    with pytest.raises(ProfileError, match="no plans to choose from, only a tolerance"):
        profile.policy(target_psnr=35)


OLD_FILE = """{
 "model": "EmojiPipeline, UNet2DConditionModel, 0a1b2c3d",
 "scheduler": "DDIMScheduler, epsilon",
 "steps": [50, 50],
 "tolerance": 0.0226,
 "goal": {"kind": "psnr", "value": 35.0},
 "evidence": {
  "fitting": 8, "held_out": 8, "psnr_mean": 49.1, "psnr_worst_tenth": 41.2, "psnr_worst": 41.2,
  "ssim_mean": null, "ssim_worst_tenth": null, "nfe": 15.5, "speedup": 3.22
 },
 "versions": {"adaptive_diffusion": "0.1.0", "torch": "2.4.0"},
 "date": "2026-01-31"
}
"""


# Plans -----------------------------------------------------------------------------------------


def with_plans() -> Profile:
    reached = {8: (30.0, 29.0), 12: (41.0, 30.0), 16: (42.0, 40.0), 20: (50.0, 48.0)}
    plans = tuple(
        FoundPlan(nfe, (), 1e-4, replace(EVIDENCE, psnr_mean=mean, psnr_worst_tenth=worst, nfe=nfe))
        for nfe, (mean, worst) in reached.items()
    )
    stream = statistics_on(NoiseSchedule.uniform(50))
    measured = Measured(((stream,),), 7.5, "float32", (*plans, FoundPlan(25, (), 1e-4)))
    return replace(PROFILE, tolerance=None, nfe=16, measured=measured)


def test_plans_are_saved_and_loaded(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    with_plans().save(path)
    assert Profile.load(path) == with_plans()
    assert path.stat().st_size < 1_000_000
    assert "a plan of 16 calls" in str(with_plans())


def test_what_was_learned_has_no_evidence_and_is_saved_and_loaded(tmp_path: Path) -> None:
    plans = with_plans().measured
    assert plans is not None
    learned = replace(
        with_plans(), evidence=None, learned_from=1, measured=replace(plans, plans=())
    )
    learned.save(tmp_path / "profile.json")
    assert Profile.load(tmp_path / "profile.json") == learned
    learned.publish(tmp_path)
    assert Profile.from_pretrained(tmp_path) == learned
    assert str(learned) == (
        "a plan of 16 calls, learned from 1 sample (how close it comes was not measured)"
    )
    with pytest.raises(ProfileError, match="does not say how close its plans come: give nfe"):
        learned.policy(target_psnr=30)


def test_by_default_the_plan_that_reaches_the_goal_is_used() -> None:
    policy = with_plans().policy()
    assert isinstance(policy, Planned)
    assert policy.nfe == 16
    assert policy.loops
    assert with_plans().policy(nfe=9).nfe == 9


@pytest.mark.parametrize(("target", "nfe"), [(29, 8), (38, 16), (42, 16), (43, 20), (50, 20)])
def test_a_target_takes_the_fewest_calls_that_reach_it(target: float, nfe: int) -> None:
    """In the mean, and in the worst tenth with 3 dB less."""
    assert with_plans().policy(target_psnr=target).nfe == nfe


def test_a_target_that_no_plan_reaches_is_an_error() -> None:
    with pytest.raises(ProfileError, match=r"reaches 51 dB .* best mean is 50\.0 dB"):
        with_plans().policy(target_psnr=51)
    with pytest.raises(PolicyError, match="give nfe or target_psnr, not both"):
        with_plans().policy(nfe=9, target_psnr=30)


def test_outputs_that_mean_something_else_are_not_taken_for_the_measured_ones() -> None:
    pipe = TINY_PIPELINES["sd15"].make()
    profile = replace(with_plans(), scheduler=describe_scheduler(pipe))
    assert profile.policy_for(pipe).loops
    pipe.scheduler = DDIMScheduler(**BETAS, prediction_type="v_prediction")
    assert profile.policy_for(pipe) == Planned(16)
    lines = profile.differences(pipe)
    assert "what was measured is not used: the outputs mean something else" in lines


def test_a_call_that_is_far_from_the_measured_is_told() -> None:
    pipe = TINY_PIPELINES["sd15"].make()
    profile = replace(with_plans(), model=describe_model(pipe), scheduler=describe_scheduler(pipe))
    assert profile.differences(pipe, 50, 7.5) == []
    assert profile.differences(pipe, 40, 6.0) == []
    assert profile.differences(pipe, 20, 3.0) == [
        "the call has 20 steps, and the profile was made with 50",
        "the call has guidance 3, and the profile was made with 7.5",
    ]


# Pipelines -------------------------------------------------------------------------------------


def fitting(pipe: Any) -> Profile:
    return replace(PROFILE, model=describe_model(pipe), scheduler=describe_scheduler(pipe))


def test_weights_and_files_make_no_difference(tmp_path: Path) -> None:
    pipe = TINY_PIPELINES["sd15"].make()
    profile = fitting(pipe)
    with torch.no_grad():
        for weight in pipe.unet.parameters():
            weight.mul_(2)
    pipe.save_pretrained(tmp_path)
    assert profile.differences(type(pipe).from_pretrained(tmp_path), steps=50) == []


def test_another_network_is_another_model() -> None:
    pipe = TINY_PIPELINES["sd15"].make()
    profile = fitting(pipe)
    pipe.register_modules(unet=tiny_unet(act_fn="gelu"))
    (line,) = profile.differences(pipe)
    assert line.startswith("the model is StableDiffusionPipeline, UNet2DConditionModel, ")
    assert profile.model in line


@pytest.mark.parametrize(
    "scheduler",
    [
        EulerDiscreteScheduler(**BETAS),
        DDIMScheduler(**BETAS, prediction_type="v_prediction"),
        DPMSolverMultistepScheduler(**BETAS, algorithm_type="sde-dpmsolver++"),
    ],
    ids=["class", "prediction", "algorithm"],
)
def test_another_scheduler_is_told(scheduler: Any) -> None:
    pipe = TINY_PIPELINES["sd15"].make()
    if "DPM" in type(scheduler).__name__:
        pipe.scheduler = DPMSolverMultistepScheduler(**BETAS)
    profile = fitting(pipe)
    pipe.scheduler = scheduler
    (line,) = profile.differences(pipe)
    assert line.startswith(f"the scheduler is {type(scheduler).__name__}")


@pytest.mark.parametrize(("steps", "far"), [(33, True), (34, False), (75, False), (76, True)])
def test_steps_are_far_from_a_factor_of_one_and_a_half(steps: int, far: bool) -> None:
    pipe = TINY_PIPELINES["ddim"].make()
    assert bool(fitting(pipe).differences(pipe, steps=steps)) == far


def test_several_denoisers_are_all_named() -> None:
    assert describe_model(TINY_PIPELINES["wan22"].make()).count("WanTransformer3DModel") == 2
    assert "ControlNetModel" in describe_model(TINY_PIPELINES["controlnet"].make())
