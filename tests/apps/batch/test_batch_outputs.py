"""The folder of a batch: whole files or none, whatever happens while they are written."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest

from adaptive_diffusion.apps.batch.outputs import OutputError, Outputs

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_a_picture_stands_beside_its_record(tmp_path):
    outputs = Outputs(tmp_path)
    with outputs.claimed():
        outputs.add("made", "{}", b"picture")
        outputs.add("failed", '{"error": "x"}', None)
        outputs.add_manifest("prompts", "{}\n")
        assert outputs.made() == {"made"}
        assert outputs.is_made("made")
        assert not outputs.is_made("failed")
    assert files(tmp_path) == {
        "made.json": b"{}",
        "made.png": b"picture",
        "failed.json": b'{"error": "x"}',
        "prompts.manifest.jsonl": b"{}\n",
    }
    assert not (tmp_path / ".unfinished").exists()


@pytest.mark.parametrize("call", [0, 1])
@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "make room, then run the same command again"), (errno.EIO, "Input/output")],
)
def test_a_disk_that_fails_leaves_no_picture(tmp_path, monkeypatch, function, call, code, words):
    outputs = Outputs(tmp_path)
    original, calls = getattr(os, function), []

    def fail(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == call + 1:
            raise OSError(code, os.strerror(code))
        original(*arguments)

    with outputs.claimed():
        outputs.add("first", "{}", b"picture")
        monkeypatch.setattr(os, function, fail)
        with pytest.raises(OutputError, match=words):
            outputs.add("second", '{"nfe": 3}', b"another")
        monkeypatch.undo()
        assert outputs.made() == {"first"}
        left = files(tmp_path)
        left.pop("second.json", None)  # its renaming came first; without a picture it says nothing
        assert left == {"first.json": b"{}", "first.png": b"picture"}
        outputs.add("second", '{"nfe": 3}', b"another")
    assert files(tmp_path)["second.png"] == b"another"


def test_two_runs_do_not_share_a_folder(tmp_path):
    with (
        Outputs(tmp_path).claimed(),
        pytest.raises(OutputError, match="another run is writing"),
        Outputs(tmp_path).claimed(),
    ):
        pass
    with Outputs(tmp_path).claimed():
        pass


def test_what_a_killed_run_left_is_cleared_away(tmp_path):
    (tmp_path / ".unfinished").mkdir()
    (tmp_path / ".unfinished" / "half").write_bytes(b"PNG")
    with Outputs(tmp_path).claimed():
        assert list((tmp_path / ".unfinished").iterdir()) == []


@forks
def test_attempts_count_as_long_as_nobody_comes_to_their_end(tmp_path):
    outputs = Outputs(tmp_path)

    def count(name: str) -> int:
        with outputs.attempt(name) as number:
            return number

    def die(name: str) -> None:
        if os.fork() == 0:
            with outputs.attempt(name):
                os._exit(1)
        os.wait()

    with outputs.claimed():
        assert [count("a"), count("a")] == [1, 1]
        die("a")
        die("a")
        assert [count("b"), count("a"), count("a")] == [1, 3, 1]
        die("a")
    with outputs.claimed():
        assert count("a") == 1


def _write_on_and_on(folder: Path, start: int) -> None:
    outputs = Outputs(folder)
    with outputs.claimed():
        for number in range(start, start + 10_000):
            picture = random.Random(number).randbytes(200_000)
            record = json.dumps({"sha256": hashlib.sha256(picture).hexdigest()})
            outputs.add(f"{number:06}", record, picture)


@forks
def test_a_writer_killed_at_any_time_leaves_whole_files(tmp_path):
    """Thirty times, in the midst of writing."""
    outputs, clock = Outputs(tmp_path), random.Random(0)
    for _ in range(30):
        before = outputs.made()
        writer = multiprocessing.get_context("fork").Process(
            target=_write_on_and_on, args=(tmp_path, len(before))
        )
        writer.start()
        while outputs.made() == before:
            assert writer.is_alive()
            time.sleep(0.001)
        time.sleep(clock.uniform(0, 0.02))
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        made = outputs.made()
        assert made > before
        for key in made:
            record = json.loads((tmp_path / f"{key}.json").read_bytes())
            picture = (tmp_path / f"{key}.png").read_bytes()
            assert hashlib.sha256(picture).hexdigest() == record["sha256"]
    with outputs.claimed():
        pass
    left = {path.suffix for path in tmp_path.iterdir() if path.name != ".lock"}
    assert left == {".json", ".png"}
