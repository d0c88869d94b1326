"""`adaptive-diffusion compare`."""

from __future__ import annotations

import json
import math
import wave

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_pipelines import TINY_PIPELINES

from adaptive_diffusion.apps.comparison import compare
from adaptive_diffusion.apps.sampling import Sampler, Settings
from adaptive_diffusion.miniatures import miniatures
from adaptive_diffusion.policies import ErrorControlled, ThirdOrder

REQUIRED = (
    *("model", "scheduler", "steps", "nfe", "nfe_reduction", "speedup", "psnr_db", "ssim"),
    *("policy", "tolerance", "seed", "device", "versions"),
)


def strict_json(text: str) -> dict:
    """JSON as the standard has it: Python's own reader would let NaN and Infinity pass."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_it_writes_picture_and_report_and_prints_a_table(cli, model, tmp_path):
    done = cli(
        *("compare", "a red apple", "a tiger", "--model", model, "--scheduler", "ddim"),
        *("--size", 32, "--steps", 12, "--tolerance", 0.2, "--seed", 3, "--baselines"),
        *("--out", tmp_path / "new" / "folder"),
    )

    assert done.code == 0
    assert Image.open(tmp_path / "new/folder/compare.png").size > (600, 300)
    report = strict_json((tmp_path / "new/folder/report.json").read_text(encoding="utf-8"))
    assert [key for key in REQUIRED if key not in report] == []
    assert report["model"] == str(model)
    assert report["scheduler"] == "DDIMScheduler"
    assert (report["steps"], report["seed"], report["tolerance"]) == (12, 3, 0.2)
    assert report["policy"] == "error-controlled"
    assert report["timed"] == "denoising loop"
    assert report["versions"]["torch"] == torch.__version__
    assert report["nfe_reduction"] == pytest.approx(12 / report["nfe"])
    assert report["nfe"] < 12
    assert report["speedup"] > 0
    assert math.isfinite(report["psnr_db"])
    assert 0 < report["ssim"] <= 1

    samples = report["samples"]
    assert [sample["prompt"] for sample in samples] == ["a red apple", "a tiger"]
    assert [sample["seed"] for sample in samples] == [3, 4]
    assert [sample["mask"].count("1") for sample in samples] == [s["nfe"] for s in samples]
    assert report["nfe"] == sum(sample["nfe"] for sample in samples) / 2

    fewer, paper = report["baselines"]
    assert (fewer["name"], fewer["policy"]) == ("fewer steps", None)
    assert fewer["steps"] == fewer["nfe"] == math.ceil(report["nfe"])
    assert paper["name"] == "paper's rule"
    assert paper["policy"].startswith("ThirdOrder(threshold=")
    assert paper["steps"] == 12

    for word in ("a red apple", "a tiger", "mean", "NFE", "PSNR", "SSIM", "fewer steps", "paper"):
        assert word in done.out


def test_an_exact_number_of_calls(cli, model, tmp_path):
    options = ("--model", model, "--size", 32, "--steps", 8, "--out", tmp_path)
    assert cli("compare", "a tiger", *options, "--nfe", 4).code == 0
    report = strict_json((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (report["policy"], report["policy_settings"]) == ("planned", {"nfe": 4})
    assert report["notes"] == []


def test_the_report_says_that_a_published_profile_is_used(cli, tmp_path):
    done = cli("compare", "a tiger", "--steps", 6, "--nfe", 4, "--out", tmp_path)
    assert done.code == 0, done.err
    report = strict_json((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["policy_text"] == "Planned(nfe=4, measured)"
    assert report["added"].keys() == {"profile"}
    used, steps, several = report["notes"]
    assert used.startswith("the profile published with emoji is used: ")
    assert steps == "the call has 6 steps, and the profile was made with 50"
    assert several.startswith("the profiles of emoji were made with ")
    assert all(f"note: {note}" in done.out for note in report["notes"])
    assert (report["nfe"], report["tolerance"]) == (4, None)
    assert report["baselines"][0]["steps"] == 4


def test_tolerance_zero_is_identical_and_valid_json(cli, model, tmp_path):
    done = cli(
        *("compare", "x", "--model", model, "--size", 32, "--steps", 5, "--tolerance", 0),
        *("--out", tmp_path),
    )

    assert "identical" in done.out
    report = strict_json((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["identical"] is True
    assert report["psnr_db"] is None
    assert report["ssim"] == pytest.approx(1)
    assert report["nfe"] == 5
    assert report["samples"][0]["identical"] is True
    assert [(each["name"], each["steps"]) for each in report["baselines"]] == [("fewer steps", 5)]


def test_clips_are_measured_frame_by_frame_and_shown_as_a_film(cli, clip_model, tmp_path):
    done = cli(
        *("compare", "a tiger", "--model", clip_model, "--size", 16, "--frames", 3, "--steps", 8),
        *("--tolerance", 3, "--out", tmp_path),
    )

    assert done.code == 0, done.err
    report = strict_json((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["makes"] == "clip"
    assert report["nfe"] < 8
    assert report["psnr_db_worst"] <= report["psnr_db"]
    assert 0 < report["ssim"] <= 1
    names = {"a-tiger-0.gif", "compare.png", "report.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert all(str(tmp_path / name) in done.out for name in names)
    film = Image.open(tmp_path / "a-tiger-0.gif")
    assert film.size == (3 * 128, 128)
    assert film.n_frames == 3


def test_sounds_are_measured_on_their_spectrograms_and_written_to_be_heard(
    cli, sound_model, tmp_path
):
    done = cli(
        *("compare", "a bell", "--model", sound_model, "--steps", 8, "--tolerance", 3),
        *("--out", tmp_path),
    )

    assert done.code == 0, done.err
    report = strict_json((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["makes"] == "sound"
    assert report["nfe"] < 8
    assert math.isfinite(report["psnr_db"])
    names = {"a-bell-0-full.wav", "a-bell-0-accelerated.wav", "compare.png", "report.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    heard = []
    for name in ("a-bell-0-full.wav", "a-bell-0-accelerated.wav"):
        with wave.open(str(tmp_path / name)) as file:
            assert (file.getnchannels(), file.getframerate()) == (2, 50)
            heard.append(file.readframes(file.getnframes()))
    assert heard[0] != heard[1]


def test_other_settings_overwrite_nothing_and_the_same_ones_do(cli, model, tmp_path):
    options = ("--model", model, "--size", 32, "--out", tmp_path)
    for steps in (4, 5, 4):
        done = cli("compare", "x", *options, "--steps", steps)
        assert done.code == 0, done.err
    names = {"compare.png", "report.json", "compare-2.png", "report-2.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    found = [
        strict_json((tmp_path / name).read_text()) for name in ("report.json", "report-2.json")
    ]
    assert [report["steps"] for report in found] == [4, 5]
    done = cli("compare", "x", *options, "--steps", 4, "--negative-prompt", "blurred")
    assert str(tmp_path / "compare-3.png") in done.out
    (tmp_path / "report.json").write_text("[1]")
    assert str(tmp_path / "compare-4.png") in cli("compare", "x", *options, "--steps", 6).out
    assert (tmp_path / "report.json").read_text() == "[1]"


@pytest.mark.skipif("digits" not in miniatures(), reason="the miniature is not at hand")
def test_the_trained_miniature_is_close_and_closer_than_its_rivals(cli, tmp_path):
    done = cli("compare", "--model", "digits", "--baselines", "--out", tmp_path)

    assert done.code == 0
    report = strict_json((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["samples"][0]["prompt"] is None
    assert report["ssim"] is None  # 8 x 8 pixels are too few for it
    assert report["nfe_reduction"] > 1.5
    assert report["psnr_db"] > max(rival["psnr_db"] for rival in report["baselines"])
    assert "not a number" not in done.out


@pytest.fixture
def sampler() -> Sampler:
    pipe = TINY_PIPELINES["sd15"].make()
    pipe.set_progress_bar_config(disable=True)
    return Sampler(pipe, Settings(steps=8, size=(32, 32)))


def test_references_are_the_plain_pipelines_own_pictures(sampler):
    samples = sampler.plan(["a red apple"], count=2, seed=7)
    result = compare(sampler, samples, ErrorControlled(3.0), repeats=2)

    assert result.full.nfe == [8, 8]
    assert len(result.full.seconds) == len(result.accelerated.seconds) == 2
    for sample, reference in zip(samples, result.references, strict=True):
        plain = sampler.pipe(
            sample.prompt,
            generator=torch.Generator("cpu").manual_seed(sample.seed),
            num_inference_steps=8,
            width=32,
            height=32,
            output_type="np",
        ).images[0]
        assert np.array_equal(plain, reference.pixels)


def test_the_papers_rule_gets_no_rival_of_its_own_kind(sampler):
    samples = sampler.plan(["x"], count=1, seed=0)
    result = compare(sampler, samples, ThirdOrder(1.0), paper_rule=True)
    assert [rival.variant.name for rival in result.baselines] == ["fewer steps"]


def test_a_picture_that_is_no_number_is_not_hidden_by_the_others(sampler):
    samples = sampler.plan(["x", "y"], count=1, seed=0)
    result = compare(sampler, samples, ErrorControlled(0.0), repeats=1)
    result.accelerated.psnr_db[0] = math.nan
    assert math.isnan(result.accelerated.mean_psnr_db)
    assert not result.accelerated.identical
