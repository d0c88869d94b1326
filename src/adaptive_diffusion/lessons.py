"""Learning from the first calls of an enabled pipeline how its outputs go together.

These calls run in full, with recorded streams, and give the kernels of their loops. What else a
plan needs is assumed. Once enough samples have taught, calls follow the plan, and nothing more is
learned.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from adaptive_diffusion.adapters.diffusers.generation import StepCallback
from adaptive_diffusion.adapters.diffusers.pipelines import Setting
from adaptive_diffusion.errors import ProfileError
from adaptive_diffusion.evidence import Goal
from adaptive_diffusion.identity import describe_model, describe_scheduler, versions
from adaptive_diffusion.measured import Measured
from adaptive_diffusion.numerics.assumed import assumed_statistics
from adaptive_diffusion.numerics.noise_schedule import NoiseSchedule
from adaptive_diffusion.numerics.statistics import LoopStatistics, Terms
from adaptive_diffusion.policies import Planned
from adaptive_diffusion.policies.base import require_count
from adaptive_diffusion.profiles import Profile
from adaptive_diffusion.trajectory.measuring import FEWEST_STEPS, After, RecordedLoop, Recorder

__all__ = ["Lessons"]


@dataclass(frozen=True)
class _Kind:
    """Loops that teach the same: the steps that they take, and what is forecast in each stream.

    And whether their solver adds noise.
    """

    schedule: NoiseSchedule
    terms: tuple[Terms, ...]
    noisy: bool


@dataclass(frozen=True)
class _Lesson:
    """What a loop has taught: the mean kernels of its samples, one for each stream."""

    kind: _Kind
    samples: int
    kernels: list[Tensor]
    guidance: float | None


class Lessons:
    """The setting of a pipeline whose first samples are full runs and teach.

    Args:
        nfe: how many denoiser calls later samples make in each loop.
        samples: how many are to teach. If a batch has more rows, all of them do.
        on_step: told of every step.

    Raises:
        PolicyError: unless `nfe` is a whole number of two or more, and `samples` of one or more.
    """

    def __init__(self, nfe: int, samples: int, on_step: StepCallback | None = None) -> None:
        require_count("learn", samples, at_least=1)
        self._unlearned = Planned(nfe)
        self._samples = samples
        self._on_step = on_step
        self._lock = Lock()  # calls may end in several threads at once
        self._lessons: list[_Lesson] = []
        self._taught = 0
        self._ends: list[int] = []  # of the last call's loops
        self._profile: Profile | None = None
        self._afterwards: Setting | None = None

    @property
    def have_ended(self) -> bool:
        """Whether calls from now on are accelerated: it is learned, or it can't be."""
        return self._afterwards is not None

    @property
    def profile(self) -> Profile:
        """What was learned.

        Raises:
            ProfileError: if samples are missing, or nothing can be learned.
        """
        if self._profile is not None:
            return self._profile
        if self._afterwards is not None:
            raise ProfileError("nothing could be learned; the report of each call says why")
        raise ProfileError(
            f"{self._taught} of {self._samples} samples have taught: "
            f"make {self._samples - self._taught} more, and there is a profile"
        )

    def of_call(self, pipeline: Any, guidance: Any) -> Setting:
        """A full run, while samples are missing; then the plan."""
        if self._afterwards is not None:
            return self._afterwards
        recorder = Recorder()
        scale = float(guidance) if isinstance(guidance, int | float) else None
        learn = partial(self._learn, pipeline, recorder, scale)
        return Setting(After(), self._on_step, make_stream=recorder, at_end=learn)

    def _learn(self, pipeline: Any, recorder: Recorder, guidance: float | None) -> str:
        """Takes in a call that has come to its end; what to note of it."""
        loops = [loop for loop in recorder.loops if loop.steps >= FEWEST_STEPS]
        lessons = [_lesson(loop, guidance) for loop in loops]
        with self._lock:
            if self._afterwards is not None:
                return "taught nothing: the lessons had ended when it did"
            if not all(loop.is_even for loop in loops):
                return self._give_up("the streams of a loop differ in their steps")
            reason = self._reason_against(loops, lessons)
            if reason:
                return f"taught nothing: {reason}"
            first = self._taught + 1
            self._taught += max(lesson.samples for lesson in lessons)
            self._lessons += lessons
            if self._taught >= self._samples:
                self._end(pipeline, loops[0].dtype)
            last, of = self._taught, max(self._samples, self._taught)
        which = f"sample {last}" if first == last else f"samples {first} to {last}"
        return f"taught: {which} of {of}"

    def _reason_against(self, loops: list[RecordedLoop], lessons: list[_Lesson]) -> str:
        """Why a call can't teach; empty if it can.

        A loop that ends before its scheduler's last steps was interrupted, unless the call before
        ended there, too.
        """
        if not loops:
            return f"it ran no loop of {FEWEST_STEPS} steps or more that can be followed"
        before, self._ends = self._ends, [loop.steps for loop in loops]
        if self._ends != before and any(loop.steps < len(loop.schedule) - 1 for loop in loops):
            return "a loop was ended early"
        if not all(kernel.isfinite().all() for lesson in lessons for kernel in lesson.kernels):
            return "outputs of the denoiser are not finite"
        return ""

    def _give_up(self, reason: str) -> str:
        """From now on, a plan as without learning is followed."""
        note = f"nothing can be learned: {reason}; calls are nearly even"
        self._afterwards = Setting(self._unlearned, self._on_step, at_end=lambda: note)
        return note

    def _end(self, pipeline: Any, dtype: str) -> None:
        """Makes the profile; from now on it is used."""
        guidances = {lesson.guidance for lesson in self._lessons}
        steps = [len(lesson.kind.schedule) for lesson in self._lessons]
        self._profile = profile = Profile(
            model=describe_model(pipeline),
            scheduler=describe_scheduler(pipeline),
            steps=(min(steps), max(steps)),
            goal=Goal("nfe", float(self._unlearned.nfe)),
            evidence=None,
            learned_from=self._taught,
            versions=versions(),
            date=datetime.date.today().isoformat(),
            nfe=self._unlearned.nfe,
            measured=Measured(
                _statistics(self._lessons),
                guidances.pop() if len(guidances) == 1 else None,
                dtype,
            ),
        )
        self._lessons = []
        self._afterwards = Setting(profile.policy(), self._on_step, profile, at_end=profile.__str__)


def _lesson(loop: RecordedLoop, guidance: float | None) -> _Lesson:
    terms = tuple(loop.terms(number) for number in range(len(loop.streams)))
    noisy = any(stream.noisy for stream in loop.streams)
    kind = _Kind(loop.schedule.head(loop.steps), terms, noisy)
    return _Lesson(kind, loop.samples, [stream.kernel() for stream in loop.streams], guidance)


def _statistics(lessons: Sequence[_Lesson]) -> tuple[LoopStatistics, ...]:
    """Of every kind of loop. The latest come first: of loops that are as near, they are used."""
    found = []
    for kind in reversed(list(dict.fromkeys(lesson.kind for lesson in lessons))):
        alike = [lesson for lesson in lessons if lesson.kind == kind]
        kernels = [_mean(alike, number) for number in range(len(kind.terms))]
        found.append(
            tuple(
                assumed_statistics(kind.schedule, terms, kernel, kind.noisy)
                for terms, kernel in zip(kind.terms, kernels, strict=True)
            )
        )
    return tuple(found)


def _mean(lessons: Sequence[_Lesson], number: int) -> Tensor:
    """A stream's kernel: the mean over all samples."""
    weighted = torch.stack([lesson.samples * lesson.kernels[number] for lesson in lessons])
    return weighted.sum(dim=0) / sum(lesson.samples for lesson in lessons)
