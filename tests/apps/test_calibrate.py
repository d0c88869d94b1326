"""`adaptive-diffusion calibrate`, and what it writes in use."""

from __future__ import annotations

from pathlib import Path

import pytest
from file_entries import entries_of

from adaptive_diffusion import Profile
from adaptive_diffusion.apps import loading
from adaptive_diffusion.apps.profiles import fingerprint
from adaptive_diffusion.measurement import calls_needed
from adaptive_diffusion.miniatures import miniatures
from adaptive_diffusion.policies.error_controlled import QUALITIES

needs_digits = pytest.mark.skipif("digits" not in miniatures(), reason="it is not at hand")
PROMPTS = ("a red apple", "a tiger", "a boat", "a castle")


@pytest.fixture
def profile(cli, tmp_path) -> Path:
    file = tmp_path / "new" / "profile.json"
    done = cli(
        *("calibrate", "--model", "digits", "--count", 4, "--steps", 12),
        *("--budget-nfe", 9, "--seed", 5, "--out", file),
    )
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert (lines[0], lines[-1]) == (str(Profile.load(file)), str(file))
    calls = 2 * 12 + calls_needed(12, runs=2, disturbed=2)
    assert f"about {calls} denoiser calls to measure the model; then plans" in done.err
    return file


@needs_digits
def test_a_profile_is_written_and_used(cli, profile, tmp_path):
    found = Profile.load(profile)
    assert found.model.startswith("DDIMPipeline, UNet2DModel, ")
    assert found.steps == (12, 12)
    assert str(found.goal) == "9 evaluations"
    assert (found.evidence.fitting, found.evidence.held_out) == (2, 2)

    options = ("--model", "digits", "--out", tmp_path / "out", "--profile", profile)
    done = cli("generate", *options, "--steps", 12)
    assert done.code == 0
    assert "note:" not in done.out
    policy = entries_of(tmp_path / "out" / "sample-0.png")["policy"]
    assert policy == "Planned(nfe=9, measured)"
    done = cli("generate", *options, "--steps", 30)
    assert "note: the call has 30 steps, and the profile was made with 12" in done.out


@needs_digits
def test_the_table_has_the_evidence_of_the_plans(cli, tmp_path):
    file = tmp_path / "profile.json"
    done = cli(
        *("calibrate", "--model", "digits", "--count", 4, "--steps", 6),
        *("--budget-nfe", 4, "--out", file),
    )
    shown = [line.strip("│ ").split("│") for line in done.out.splitlines() if line[0] == "│"]
    plans = [plan for plan in Profile.load(file).measured.plans if plan.evidence is not None]
    assert len(shown) == len(plans) > 2
    for (nfe, fewer, *decibels), plan in zip(shown, plans, strict=True):
        evidence = plan.evidence
        assert int(nfe) == plan.nfe == evidence.nfe
        assert float(fewer.strip(" x")) == pytest.approx(6 / plan.nfe, abs=0.005)
        expected = (evidence.psnr_mean, evidence.psnr_worst_tenth, evidence.psnr_worst)
        assert [value.strip() for value in decibels] == [f"{value:.1f} dB" for value in expected]


@needs_digits
@pytest.mark.parametrize("nfe", [2, 6])
def test_an_exact_number_of_calls_with_a_profile(cli, profile, tmp_path, nfe):
    done = cli(
        *("generate", "--model", "digits", "--count", 2, "--steps", 12, "--profile", profile),
        *("--nfe", nfe, "--out", tmp_path),
    )
    assert done.code == 0, done.err
    assert done.out.count(f"{nfe} of 12 steps computed") == 2
    made = entries_of(tmp_path / "sample-0.png")
    assert made["policy"] == f"Planned(nfe={nfe}, measured)"
    assert made["profile"] == fingerprint(Profile.load(profile))


@needs_digits
def test_a_target_chooses_among_the_plans(cli, profile, tmp_path):
    def computed(target: float) -> int:
        cli(
            *("generate", "--model", "digits", "--steps", 12, "--profile", profile),
            *("--target-psnr", target, "--out", tmp_path / str(target)),
        )
        return entries_of(tmp_path / str(target) / "sample-0.png")["mask"].count("1")

    assert computed(5) < computed(35) < 12
    options = ("--model", "digits", "--profile", profile, "--out", tmp_path)
    assert "reaches 99 dB" in cli("generate", *options, "--target-psnr", 99).error


@needs_digits
def test_compare_says_what_the_profile_is_of_another(cli, model, profile, tmp_path):
    done = cli(
        *("compare", "x", "--model", model, "--size", 32, "--steps", 12, "--profile", profile),
        *("--out", tmp_path),
    )
    assert done.code == 0
    assert "note: the model is StableDiffusionPipeline, " in done.out


def test_prompts_guidance_and_size_reach_the_pipeline(cli, model, tmp_path):
    file = tmp_path / "profile.json"
    done = cli(
        *("calibrate", *PROMPTS, "--model", model, "--steps", 6, "--size", 32, "--guidance", 2),
        *("--scheduler", "euler", "--budget-nfe", 6, "--out", file),
    )
    assert done.code == 0, done.err
    assert Profile.load(file).scheduler == "EulerDiscreteScheduler, epsilon"
    assert Profile.load(file).evidence.ssim_mean is not None


@pytest.mark.parametrize("quality", QUALITIES)
def test_quality_is_a_tolerance_by_name(cli, model, tmp_path, quality):
    options = ("--model", model, "--size", 32, "--steps", 6, "--out", tmp_path)
    assert cli("generate", "x", *options, "--quality", quality).code == 0
    policy = entries_of(tmp_path / "x-0.png")["policy"]
    assert policy.startswith(f"ErrorControlled(tolerance={QUALITIES[quality]}")


# Errors ----------------------------------------------------------------------------------------


@pytest.fixture
def no_loading(monkeypatch):
    """Makes sure that an error comes before the work."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(loading, "_load", refuse)


@pytest.mark.usefixtures("no_loading")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "give one of --target-psnr, --target-ssim, --worst-psnr and --budget-nfe"),
        (("--target-psnr", 35, "--target-ssim", 0.9), "give one of --target-psnr"),
        (("--target-psnr", -1), "target_psnr must be between 0 and 100 dB"),
        (("--target-psnr", 35, "--prompts", "nowhere.txt"), "nowhere.txt can't be read"),
        (("--target-psnr", 35, "--scheduler", "magic"), "no scheduler 'magic'"),
        (("--target-psnr", 35, "--out", "."), "--out . is a folder: name a file in it"),
    ],
    ids=str,
)
def test_bad_options_are_found_before_the_model_is_loaded(cli, tmp_path, options, words):
    out = () if "--out" in options else ("--out", tmp_path / "profile.json")
    assert words in cli("calibrate", "x", *options, *out).error


@pytest.mark.usefixtures("no_loading")
@pytest.mark.parametrize("command", ["generate", "compare"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--quality", "best"), "no quality 'best': choose from faithful, balanced, fast"),
        (("--quality", "fast", "--tolerance", 0.1), "give only one of --tolerance, --quality"),
        (("--profile", "nowhere.json"), "profile nowhere.json can't be read"),
        (("--nfe", 1), "nfe must be a whole number of at least 2"),
        (("--nfe", 9, "--quality", "fast"), "give --nfe alone or with --profile"),
        (("--profile", "none", "--target-psnr", 40), "--target-psnr needs a --profile"),
        (("--target-psnr", 999), "no plan in the profile reaches 999 dB"),
    ],
    ids=str,
)
def test_bad_choices_are_found_before_the_model_is_loaded(cli, tmp_path, command, options, words):
    assert words in cli(command, "x", *options, "--out", tmp_path).error


def test_too_few_samples(cli, model, tmp_path):
    done = cli(
        *("calibrate", "x", "--model", model, "--target-psnr", 35),
        *("--out", tmp_path / "profile.json"),
    )
    assert "1 samples are too few" in done.error
    assert not (tmp_path / "profile.json").exists()
