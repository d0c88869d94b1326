"""Lessons of a batch: who teaches, who learns, and that a picture's key says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adaptive_diffusion.apps.batch.jobs import Job, key_of
from adaptive_diffusion.apps.batch.lessons import assign_lessons
from adaptive_diffusion.apps.batch.model import Model
from adaptive_diffusion.apps.choice import Choice, choose
from adaptive_diffusion.apps.loading import LoadOptions

MODEL = Model("emoji", "/models/emoji", "abc", LoadOptions(dtype="float32"))


def planned(*seeds: int, **more: object) -> list[Job]:
    given = {"steps": 50, "choice": choose(nfe=7), **more}
    return [Job("a red apple", seed, **given) for seed in seeds]  # type: ignore[arg-type]


def assign(*jobs: Job, count: int = 2) -> list[Job]:
    return assign_lessons(jobs, count, MODEL)


def teach(jobs: list[Job]) -> list[bool]:
    return [job.teaches is not None for job in jobs]


def test_the_first_teach_and_the_others_learn() -> None:
    jobs = assign(*planned(0, 1, 2, 3))
    assert teach(jobs) == [True, True, False, False]
    assert len({job.teaches or job.learns for job in jobs}) == 1
    assert all(bool(job.teaches) != bool(job.learns) for job in jobs)


def test_pictures_with_other_settings_have_lessons_of_their_own() -> None:
    jobs = assign(*planned(0, 1, 2), *planned(0, 1, steps=20), *planned(0, guidance=7.5))
    assert teach(jobs) == [True, True, False, True, True, True]
    assert len({job.teaches or job.learns for job in jobs}) == 3


def test_a_repeated_line_teaches_once() -> None:
    jobs = assign(*planned(0, 0, 1, 2))
    assert teach(jobs) == [True, True, True, False]
    assert len({key_of(job, MODEL) for job in jobs}) == 3


def test_other_numbers_of_calls_learn_from_the_same_lesson() -> None:
    first, second, third, fourth = assign(*planned(0, 1, 2), *planned(0, choice=choose(nfe=20)))
    assert {first.teaches, second.teaches, third.learns, fourth.learns} == {first.teaches}
    assert fourth.choice == choose(nfe=20)


@pytest.mark.parametrize("choice", [choose(), choose(tolerance=0), Choice(None)])
def test_what_has_no_plan_takes_no_part(choice: Choice) -> None:
    others = planned(5, 6, choice=choice)
    assert assign(*others, *planned(0, 1, 2))[:2] == others
    assert assign(*others) == others


def test_keys_of_those_that_learn_follow_from_those_that_teach() -> None:
    def keys(*seeds: int) -> list[str]:
        return [key_of(job, MODEL) for job in assign(*planned(*seeds))]

    assert keys(0, 1, 2, 3)[2] == keys(0, 1, 2)[2] == keys(0, 1, 4, 2)[3]
    assert keys(0, 1, 2)[2] != keys(0, 3, 2)[2]
    assert keys(0, 1)[:2] == [
        key_of(replace(job, choice=Choice(None)), MODEL) for job in planned(0, 1)
    ]
    assert key_of(planned(2)[0], MODEL) != keys(0, 1, 2)[2]
