"""`adaptive-diffusion doctor`, as a user runs it."""

from __future__ import annotations

import json
import re

import pytest
from diffusers import DDIMScheduler

from adaptive_diffusion.apps import loading
from adaptive_diffusion.miniatures import miniatures

SUBJECTS = [
    *("plain run", "tolerance 0", "skipping", "repeats", "backfill", "time", "default", "batch"),
    "afterwards",
]


def without_time(out: str) -> list[str]:
    """The marks before what was tried, but for the time, which depends on the machine."""
    lines = re.findall(r"^(ok|limit|no|fault) +(\S.*?)  ", out, flags=re.MULTILINE)
    assert [subject for _, subject in lines] == SUBJECTS
    return [mark for mark, subject in lines if subject != "time"]


@pytest.mark.parametrize(
    "name",
    [
        "digits",
        pytest.param("emoji", marks=pytest.mark.slow),
        pytest.param("emoji-dit", marks=pytest.mark.slow),
    ],
)
def test_the_miniatures_are_well(cli, tmp_path, name):
    if name not in miniatures():
        pytest.skip("the miniature is not at hand")
    file = tmp_path / "new" / "check.json"
    done = cli("doctor", name, "--json", file)
    assert done.code == 0, done.out + done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("WORKS")
    assert "fewer denoiser calls at 20 steps" in " ".join(lines[:2])
    assert lines[-1] == str(file)
    assert len(lines) <= 40
    assert max(map(len, lines)) <= max(100, len(str(file)))
    assert without_time(done.out) == ["ok"] * 8
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["ok"] is True
    assert found["figures"]["nfe_reduction"] > 1.1  # few steps leave little to skip
    assert found["figures"]["psnr_default"] > 40
    assert "guidance_scale=3.0" in found["subject"]["call"] or name == "digits"


def test_options_reach_the_call(cli, model):
    done = cli(
        *("doctor", model, "--prompt", "a tiger", "--steps", 6, "--guidance", 2, "--size", "32x40"),
        *("--scheduler", "euler", "--seed", 7),
    )
    assert done.code == 0, done.out + done.err
    for words in (
        "prompt='a tiger'",
        "guidance_scale=2.0",
        "width=32, height=40",
        "num_inference_steps=6",
        "seed 7",
        "EulerDiscreteScheduler",
    ):
        assert words in " ".join(done.out.split())


def test_a_broken_promise_is_exit_code_1(cli, model, monkeypatch):
    """A scheduler whose steps depend on who asks."""
    step = DDIMScheduler.step

    def spoiled(self, model_output, timestep, sample, *args, **kwargs):
        wrapped = DDIMScheduler.step is not spoiled
        return step(self, model_output * (1 + 0.1 * wrapped), timestep, sample, *args, **kwargs)

    monkeypatch.setattr(DDIMScheduler, "step", spoiled)
    done = cli("doctor", model, "--size", 32, "--steps", 6)
    assert done.code == 1
    assert done.out.startswith("BROKEN PROMISE (tolerance 0")
    assert "with a bug report" in " ".join(done.out.split())


def test_a_call_that_needs_more_is_exit_code_1(cli, clip_model, monkeypatch):
    done = cli("doctor", clip_model, "--size", 7)
    assert done.code == 1
    assert done.out.startswith("NOT ACCELERATED: It raises ValueError: `height` and `width`")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere",), "no model 'nowhere'"),
        (("digits", "--prompt", "  "), "a prompt is empty"),
        (("digits", "--size", "large"), "--size must look like"),
        (("digits", "--json", "."), "--json . is a folder: name a file in it"),
        (("digits", "--scheduler", "magic"), "no scheduler 'magic'"),
        ((), "Missing argument 'MODEL'"),
    ],
    ids=str,
)
def test_bad_options_are_found_before_the_model_is_loaded(cli, monkeypatch, arguments, words):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(loading, "_load", refuse)
    assert words in cli("doctor", *arguments).error


@pytest.mark.skipif("digits" not in miniatures(), reason="it is not at hand")
def test_a_prompt_for_a_model_that_takes_none(cli):
    assert (
        "DDIMPipeline has no prompt: leave it out" in cli("doctor", "digits", "--prompt", "x").error
    )
