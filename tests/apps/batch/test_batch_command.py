"""`adaptive-diffusion batch`, from end to end on tiny pipelines."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from file_entries import entries_of
from filelock import FileLock
from PIL import Image

from adaptive_diffusion import Profile, calibrate, load_miniature
from adaptive_diffusion.apps import loading
from adaptive_diffusion.apps.profiles import fingerprint
from adaptive_diffusion.apps.sampling import Sampler
from adaptive_diffusion.miniatures import miniatures
from adaptive_diffusion.published import FILE, read_profiles

digits = pytest.mark.skipif("digits" not in miniatures(), reason="the miniature is not at hand")

APPLES = [
    {"prompt": "a red apple", "id": "apple"},
    {"prompt": "a tiger", "negative_prompt": "blurred", "seed": 5},
    {"prompt": "", "steps": 8},
    {"prompt": "a very big sunflower", "seed": 6, "guidance": 3},
    {"prompt": "a banana", "width": 16, "height": 32},
    {"prompt": "an owl", "tolerance": 0.5},
    {"prompt": "a frog", "negative_prompt": "a red apple"},
    {"prompt": "a ship", "nfe": 6},
]


def write(folder: Path, lines: list[dict[str, Any]]) -> Path:
    file = folder / "prompts.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    return file


def seeds(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"seed": seed} for seed in range(start, start + count)]


def manifest(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "prompts.manifest.jsonl").open(encoding="utf-8")]


def record(out: Path, key: str) -> dict[str, Any]:
    return json.loads((out / f"{key}.json").read_text(encoding="utf-8"))


def pictures(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("*.png")}


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


@pytest.fixture
def options(model, tmp_path):
    """Of a batch with the tiny Stable Diffusion."""
    return ("--model", model, "--size", 32, "--steps", 10, "--tolerance", 0.3)


@pytest.fixture
def calls(monkeypatch):
    """The seeds of each call of a pipeline from now on."""
    made: list[list[int]] = []
    original = Sampler.run

    def run(self: Sampler, samples: Any, *rest: Any, **more: Any) -> Any:
        made.append([sample.seed for sample in samples])
        return original(self, samples, *rest, **more)

    monkeypatch.setattr(Sampler, "run", run)
    return made


def test_every_line_has_a_picture_and_a_record(cli, options, tmp_path):
    out = tmp_path / "out"
    done = cli("batch", write(tmp_path, APPLES), *options, "--out", out)

    assert done.code == 0, done.err
    assert done.out.startswith("8 pictures: 8 made\n")
    assert "8 of 8" in done.err
    entries = manifest(out)
    assert [entry["line"] for entry in entries] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert entries[0]["id"] == "apple"
    assert len(pictures(out)) == 8
    for entry, given in zip(entries, APPLES, strict=True):
        kept = record(out, entry["key"])
        text = entries_of(out / f"{entry['key']}.png")
        assert kept["prompt"] == text["prompt"] == entry["prompt"] == given["prompt"]
        assert (
            kept["negative_prompt"] == text.get("negative_prompt") == given.get("negative_prompt")
        )
        assert kept["seed"] == int(text["seed"]) == given.get("seed", 0)
        assert kept["steps"] == len(kept["mask"]) == given.get("steps", 10)
        if "nfe" in given:
            assert kept["policy"] == {"name": "Planned", "nfe": 6}
            assert kept["nfe"] == 6
        else:
            assert kept["policy"]["tolerance"] == given.get("tolerance", 0.3)
        assert kept["nfe"] == kept["mask"].count("1") == text["mask"].count("1")
        assert kept["seconds"] > 0
        assert kept["error"] is None
        assert kept["versions"]["torch"]
    assert pixels(out / f"{entries[4]['key']}.png").shape == (32, 16, 3)
    assert sorted(path.name for path in out.iterdir() if path.suffix not in (".png", ".json")) == [
        ".lock",
        "prompts.manifest.jsonl",
    ]


def test_each_line_gets_the_picture_that_it_has_alone(cli, options, tmp_path):
    """Whoever shares its call, it has its own plan."""
    file = write(tmp_path, APPLES)
    for size in (1, 4):
        cli("batch", file, *options, "--batch-size", size, "--out", tmp_path / f"{size}")

    together, alone = tmp_path / "4", tmp_path / "1"
    assert sorted(pictures(together)) == sorted(pictures(alone))
    for name in pictures(together):
        key = name.removesuffix(".png")
        assert record(together, key)["mask"] == record(alone, key)["mask"]
        assert abs(pixels(together / name) - pixels(alone / name)).max() <= 1  # float rounding


def test_the_picture_is_the_one_that_generate_makes(cli, options, tmp_path):
    file = write(tmp_path, [{"prompt": "a tiger", "seed": 3}])
    cli("batch", file, *options, "--out", tmp_path / "batch")
    cli("generate", "a tiger", "--seed", 3, *options, "--out", tmp_path / "generate")
    [made] = (tmp_path / "batch").glob("*.png")
    assert (tmp_path / "generate" / "a-tiger-3.png").read_bytes() == made.read_bytes()


@digits
def test_a_profile_makes_the_plans_of_all_lines(cli, calls, tmp_path):
    profile = calibrate(load_miniature("digits"), 4, budget_nfe=6, num_inference_steps=10)
    profile.save(tmp_path / "profile.json")
    calls.clear()
    lines = [*seeds(2), {"seed": 2, "nfe": 4}, {"seed": 3, "nfe": 4}, {"seed": 4, "tolerance": 0}]
    run = ("--model", "digits", "--steps", 10, "--out", tmp_path / "out")
    done = cli("batch", write(tmp_path, lines), *run, "--profile", tmp_path / "profile.json")

    assert done.code == 0, done.err
    assert "note:" not in done.out
    kept = [record(tmp_path / "out", entry["key"]) for entry in manifest(tmp_path / "out")]
    assert [each["nfe"] for each in kept] == [6, 6, 4, 4, 10]
    assert calls == [[0, 1], [2, 3], [4]]
    of_it = fingerprint(profile)
    measured = [{"name": "Planned", "nfe": nfe, "profile": of_it} for nfe in (6, 6, 4, 4)]
    assert [each["policy"] for each in kept[:4]] == measured
    made = entries_of(tmp_path / "out" / f"{kept[0]['key']}.png")
    assert (made["policy"], made["profile"]) == ("Planned(nfe=6, measured)", of_it)

    cli("batch", write(tmp_path, lines), *run, "--nfe", 6, "--profile", "none")  # other pictures
    kept = [record(tmp_path / "out", entry["key"]) for entry in manifest(tmp_path / "out")]
    assert [each["policy"] for each in kept[:3]] == [
        {"name": "Planned", "nfe": nfe} for nfe in (6, 6, 4)
    ]


@digits
def test_the_first_pictures_teach_and_a_killed_run_goes_on_with_what_they_taught(
    cli, calls, tmp_path
):
    lines = [*seeds(5), {"seed": 5, "nfe": 6}, {"seed": 6, "tolerance": 0}]
    file, out = write(tmp_path, lines), tmp_path / "out"
    run = ("batch", file, "--model", "digits", "--steps", 10, "--nfe", 4, "--learn", 2)
    done = cli(*run, "--out", out)
    assert done.code == 0, done.err
    assert calls == [[0], [1], [2, 3, 4], [5], [6]]
    entries = manifest(out)
    kept = [record(out, entry["key"]) for entry in entries]
    assert [each["nfe"] for each in kept] == [10, 10, 4, 4, 4, 6, 10]
    assert [each["notes"] for each in kept[:2]] == [[f"taught: sample {n} of 2"] for n in (1, 2)]
    assert [each["policy"] for each in kept[:2]] == [None, None]
    [profile_file] = out.glob("*.profile.json")
    profile = Profile.load(profile_file)
    assert (profile.learned_from, profile.nfe) == (2, 4)
    for each in kept[2:6]:
        assert each["policy"] == {
            "name": "Planned",
            "nfe": each["nfe"],
            "profile": fingerprint(profile),
        }
        assert profile_file.name == f"{each['learns']}.profile.json"
    for number, entry in enumerate(entries[:2], start=1):
        assert f"note: {entry['key']}.json taught: sample {number} of 2" in done.out
    assert "note: a plan of 4 calls, learned from 2 samples" in done.out

    before, learned = pictures(out), profile_file.read_bytes()
    calls.clear()
    for entry in entries[2:5]:
        (out / f"{entry['key']}.png").unlink()
    assert "3 made, 4 there before" in cli(*run, "--out", out).out
    assert calls == [[2, 3, 4]]

    calls.clear()
    profile_file.unlink()  # then it is learned once more, and the pictures that taught stay
    (out / f"{entries[5]['key']}.png").unlink()
    assert "1 made, 6 there before" in cli(*run, "--out", out).out
    assert calls == [[0], [1], [5]]
    assert (pictures(out), profile_file.read_bytes()) == (before, learned)


@digits
def test_pictures_of_full_runs_are_those_that_teach(cli, calls, tmp_path):
    run = ("batch", write(tmp_path, seeds(2)), "--model", "digits", "--steps", 10)
    run = (*run, "--out", tmp_path / "out", "--batch-size", 1)
    cli(*run, "--policy", "none")
    before = pictures(tmp_path / "out")
    calls.clear()
    assert "0 made, 2 there before" in cli(*run, "--nfe", 4, "--learn", 2).out
    assert calls == []  # nobody is there to learn
    write(tmp_path, seeds(3))
    assert "1 made, 2 there before" in cli(*run, "--nfe", 4, "--learn", 2).out
    assert calls == [[0], [1], [2]]
    assert pictures(tmp_path / "out").items() >= before.items()


@digits
def test_pictures_whose_lesson_fails_wait_for_the_next_run(cli, tmp_path, monkeypatch):
    file, out = write(tmp_path, seeds(4)), tmp_path / "out"
    run = ("batch", file, "--model", "digits", "--steps", 10, "--nfe", 4, "--learn", 2)
    original = Sampler.run

    def fail(self: Sampler, samples: Any, *rest: Any, **more: Any) -> Any:
        if any(sample.seed == 1 for sample in samples):
            raise RuntimeError("out of memory")
        return original(self, samples, *rest, **more)

    monkeypatch.setattr(Sampler, "run", fail)
    done = cli(*run, "--out", out)
    assert done.code == 1
    assert "4 pictures: 1 made, 3 failed" in done.out
    errors = [record(out, entry["key"])["error"] for entry in manifest(out)]
    assert errors[:2] == [None, "RuntimeError: out of memory"]
    assert all("the pictures that were to teach it could not be made" in e for e in errors[2:])
    assert not list(out.glob("*.profile.json"))
    monkeypatch.undo()
    assert "4 pictures: 3 made, 1 there before" in cli(*run, "--out", out).out
    assert [record(out, entry["key"])["nfe"] for entry in manifest(out)] == [10, 10, 4, 4]


@digits
def test_where_nothing_can_be_learned_calls_are_nearly_even(cli, calls, tmp_path):
    """Loops of two steps teach nothing; that is learned once."""
    file, out = write(tmp_path, seeds(3)), tmp_path / "out"
    run = ("batch", file, "--model", "digits", "--steps", 2, "--nfe", 2, "--learn", 1)
    done = cli(*run, "--out", out)
    assert done.code == 0, done.err
    assert "taught nothing: it ran no loop of 3 steps or more" in done.out
    assert "note: nothing was learned: calls are nearly even" in done.out
    assert [path.read_text() for path in out.glob("*.profile.json")] == ["null"]
    write(tmp_path, seeds(4))
    calls.clear()
    assert "1 made, 3 there before" in cli(*run, "--out", out).out
    assert calls == [[3]]


@digits
def test_what_is_published_with_the_model_makes_the_plans_and_is_in_the_key(cli, tmp_path):
    file, out = write(tmp_path, [{"seed": 0}, {"seed": 0, "tolerance": 0.3}]), tmp_path / "out"
    run = ("batch", file, "--model", "digits", "--steps", 10, "--nfe", 4, "--out", out)
    done = cli(*run)
    assert "note: the profile published with digits is used: DDIMScheduler epsilon" in done.out
    plan, tolerance = (record(out, entry["key"]) for entry in manifest(out))
    [published] = read_profiles(miniatures()["digits"] / FILE)
    assert plan["policy"] == {"name": "Planned", "nfe": 4, "profile": fingerprint(published)}
    assert plan["notes"][0].startswith("the profile published with digits is used: ")
    assert tolerance["notes"] == []
    assert "0 made, 2 there before" in cli(*run, "--profile", "model").out
    assert "1 made, 1 there before" in cli(*run, "--profile", "none").out


@digits
def test_what_is_there_is_not_made_again(cli, calls, tmp_path, monkeypatch):
    run = ("--model", "digits", "--steps", 6, "--batch-size", 2, "--out", tmp_path / "out")
    cli("batch", write(tmp_path, seeds(4)), *run)
    first = {path: path.stat() for path in (tmp_path / "out").glob("*.png")}
    calls.clear()

    done = cli("batch", write(tmp_path, [*seeds(2, 10), *seeds(4), {"seed": 1, "id": "x"}]), *run)
    assert done.code == 0
    assert "6 pictures: 2 made, 4 there before" in done.out
    assert "1 of 7 lines repeat others" in done.out
    assert calls == [[10, 11]]
    for path, before in first.items():
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    monkeypatch.setattr(loading, "_load", None)  # there is nothing to load it for
    assert "0 made, 6 there before" in cli("batch", tmp_path / "prompts.jsonl", *run).out


@digits
def test_whatever_is_lost_is_made_again_as_it_was(cli, tmp_path):
    file, out = write(tmp_path, seeds(9)), tmp_path / "out"
    run = ("batch", file, "--model", "digits", "--steps", 6, "--batch-size", 3, "--out", out)
    cli(*run)
    before = pictures(out)
    for entry in manifest(out)[3:6]:  # a whole call
        (out / f"{entry['key']}.png").unlink()
    cli(*run)
    assert pictures(out) == before


@digits
def test_a_prompt_that_fails_does_not_end_the_run(cli, tmp_path):
    """It fails by itself, not for those in its call, and every run tries it again."""
    file = write(tmp_path, [{"seed": 0}, {"seed": 1, "prompt": "a tiger"}, {"seed": 2}])
    run = ("batch", file, "--model", "digits", "--steps", 6, "--out", tmp_path / "out")
    for count in ("3 pictures: 2 made, 1 failed", "3 pictures: 0 made, 2 there before, 1 failed"):
        done = cli(*run)
        assert done.code == 1
        assert count in done.out
        key = manifest(tmp_path / "out")[1]["key"]
        assert f"failed: {key}.json: ValueError: DDIMPipeline takes no prompts" in done.out
        assert "takes no prompts" in record(tmp_path / "out", key)["error"]
        assert not (tmp_path / "out" / f"{key}.png").exists()


@digits
def test_a_failure_that_passes_is_made_good(cli, tmp_path, monkeypatch):
    file, out = write(tmp_path, seeds(3)), tmp_path / "out"
    run = ("batch", file, "--model", "digits", "--steps", 6, "--out", out)
    original = Sampler.run

    def fail(self: Sampler, samples: Any, *rest: Any, **more: Any) -> Any:
        if any(sample.seed == 1 for sample in samples):
            raise RuntimeError("out of memory")
        return original(self, samples, *rest, **more)

    monkeypatch.setattr(Sampler, "run", fail)
    assert cli(*run).code == 1
    monkeypatch.undo()
    done = cli(*run)
    assert done.code == 0
    assert "3 pictures: 1 made, 2 there before" in done.out
    assert all(record(out, entry["key"])["error"] is None for entry in manifest(out))


@digits
def test_a_picture_of_no_numbers_is_a_failure(cli, tmp_path, monkeypatch):
    original = Sampler.run

    def spoil(self: Sampler, samples: Any, *rest: Any, **more: Any) -> Any:
        batch = original(self, samples, *rest, **more)
        assert batch.made is not None
        batch.made[1].pixels[0, 0] = np.nan
        return batch

    monkeypatch.setattr(Sampler, "run", spoil)
    file = write(tmp_path, seeds(3))
    done = cli("batch", file, "--model", "digits", "--steps", 6, "--out", tmp_path / "out")
    assert done.code == 1
    assert "2 made, 1 failed" in done.out
    assert (
        "no numbers (NaN)"
        in record(tmp_path / "out", manifest(tmp_path / "out")[1]["key"])["error"]
    )


@digits
def test_a_full_disk_ends_the_run_in_one_line(cli, tmp_path, monkeypatch):
    file, out = write(tmp_path, seeds(6)), tmp_path / "out"
    run = ("batch", file, "--model", "digits", "--steps", 6, "--batch-size", 2, "--out", out)
    original, synced = os.fsync, []

    def fsync(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) > 7:  # the manifest and three pictures with their records
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    done = cli(*run)
    assert "No space left on device): what was made is kept; make room" in done.error
    assert len(pictures(out)) == 3
    assert len(list(out.glob("*.json"))) == 3
    assert not (out / ".unfinished").exists()

    monkeypatch.undo()
    assert "3 made, 3 there before" in cli(*run).out


@digits
def test_an_interruption_says_how_to_go_on(cli, tmp_path, monkeypatch):
    original = Sampler.run

    def interrupt(self: Sampler, samples: Any, *rest: Any, **more: Any) -> Any:
        if samples[0].seed == 4:
            raise KeyboardInterrupt
        return original(self, samples, *rest, **more)

    monkeypatch.setattr(Sampler, "run", interrupt)
    file, out = write(tmp_path, seeds(6)), tmp_path / "out"
    done = cli("batch", file, "--model", "digits", "--steps", 6, "--batch-size", 2, "--out", out)
    assert done.code == 130
    assert done.err.splitlines()[-2:] == [
        "4 of 6 pictures are made: run it again to continue",
        "interrupted",
    ]
    assert len(pictures(out)) == 4
    assert not (out / ".unfinished").exists()


@digits
def test_a_folder_in_use_is_refused(cli, tmp_path):
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"):
        done = cli(
            "batch", write(tmp_path, seeds(1)), "--model", "digits", "--out", tmp_path / "out"
        )
    assert "another run is writing to" in done.error


@pytest.mark.parametrize(
    ("line", "given", "words"),
    [
        ('{"promt": "x"}', (), "line 1: unknown key 'promt'"),
        ("{}", ("--scheduler", "magic"), "no scheduler 'magic'"),
        ("{}", ("--model", "nowhere"), "no model 'nowhere'"),
        ("{}", ("--quality", "magic"), "no quality 'magic'"),
        ("{}", ("--policy", "none", "--tolerance", 1), "does not go with --policy none"),
        ('{"nfe": 7, "tolerance": 1}', (), "line 1: give --nfe alone or with --profile"),
        ("{}", ("--nfe", 7, "--quality", "fast"), "give --nfe alone or with --profile"),
        ("{}", ("--learn", 2), "--learn needs --nfe"),
        (
            "{}",
            ("--learn", 2, "--nfe", 7, "--profile", "model"),
            "give --learn with --nfe, not with",
        ),
        ("{}", ("--profile", "nowhere.json"), "profile nowhere.json can't be read"),
        ("{}", ("--target-psnr", 999), "no plan in the profile reaches 999 dB"),
        ("{}", ("--engine", "magic"), "--engine"),
        ("{}", ("--workers", 2), "--workers"),
        ("", (), "has no prompts"),
    ],
    ids=str,
)
def test_bad_input_is_found_before_the_model_is_loaded(
    cli, tmp_path, monkeypatch, line, given, words
):
    monkeypatch.setattr(loading, "_load", None)
    file = tmp_path / "prompts.jsonl"
    file.write_text(line)
    assert words in cli("batch", file, "--out", tmp_path / "out", *given).error


def test_a_file_that_is_not_there(cli, tmp_path):
    done = cli("batch", tmp_path / "none.jsonl", "--out", tmp_path)
    assert "none.jsonl can't be read: No such file" in done.error


def test_ray_is_an_extra(cli, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    done = cli("batch", write(tmp_path, seeds(1)), "--engine", "ray", "--out", tmp_path)
    assert done.error == (
        'error: ray is not installed: install the extra ray; in a checkout, pip install -e ".[ray]"'
    )


@digits
@pytest.mark.slow
def test_runs_killed_at_any_time_lose_nothing_and_make_nothing_twice(cli, tmp_path):
    """Five real processes, SIGKILL; what they leave is whole, and at last all of it is there."""
    file, killed, clock = write(tmp_path, seeds(40)), tmp_path / "killed", random.Random(0)
    run = ("batch", file, "--model", "digits", "--steps", 30, "--batch-size", 2)
    command = [sys.executable, "-m", "adaptive_diffusion.apps.cli", *map(str, run)]
    seen: dict[Path, os.stat_result] = {}
    for _ in range(5):
        process = subprocess.Popen([*command, "--out", str(killed)], stderr=subprocess.DEVNULL)
        while process.poll() is None and len(pictures(killed)) == len(seen):
            time.sleep(0.005)
        time.sleep(clock.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        seen = whole_and_unchanged(killed, seen)
    assert 5 <= len(seen) < 40

    assert f"{40 - len(seen)} made, {len(seen)} there before" in cli(*run, "--out", killed).out
    assert len(whole_and_unchanged(killed, seen)) == 40
    assert not (killed / ".unfinished").exists()

    cli(*run, "--out", tmp_path / "whole")
    assert sorted(pictures(tmp_path / "whole")) == sorted(pictures(killed))
    for name in pictures(killed):  # float rounding: a call may have lost one of its two
        assert abs(pixels(tmp_path / "whole" / name) - pixels(killed / name)).max() <= 1


def whole_and_unchanged(
    out: Path, before: dict[Path, os.stat_result]
) -> dict[Path, os.stat_result]:
    """The pictures, each of them read, with its record, and those from before untouched."""
    now = {path: path.stat() for path in out.glob("*.png")}
    assert now.keys() >= before.keys()
    for path, stat in now.items():
        Image.open(path).load()
        assert record(out, path.stem)["error"] is None
        was = before.get(path, stat)
        assert (stat.st_ino, stat.st_mtime_ns) == (was.st_ino, was.st_mtime_ns)
    return now


def test_sounds_are_made_once_and_can_be_heard(cli, sound_model, tmp_path):
    file, out = write(tmp_path, [{"prompt": "a bell"}, {"prompt": "a drum"}]), tmp_path / "out"
    options = ("--model", sound_model, "--steps", 4, "--out", out)
    assert cli("batch", file, *options).code == 0
    keys = {entry["key"] for entry in manifest(out)}
    assert {path.stem for path in out.glob("*.wav")} == keys
    assert all(record(out, key)["error"] is None for key in keys)
    assert "2 there before" in cli("batch", file, *options).out
