"""How many threads are chosen."""

from __future__ import annotations

import os
import sys

import pytest

from adaptive_diffusion.apps import threads


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Makes a machine of so many cores, with load, affinity and a container's quota."""

    def make(cores: int, load: float = 0, allowed: int | None = None, quota: str = "max 100000"):
        file = tmp_path / "cpu.max"
        file.write_text(quota)
        monkeypatch.setattr(threads, "_QUOTAS", (str(tmp_path / "none"), str(file)))
        monkeypatch.setattr(os, "cpu_count", lambda: cores)
        monkeypatch.setattr(os, "getloadavg", lambda: (load, 0, 0), raising=False)
        bound = set(range(allowed or cores))
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: bound, raising=False)
        monkeypatch.delitem(sys.modules, "torch", raising=False)
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    return make


@pytest.mark.parametrize(
    ("settings", "free"),
    [
        ({"cores": 8}, 8),
        ({"cores": 8, "load": 5.2}, 3),
        ({"cores": 2, "load": 7}, 1),
        ({"cores": 64, "load": 60, "quota": "200000 100000"}, 2),
        ({"cores": 64, "quota": "150000"}, 2),
        ({"cores": 64, "quota": "50000 100000"}, 1),
        ({"cores": 16, "allowed": 4}, 4),
    ],
    ids=str,
)
def test_the_free_cores_are_used(machine, settings, free):
    machine(**settings)
    assert threads.free_cores() == free
    threads.limit_threads()
    all_free = free == settings["cores"]
    assert os.environ.pop("OMP_NUM_THREADS", None) == (None if all_free else str(free))


def test_the_users_choice_stays(machine, monkeypatch):
    machine(8, load=7)
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    threads.limit_threads()
    assert os.environ["OMP_NUM_THREADS"] == "6"


def test_it_is_too_late_once_torch_is_there(machine, monkeypatch):
    machine(8, load=7)
    monkeypatch.setitem(sys.modules, "torch", object())
    threads.limit_threads()
    assert "OMP_NUM_THREADS" not in os.environ
