"""Profiles that travel with a model: several in one file, of which the nearest is taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy_pipeline import ToyPipeline

import adaptive_diffusion as ad
from adaptive_diffusion.published import FILE

PROMPTS = [f"{colour} {thing}" for colour in ("a red", "a dark") for thing in ("fox", "lighthouse")]


@pytest.fixture(scope="module")
def profile() -> ad.Profile:
    return ad.calibrate(ToyPipeline(), PROMPTS, budget_nfe=12)


def at(profile: ad.Profile, **changes: Any) -> ad.Profile:
    assert profile.measured is not None
    guidance = changes.pop("guidance", None)
    return replace(profile, measured=replace(profile.measured, guidance=guidance), **changes)


def test_what_is_published_is_found(profile: ad.Profile, tmp_path: Path) -> None:
    assert profile.publish(tmp_path) == tmp_path / FILE
    assert ad.Profile.from_pretrained(tmp_path) == profile


def test_a_profile_that_was_saved_there_is_found(profile: ad.Profile, tmp_path: Path) -> None:
    profile.save(tmp_path / FILE)
    assert ad.Profile.from_pretrained(tmp_path) == profile


def test_one_that_fits_comes_before_one_that_is_nearer(profile: ad.Profile, tmp_path: Path) -> None:
    for steps, guidance in [(50, 7.5), (45, 3.0)]:
        at(profile, steps=(steps, steps), guidance=guidance).publish(tmp_path)
    assert ad.Profile.from_pretrained(tmp_path, None, 50, 3.0).steps == (45, 45)


def test_a_profile_of_the_same_call_is_replaced(profile: ad.Profile, tmp_path: Path) -> None:
    profile.publish(tmp_path)
    newer = replace(profile, date="2030-01-01")
    newer.publish(tmp_path)
    assert ad.Profile.from_pretrained(tmp_path) == newer
    at(profile, steps=(10, 10)).publish(tmp_path)
    assert ad.Profile.from_pretrained(tmp_path, steps=28) == newer


def test_the_nearest_call_is_taken(profile: ad.Profile, tmp_path: Path) -> None:
    pipe = ToyPipeline()
    profiles = [
        at(profile, steps=(steps, steps), guidance=guidance, scheduler=scheduler)
        for steps in (20, 50)
        for guidance in (1.0, 7.5)
        for scheduler in (profile.scheduler, "DPMSolverMultistepScheduler, epsilon, dpmsolver++")
    ]
    for each in profiles:
        each.publish(tmp_path)
    for steps, guidance, wanted in [(25, 1, (20, 1.0)), (50, 7, (50, 7.5)), (100, 3, (50, 1.0))]:
        found = ad.Profile.from_pretrained(tmp_path, pipe, steps, guidance)
        assert found.scheduler == profile.scheduler
        assert found.measured is not None
        assert (found.steps[0], found.measured.guidance) == wanted


def test_a_folder_without_profiles_is_an_error_that_says_what_to_do(
    profile: ad.Profile, tmp_path: Path
) -> None:
    with pytest.raises(ad.ProfileError, match="make one with calibrate"):
        ad.Profile.from_pretrained(tmp_path)
    (tmp_path / FILE).write_text('{"profiles": []}')
    with pytest.raises(ad.ProfileError, match="without profiles"):
        ad.Profile.from_pretrained(tmp_path)
    (tmp_path / FILE).write_text('{"profile": {}}')
    with pytest.raises(ad.ProfileError, match="it holds no profiles"):
        profile.publish(tmp_path)
    assert (tmp_path / FILE).read_text() == '{"profile": {}}'


def test_a_hub_that_has_none_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ad.ProfileError, match=f"no {FILE} found for 'nobody/nothing'"):
        ad.Profile.from_pretrained("nobody/nothing")
