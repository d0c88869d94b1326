"""`batch --engine ray` does what the local engine does, and outlives its workers."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from adaptive_diffusion.apps.batch.engines import BatchError, Workers, make_here, make_on_ray
from adaptive_diffusion.apps.batch.jobs import Job, calls_of, key_of
from adaptive_diffusion.apps.batch.maker import Maker, Outcome
from adaptive_diffusion.apps.batch.model import Model
from adaptive_diffusion.apps.batch.outputs import Outputs
from adaptive_diffusion.apps.choice import choose
from adaptive_diffusion.apps.loading import LoadOptions

ray = pytest.importorskip("ray", reason="needs the extra ray")
pytest.importorskip("ray.data", reason="needs the extra ray")
pytestmark = pytest.mark.slow

LINES = [
    {"prompt": "a red apple"},
    {"prompt": "a tiger", "seed": 1},
    {"prompt": "an owl", "seed": 2},
    {"prompt": "a frog", "seed": 3, "steps": 6},
    {"prompt": "a frog", "seed": 4, "width": 33, "height": 33},
    {"prompt": "a banana", "negative_prompt": "blurred"},
]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One for all tests."""
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    yield
    ray.shutdown()


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def test_both_engines_leave_the_same_behind(cli, model, tmp_path):
    """To the bit, where both use one thread; failures, too."""
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(map(json.dumps, LINES)))
    run = ("batch", file, "--model", model, "--size", 32, "--steps", 10, "--tolerance", 0.3)
    run = (*run, "--batch-size", 2)
    local = cli(*run, "--out", tmp_path / "local")
    on_ray = cli(*run, "--out", tmp_path / "ray", "--engine", "ray", "--workers", 2)

    assert (local.code, on_ray.code) == (1, 1)
    assert sorted(local.out.splitlines()[:-1]) == sorted(on_ray.out.splitlines()[:-1])
    assert "6 pictures: 5 made, 1 failed" in on_ray.out
    assert len(pictures(tmp_path / "local")) == 5
    assert pictures(tmp_path / "local") == pictures(tmp_path / "ray")
    for path in (tmp_path / "local").glob("*.json"):
        one, other = (
            json.loads((tmp_path / folder / path.name).read_text()) for folder in ("local", "ray")
        )
        assert {**one, "seconds": None} == {**other, "seconds": None}

    again = cli(*run, "--out", tmp_path / "ray", "--engine", "ray")
    assert "6 pictures: 0 made, 5 there before, 1 failed" in again.out


def test_what_one_worker_learns_is_known_to_the_others(cli, model, tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(json.dumps({"prompt": "an owl", "seed": seed}) for seed in range(5)))
    run = ("batch", file, "--model", model, "--size", 32, "--steps", 10, "--nfe", 4, "--learn", 2)
    run = (*run, "--batch-size", 1)
    local = cli(*run, "--out", tmp_path / "local")
    on_ray = cli(*run, "--out", tmp_path / "ray", "--engine", "ray", "--workers", 2)
    assert on_ray.code == 0, on_ray.err
    assert sorted(local.out.splitlines()[:-1]) == sorted(on_ray.out.splitlines()[:-1])
    assert len(pictures(tmp_path / "ray")) == 5
    assert pictures(tmp_path / "local") == pictures(tmp_path / "ray")


def test_a_model_that_can_not_be_loaded_is_one_line(cli, model, tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "x"}')
    run = ("batch", file, "--model", model, "--engine", "ray", "--out", tmp_path / "out")
    done = cli(*run, "--scheduler", "flow-euler")
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith("error: scheduler 'flow-euler' does not fit")


class Digits:
    """Twelve digits in calls of three, half of a call made before its worker is killed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.model = Model.choose("digits", LoadOptions(device="cpu", dtype="float32"))
        self.outputs = Outputs(folder)
        jobs = [Job(None, seed, 8, choose()) for seed in range(12)]
        self.jobs = {key_of(job, self.model): job for job in jobs}
        self.calls = calls_of(self.jobs, 3, set())
        self.notes = folder.parent / f"{folder.name}-attempts"

    def maker(self, deaths: Mapping[int, int]) -> Maker:
        """Whose process is killed in the midst of writing, so many times for each seed."""
        notes = self.notes

        class Mortal(Maker):  # local, so that it goes to the workers by value
            def _keep(self, key: str, job: Job, made: Any) -> Outcome:
                with notes.open("a+") as file:
                    file.seek(0)
                    died = file.read().split().count(str(job.seed))
                    if died < deaths.get(job.seed, 0):
                        file.write(f"{job.seed}\n")
                        file.flush()
                        os.kill(os.getpid(), signal.SIGKILL)
                return super()._keep(key, job, made)

        return Mortal(self.model, self.outputs)

    def run(self, deaths: Mapping[int, int], workers: int = 2) -> list[Outcome]:
        with self.outputs.claimed():
            return list(make_on_ray(self.maker(deaths), self.calls, Workers(workers)))

    @property
    def deaths(self) -> int:
        return len(self.notes.read_text().split())


def test_workers_may_die_in_the_midst_of_their_work(tmp_path):
    """Once for each of three calls, after a part of its pictures."""
    ours, local = Digits(tmp_path / "ray"), Digits(tmp_path / "local")
    with local.outputs.claimed():
        list(make_here(Maker(local.model, local.outputs), local.calls))
    outcomes = ours.run({1: 1, 5: 1, 9: 1})

    assert ours.deaths == 3
    assert sorted(outcome.key for outcome in outcomes) == sorted(ours.jobs)  # none lost, none twice
    assert all(outcome.error is None for outcome in outcomes)
    assert pictures(ours.outputs.folder).keys() == pictures(local.outputs.folder).keys()
    for path in ours.outputs.folder.glob("*.png"):
        Image.open(path).load()
    assert not (ours.outputs.folder / ".unfinished").exists()


def test_a_job_that_kills_every_worker_does_not_hold_up_the_others(tmp_path):
    ours = Digits(tmp_path / "ray")
    outcomes = {outcome.key: outcome for outcome in ours.run({4: 1000})}

    assert ours.deaths == 3  # twice with the others of its call, once alone
    [failed] = [key for key, outcome in outcomes.items() if outcome.error is not None]
    assert ours.jobs[failed].seed == 4
    assert "its worker died" in outcomes[failed].error
    assert (
        "its worker died"
        in json.loads((ours.outputs.folder / f"{failed}.json").read_text())["error"]
    )
    assert ours.outputs.made() == ours.jobs.keys() - {failed}


def test_a_worker_that_can_not_write_ends_the_run(tmp_path):
    ours = Digits(tmp_path / "ray")
    folder = ours.outputs.folder

    class Full(Outputs):
        def add(self, key: str, record: str, *content: Any) -> None:
            if len(self.made()) == 4:
                self._unfinished /= "full"  # a folder that is not there
            super().add(key, record, *content)

    with ours.outputs.claimed(), pytest.raises(BatchError, match="what was made is kept"):
        list(make_on_ray(Maker(ours.model, Full(folder)), ours.calls, Workers()))
    assert len(ours.outputs.made()) == 4
    assert len(list(folder.glob("*.json"))) == 4
