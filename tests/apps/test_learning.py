"""Samples that teach: they are full runs, and what they taught makes the plans of others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny_pipelines import TINY_PIPELINES

import adaptive_diffusion as ad
from adaptive_diffusion.adapters.diffusers.pipelines import setting_of
from adaptive_diffusion.apps.learning import Lesson, learned
from adaptive_diffusion.apps.sampling import Sample, Sampler, Settings
from adaptive_diffusion.lessons import Lessons
from adaptive_diffusion.policies import Planned


@pytest.fixture
def sampler() -> Sampler:
    pipe = TINY_PIPELINES["sd15"].make()
    pipe.set_progress_bar_config(disable=True)
    return Sampler(pipe, Settings(steps=10, guidance=5.0, size=(32, 32)))


def samples(count: int) -> list[Sample]:
    return [Sample("a red apple", seed) for seed in range(count)]


def frames(batch: Any) -> np.ndarray:
    return batch.made[0].frames


def test_samples_that_teach_are_full_runs(sampler: Sampler) -> None:
    plain = [sampler.run([sample]) for sample in samples(3)]
    seen: list[int] = []
    with Lesson(sampler.pipe, 4, 2) as lesson:
        taught = [
            lesson.run(sampler, sample, lambda mask: seen.append(len(mask[0])))
            for sample in samples(2)
        ]
    assert seen == 2 * list(range(1, 11))
    assert [batch.notes for batch in taught] == [
        ("taught: sample 1 of 2",),
        ("taught: sample 2 of 2",),
    ]
    for batch, expected in zip(taught, plain, strict=False):
        assert batch.masks == [[True] * 10]
        assert np.array_equal(frames(batch), frames(expected))
    assert setting_of(sampler.pipe) is None
    assert np.array_equal(frames(sampler.run(samples(3)[2:])), frames(plain[2]))


def test_what_they_taught_makes_the_plan_of_others(sampler: Sampler) -> None:
    with Lesson(sampler.pipe, 4, 2) as lesson:
        for sample in samples(2):
            lesson.run(sampler, sample)
    assert lesson.profile is not None
    for nfe in (4, 6):
        skipping = learned(lesson.profile, nfe)
        assert isinstance(skipping.policy, Planned)
        assert skipping.policy.loops
        assert skipping.source.keys() == {"profile"}
        [note] = skipping.notes
        assert note.startswith(f"a plan of {nfe} calls, learned from 2 samples")
        assert sum(sampler.run(samples(1), skipping.policy).masks[0]) == nfe


def test_what_python_learns_is_the_same(sampler: Sampler) -> None:
    with Lesson(sampler.pipe, 4, 2) as lesson:
        for sample in samples(2):
            lesson.run(sampler, sample)
    ad.enable(sampler.pipe, nfe=4, learn=2)
    for sample in samples(2):
        sampler.run([sample])
    assert ad.profile(sampler.pipe) == lesson.profile


def test_too_few_have_taught(sampler: Sampler) -> None:
    with Lesson(sampler.pipe, 4, 2) as lesson:
        lesson.run(sampler, samples(1)[0])
    assert lesson.profile is None
    assert learned(None, 4).policy == Planned(4)
    assert learned(None, 4).notes == ("nothing was learned: calls are nearly even",)


def test_all_samples_of_a_lesson_are_full_runs_even_if_it_ends_early(
    sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does where the streams of a loop differ in their steps."""

    def give_up(self: Lessons, *_: object) -> str:
        return self._give_up("streams differ")

    monkeypatch.setattr(Lessons, "_learn", give_up)
    with Lesson(sampler.pipe, 4, 3) as lesson:
        masks = [lesson.run(sampler, sample).masks for sample in samples(3)]
    assert masks == 3 * [[[True] * 10]]
    assert lesson.profile is None
