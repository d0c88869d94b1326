"""What rows find out on samples that are not in the table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_diffusion.apps.bench import learning
from adaptive_diffusion.apps.bench.learning import LEARNING_SAMPLES, Learner, search_plan
from adaptive_diffusion.apps.sampling import Sample, Sampler, Settings
from adaptive_diffusion.measurement import calls_needed
from adaptive_diffusion.plan_finder import NUGGETS
from adaptive_diffusion.policies import FixedSchedule, Planned

STEPS = 8


def samples(count: int = LEARNING_SAMPLES) -> list[Sample]:
    return [Sample("a boat", 100 + index) for index in range(count)]


@pytest.fixture
def sampler(tiny) -> Sampler:
    return Sampler(tiny("sd15"), Settings(STEPS, 1.0, (32, 32)))


# The search ------------------------------------------------------------------------------------


@given(st.integers(2, 40), st.integers(2, 40), st.integers(1, 30))
def test_a_search_keeps_to_its_calls_and_its_trials(steps, calls, trials):
    tried = {}

    def closeness(plan):
        assert plan not in tried
        tried[plan] = float(hash(plan) % 97)
        return tried[plan]

    found = search_plan(steps, calls, closeness, trials)
    assert len(tried) <= trials
    assert tried[found] == max(tried.values())
    for plan in tried:
        assert len(set(plan)) == min(calls, steps)
        assert list(plan) == sorted(plan)
        assert (plan[0], plan[-1]) == (0, steps - 1)


def test_a_search_finds_the_best_plan_where_every_move_tells():
    best = (0, 1, 2, 3, 11, 19)

    def closeness(plan):
        return -sum(abs(a - b) for a, b in zip(plan, best, strict=True))

    assert search_plan(20, 6, closeness, trials=400) == best
    assert search_plan(20, 6, closeness, trials=400) == search_plan(20, 6, closeness, trials=400)


def test_a_search_begins_with_an_even_mask():
    assert search_plan(13, 4, lambda plan: 0.0, trials=1) == (0, 4, 8, 12)


# Learning from a pipeline ----------------------------------------------------------------------


def test_a_measured_plan_has_exactly_so_many_calls_and_is_found_once(sampler):
    learner = Learner(sampler, samples())
    learned = learner.measured(4)
    assert isinstance(learned.policy, Planned)
    assert learned.policy.loops
    batch = sampler.run([Sample("a boat", 0)], learned.policy)
    assert [sum(mask) for mask in batch.masks] == [4]
    trials = (len(NUGGETS) * 2 + 2 * 2) * 4  # the best two nuggets on two samples more
    assert learned.evaluations == calls_needed(STEPS, LEARNING_SAMPLES, 2) + trials
    assert learner.measured(4) is learned


def test_the_measurement_is_shared_by_all_numbers_of_calls(sampler, monkeypatch):
    measurements = []
    original = learning.measure
    monkeypatch.setattr(
        learning, "measure", lambda *given: measurements.append(1) or original(*given)
    )
    learner = Learner(sampler, samples())
    assert learner.measured(3).policy.nfe == 3
    assert learner.measured(5).policy.nfe == 5
    assert len(measurements) == 1


@pytest.mark.parametrize("forecasts", [False, True])
def test_a_searched_mask_is_no_worse_than_an_even_one(sampler, monkeypatch, forecasts):
    monkeypatch.setattr(learning, "SEARCH_RUNS", 12)
    learner = Learner(sampler, samples())
    learned = learner.searched(4, forecasts)
    found = learned.policy
    assert isinstance(found, FixedSchedule)
    assert (found.extrapolates, found.backfill) == (forecasts, forecasts)
    assert (len(found.mask), sum(found.mask)) == (STEPS, 4)
    assert learned.evaluations == 12 * 4 + 2 * STEPS
    even = [step in (0, 2, 5, 7) for step in range(STEPS)]
    even_policy = FixedSchedule(even, extrapolates=forecasts, backfill=forecasts)
    means = [sum(learner._closeness(each, i) for i in (0, 1)) for each in (found, even_policy)]
    assert means[0] >= means[1]


# In a benchmark --------------------------------------------------------------------------------


def test_what_was_learned_is_told_in_the_table(cli, tiny, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(learning, "SEARCH_RUNS", 8)
    seen: list[list[int]] = []
    original = Learner.__init__

    def note(self, sampler, samples, *others):
        seen.append([sample.seed for sample in samples])
        original(self, sampler, samples, *others)

    monkeypatch.setattr(Learner, "__init__", note)
    model = tmp_path / "model"
    tiny("sd15").save_pretrained(model)
    suite = tmp_path / "learned.toml"
    suite.write_text(
        f'description = "Learned"\nmodels = ["{model}"]\nsteps = [{STEPS}]\nsamples = 2\n'
        'size = [32, 32]\nguidance = [1.0]\nprompts = ["a boat"]\nseed = 5\n'
        'rows = ["ours: measured 4", "ours: nfe 4", "searched mask: reuse 4", "fewer steps 4"]\n'
    )
    out = tmp_path / "out"
    done = cli("bench", suite, "--no-timing", "--out", out)
    assert done.code == 0, done.err
    assert seen == [[7 + index for index in range(LEARNING_SAMPLES)]]  # the table has 5 and 6
    [cell] = json.loads((out / "summary.json").read_text())["cells"]
    rows = {row["name"]: row for row in cell["rows"]}
    assert {name: (row["nfe"], row["failures"]) for name, row in rows.items()} == {
        "full run": (STEPS, 0),
        "fewer steps 4": (4, 0),
        "searched mask: reuse 4": (4, 0),
        "ours: nfe 4": (4, 0),
        "ours: measured 4": (4, 0),
    }
    learned = {name for name, row in rows.items() if row["learning"]}
    assert learned == {"searched mask: reuse 4", "ours: measured 4"}
    text = (out / "table.md").read_text()
    assert "NFE before" in text
    assert "samples that are not in the table" in text
