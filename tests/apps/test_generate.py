"""`adaptive-diffusion generate`."""

from __future__ import annotations

import json
import re
import shutil
import wave
from pathlib import Path

import numpy as np
import pytest
from file_entries import entries_of
from PIL import Image

from adaptive_diffusion import Profile
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


# Profiles --------------------------------------------------------------------------------------


def made(folder: Path, name: str = "x-0.png") -> dict[str, str]:
    return entries_of(folder / name)


def test_a_number_of_calls_uses_what_was_published_with_the_model(cli, tmp_path):
    options = ("--model", "emoji", "--steps", 50, "--nfe", 8)
    done = cli("generate", "x", *options, "--out", tmp_path / "unasked")
    assert done.code == 0, done.err
    assert done.out.splitlines()[1:] == [
        "note: the profile published with emoji is used: "
        "DDIMScheduler v_prediction, 50 steps, guidance 3"
    ]
    assert made(tmp_path / "unasked")["policy"] == "Planned(nfe=8, measured)"

    for word in ("model", "emoji", str(miniatures()["emoji"])):
        done = cli("generate", "x", *options, "--profile", word, "--out", tmp_path / "asked")
        assert "note:" not in done.out
        assert made(tmp_path / "asked") == made(tmp_path / "unasked")
    assert len(list((tmp_path / "asked").iterdir())) == 1

    done = cli("generate", "x", *options, "--profile", "none", "--out", tmp_path / "none")
    assert "note:" not in done.out
    assert made(tmp_path / "none")["policy"] == "Planned(nfe=8, not measured)"


def test_a_target_uses_it_too_and_a_tolerance_does_not(cli, tmp_path):
    profile = Profile.from_pretrained(miniatures()["emoji"])
    cli("generate", "x", "--target-psnr", 60, "--out", tmp_path / "target")
    nfe = made(tmp_path / "target")["mask"].count("1")
    assert nfe == profile.policy(target_psnr=60).nfe
    for options in ((), ("--quality", "fast")):
        done = cli("generate", "x", "--steps", 6, *options, "--out", tmp_path / "tolerance")
        assert "note: none of 6 steps skipped" in done.out
        assert done.out.count("note:") == 1  # and none of the published profile
        assert made(tmp_path / "tolerance")["policy"].startswith("ErrorControlled")


def test_a_call_that_nothing_was_published_for_is_told(cli, tmp_path):
    done = cli(
        *("generate", "x", "--scheduler", "euler", "--steps", 8, "--guidance", 7),
        *("--nfe", 4, "--out", tmp_path),
    )
    assert done.code == 0, done.err
    assert "note: the profile published with emoji is used: " in done.out
    assert "note: the scheduler is EulerDiscreteScheduler, v_prediction, and the pr" in done.out
    assert "note: the call has 8 steps, and the profile was made with 50" in done.out
    assert "note: the call has guidance 7, and the profile was made with 3" in done.out


def test_the_nearest_of_several_published_profiles_is_taken(cli, model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "model")
    options = ("--model", folder, "--size", 32)
    for steps, nfe in ((6, 4), (12, 6)):
        done = cli(
            *("calibrate", "a", "b", "c", "d", *options, "--steps", steps),
            *("--budget-nfe", nfe, "--out", tmp_path / "profile.json"),
        )
        assert done.code == 0, done.err
        Profile.load(tmp_path / "profile.json").publish(folder)
    for steps, nfe in ((6, 4), (12, 6)):
        run = ("generate", "x", *options, "--steps", steps, "--profile", "model")
        done = cli(*run, "--out", tmp_path / f"{steps}")
        assert "note:" not in done.out
        assert made(tmp_path / f"{steps}")["mask"].count("1") == nfe
    done = cli(*run[:-4], "--steps", 30, "--profile", "model", "--out", tmp_path / "30")
    assert "note: the call has 30 steps, and the profile was made with 12" in done.out
    assert f"note: the profiles of {folder} were made with DDIMScheduler epsilon, 6 st" in done.out


# Learning --------------------------------------------------------------------------------------


def test_the_first_samples_teach_the_plan_of_the_others(cli, model, tmp_path):
    prompts = ("a red apple", "a tiger", "an owl", "a ship")
    options = ("--model", model, *SMALL, "--batch-size", 1, "--out", tmp_path)
    done = cli("generate", *prompts, *options, "--nfe", 5, "--learn", 2)
    assert done.code == 0, done.err
    first, second, learned, *others, note = done.out.splitlines()
    assert first == f"{tmp_path}/a-red-apple-0.png  12 of 12 steps computed; taught: sample 1 of 2"
    assert second == f"{tmp_path}/a-tiger-1.png  12 of 12 steps computed; taught: sample 2 of 2"
    assert [line.endswith("  5 of 12 steps computed") for line in others] == [True, True]
    assert note.startswith("note: a plan of 5 calls, learned from 2 samples")
    file = Path(learned.split("  ")[0])
    assert Profile.load(file).learned_from == 2
    owl = made(tmp_path, "an-owl-2.png")
    assert (owl["policy"], owl["profile"]) == ("Planned(nfe=5, measured)", file.stem[8:])

    before = {path: path.read_bytes() for path in tmp_path.glob("*.png")}
    cli("generate", *prompts[:2], *options, "--policy", "none")  # the same as those that taught
    cli("generate", *prompts[2:], *options, "--seed", 2, "--nfe", 5, "--profile", file)
    assert {path: path.read_bytes() for path in tmp_path.glob("*.png")} == before


def test_where_all_samples_teach_none_is_accelerated(cli, model, tmp_path):
    done = cli(
        "generate", "x", "--model", model, *SMALL, "--nfe", 5, "--learn", 3, "--out", tmp_path
    )
    [line] = done.out.splitlines()
    assert line.endswith("12 of 12 steps computed; taught: sample 1 of 3")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "--learn needs --nfe"),
        (("--tolerance", 0.1), "give --learn with --nfe, not with --tolerance"),
        (("--nfe", 5, "--profile", "model"), "give --learn with --nfe, not with --profile"),
        (("--nfe", 5, "--quality", "fast"), "give --nfe alone or with --profile"),
        (("--nfe", 5, "--policy", "third-order"), "--nfe does not go with --policy third-order"),
    ],
    ids=str,
)
def test_what_learning_does_not_go_with(cli, tmp_path, options, words):
    assert words in cli("generate", "x", "--learn", 2, *options, "--out", tmp_path).error
