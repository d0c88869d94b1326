"""`adaptive-diffusion generate`."""

from __future__ import annotations

import json
import re
import wave
from pathlib import Path

import numpy as np
import pytest
from file_entries import entries_of
from PIL import Image

from adaptive_diffusion.miniatures import miniatures

SMALL = ("--size", 32, "--steps", 12)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def test_pngs_say_how_they_were_made(cli, model, tmp_path):
    done = cli(
        *("generate", "a red apple", "tiger", "--model", model, *SMALL),
        *("--tolerance", 0.3, "--out", tmp_path),
    )

    assert done.code == 0
    assert "computed" in done.err  # the progress bar's last state
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-red-apple-0.png", "tiger-1.png"]
    image = Image.open(tmp_path / "tiger-1.png")
    assert image.size == (32, 32)
    text = entries_of(tmp_path / "tiger-1.png")
    assert text["prompt"] == "tiger"
    assert text["seed"] == "1"
    assert text["policy"] == "ErrorControlled(tolerance=0.3, max_skip=6)"
    assert len(text["mask"]) == 12
    assert set(text["mask"]) == {"0", "1"}
    computed = text["mask"].count("1")
    assert f"tiger-1.png  {computed} of 12 steps computed" in done.out


def test_other_tools_read_the_settings(cli, model, tmp_path):
    """As they take the text of AUTOMATIC1111's web UI apart, and as ComfyUI does."""
    cli(
        *("generate", "a tiger, red", "--model", model, *SMALL, "--scheduler", "dpm++-sde"),
        *("--guidance", 6.5, "--negative-prompt", "blurred", "--seed", 7, "--out", tmp_path),
    )
    texts = Image.open(tmp_path / "a-tiger-red-7.png").text
    assert not {"prompt", "workflow"} & {*texts}  # ComfyUI takes these for graphs
    prompt, negative, line = texts["parameters"].split("\n")
    assert (prompt, negative) == ("a tiger, red", "Negative prompt: blurred")
    pairs = re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', line)
    settings = dict(pairs)
    expected = {"Steps": "12", "Sampler": "DPM++ 2M SDE", "CFG scale": "6.5", "Seed": "7"}
    assert settings.items() >= {**expected, "Size": "32x32", "Model": "sd15"}.items()
    assert json.loads(settings["Skipping"]) == "ErrorControlled(tolerance=0.02, max_skip=6)"


def test_another_run_overwrites_nothing(cli, model, tmp_path):
    for guidance in (3, 4, 3):
        cli("generate", "x", "--model", model, *SMALL, "--guidance", guidance, "--out", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x-0-2.png", "x-0.png"]
    found = [entries_of(tmp_path / name)["guidance"] for name in ("x-0.png", "x-0-2.png")]
    assert found == ["3", "4"]


def test_the_same_seed_makes_the_same_picture(cli, model, tmp_path):
    for folder, seed in (("one", 5), ("two", 5), ("three", 6)):
        cli("generate", "x", "--model", model, *SMALL, "--seed", seed, "--out", tmp_path / folder)

    one = (tmp_path / "one" / "x-5.png").read_bytes()
    assert (tmp_path / "two" / "x-5.png").read_bytes() == one
    assert (pixels(tmp_path / "three" / "x-6.png") != pixels(tmp_path / "one" / "x-5.png")).any()


def test_a_batch_makes_the_pictures_of_single_runs(cli, model, tmp_path):
    prompts = ("a red apple", "a tiger", "a very big sunflower")
    options = ("--model", model, *SMALL)
    cli("generate", *prompts, *options, "--batch-size", 3, "--out", tmp_path / "batch")
    cli("generate", *prompts, *options, "--batch-size", 1, "--out", tmp_path / "single")

    made = sorted((tmp_path / "batch").iterdir())
    assert len(made) == 3
    for path in made:
        alone = tmp_path / "single" / path.name
        assert entries_of(path)["mask"] == entries_of(alone)["mask"]
        assert abs(pixels(path) - pixels(alone)).max() <= 1  # float rounding


def test_prompts_come_from_a_file_and_count_multiplies_them(cli, model, tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("\n  ein großer Apfel \n\n一只老虎\n", encoding="utf-8")
    out = tmp_path / "out"
    done = cli(
        *("generate", "x", "--prompts", file, "--count", 2, "--model", model),
        *("--size", 32, "--steps", 4, "--out", out),
    )

    assert done.code == 0
    texts = [entries_of(path) for path in out.iterdir()]
    found = sorted((text["seed"], text["prompt"]) for text in texts)
    prompts = ["x", "x", "ein großer Apfel", "ein großer Apfel", "一只老虎", "一只老虎"]
    assert found == [(str(seed), prompt) for seed, prompt in enumerate(prompts)]


@pytest.mark.parametrize(
    ("options", "policy", "steps"),
    [
        (("--policy", "none"), "none", 12),
        (("--policy", "third-order", "--threshold", 0.1), "ThirdOrder(threshold=0.1", 12),
        (("--tolerance", 0.5, "--max-skip", 2), "ErrorControlled(tolerance=0.5, max_skip=2)", 12),
        (("--nfe", 5), "Planned(nfe=5, not measured)", 12),
        (("--scheduler", "heun"), "ErrorControlled", 23),  # two steps for each but the last
        (("--scheduler", "euler-ancestral"), "ErrorControlled", 12),
        (("--guidance", 1), "ErrorControlled", 12),
    ],
    ids=str,
)
def test_options_reach_the_pipeline(cli, model, tmp_path, options, policy, steps):
    done = cli("generate", "x", "--model", model, *SMALL, *options, "--out", tmp_path)

    assert done.code == 0
    text = entries_of(tmp_path / "x-0.png")
    assert text["policy"].startswith(policy)
    assert len(text["mask"]) == steps
    if policy == "none":
        assert text["mask"] == "1" * steps
    if policy.startswith("Planned"):
        assert text["mask"].count("1") == 5


def test_third_order_skips_at_a_high_threshold_only(cli, model, tmp_path):
    computed = []
    for threshold in (0, 1):
        cli(
            *("generate", "x", "--model", model, *SMALL, "--policy", "third-order"),
            *("--threshold", threshold, "--out", tmp_path / str(threshold)),
        )
        computed.append(entries_of(tmp_path / str(threshold) / "x-0.png")["mask"].count("1"))
    assert computed[0] == 12
    assert computed[1] < 12


@pytest.mark.skipif("digits" not in miniatures(), reason="the miniature is not at hand")
def test_an_unconditional_miniature_needs_no_prompts(cli, tmp_path):
    done = cli("generate", "--model", "digits", "--count", 2, "--steps", 10, "--out", tmp_path)

    assert done.code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sample-0.png", "sample-1.png"]
    assert entries_of(tmp_path / "sample-1.png")["prompt"] == ""


@pytest.mark.parametrize("policy", ["error-controlled", "none"])
def test_clips_are_gifs_and_sounds_are_wavs(cli, clip_model, sound_model, tmp_path, policy):
    options = ("--steps", 6, "--policy", policy, "--out", tmp_path)
    small_clip = (clip_model, "--size", 16, "--frames", 3)
    for model in (small_clip, (sound_model,)):
        done = cli("generate", "a bell", "a boat", *options, "--model", *model)
        assert done.code == 0, done.err
        assert "of 6 steps computed" in done.out

    names = ["a-bell-0.gif", "a-bell-0.wav", "a-boat-1.gif", "a-boat-1.wav"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    made = json.loads(Image.open(tmp_path / "a-boat-1.gif").info["comment"])
    assert (made["prompt"], made["seed"], len(made["mask"])) == ("a boat", "1", 6)
    with wave.open(str(tmp_path / "a-boat-1.wav")) as file:
        assert (file.getnchannels(), file.getframerate()) == (2, 50)


def test_a_sound_has_no_size(cli, sound_model, tmp_path):
    done = cli("generate", "x", "--model", sound_model, "--size", 32, "--out", tmp_path)
    assert done.error == "error: StableAudioPipeline has no height: omit --size"


def test_a_picture_has_no_frames(cli, model, tmp_path):
    done = cli("generate", "x", "--model", model, "--frames", 8, "--out", tmp_path)
    assert done.error == "error: StableDiffusionPipeline has no num_frames: omit --frames"
