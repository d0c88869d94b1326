"""Which pictures of a file teach, and which have a plan that is made from what these taught.

Of pictures with equal settings the first teach. They are full runs, and so say their keys. The keys
of the others follow from theirs. So a picture is known beforehand by all that decides it, and a run
that was interrupted goes on with what it has learned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from adaptive_diffusion.apps.batch.jobs import Job, key_of
from adaptive_diffusion.apps.batch.model import Model
from adaptive_diffusion.apps.sampling import Settings
from adaptive_diffusion.policies import Planned

__all__ = ["assign_lessons"]

_ANY = "any"  # whatever it teaches, it is the same full run
_ID_LENGTH = 32  # hexadecimal digits


def assign_lessons(jobs: Sequence[Job], count: int, model: Model) -> list[Job]:
    """The same jobs: `count` of those with equal settings teach, and the others learn from them.

    Jobs that have a tolerance, or run in full, do neither.
    """
    teachers: dict[Settings, dict[Job, str]] = {}  # to the keys of their full runs
    for job in jobs:
        if _takes_part(job):
            alike = teachers.setdefault(job.settings, {})
            if len(alike) < count and job not in alike:
                alike[job] = key_of(replace(job, teaches=_ANY), model)
    lessons = {settings: _lesson(alike.values()) for settings, alike in teachers.items()}

    def assigned(job: Job) -> Job:
        if not _takes_part(job):
            return job
        lesson = lessons[job.settings]
        if job in teachers[job.settings]:
            return replace(job, teaches=lesson)
        return replace(job, learns=lesson)

    return list(map(assigned, jobs))


def _takes_part(job: Job) -> bool:
    return isinstance(job.choice.policy, Planned)


def _lesson(keys: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()[:_ID_LENGTH]
