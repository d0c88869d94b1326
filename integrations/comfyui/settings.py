"""What the user has chosen, and the policy that follows from it for one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from adaptive_diffusion import ErrorControlled, NoiseSchedule, Planned, Policy, Profile, Trace
from adaptive_diffusion.identity import prediction_of
from adaptive_diffusion.numerics.statistics import Statistics
from adaptive_diffusion.published import nearest

__all__ = ["InPart", "Settings", "fits"]

_ENDING = 3  # calls at a run's end that a plan without a profile makes


@dataclass(frozen=True)
class Settings:
    """What the user has chosen.

    Attributes:
        tolerance: of `ErrorControlled`.
        calls: how many calls a run makes; 0 to let the profile or the tolerance decide.
        start: before this share of the run nothing is skipped.
        end: after this share of the run nothing is skipped.
        backfill: whether skipped calls are corrected once the next one is known.
        profiles: what was found for the model; none, if it was not measured.
    """

    tolerance: float
    calls: int = 0
    start: float = 0.0
    end: float = 1.0
    backfill: bool = True
    profiles: Sequence[Profile] = ()

    def profile(self, steps: int, guidance: float | None, noisy: bool) -> Profile | None:
        """The nearest to a run, of those that there are; `noisy` if its sampler adds noise."""
        return nearest(self.profiles, None, steps, guidance, noisy) if self.profiles else None

    def policy(self, inside: Sequence[bool], profile: Profile | None = None) -> Policy:
        """The policy for a run.

        Args:
            inside: for every call, whether it may be skipped.
            profile: what was found for the model.
        """
        calls = len(inside)
        free = [call for call, may_be_skipped in enumerate(inside) if may_be_skipped]
        first, end = (free[0], free[-1] + 1) if free else (calls, calls)
        if self.calls and profile is None:
            end = min(end, calls - min(_ENDING, self.calls // 4))
        behind = max(0, calls - end - 1)  # calls that the plan does not see
        planned = max(2, min(self.calls, calls) - behind) if self.calls else None
        if profile is not None:
            inner = profile.policy(nfe=planned)
        else:
            inner = Planned(planned) if planned else ErrorControlled(self.tolerance)
        return InPart(inner, first, end, self.backfill)


class InPart(Policy):
    """A policy that decides in one part of a run; the calls outside of it are made.

    Args:
        inner: sees the part as a run that begins with the calls that it needs before the part, and
            ends with the first one behind it.
        first: the part's first call.
        end: the first call behind it.
        backfill: whether skipped calls are corrected.
    """

    def __init__(self, inner: Policy, first: int, end: int, backfill: bool) -> None:
        self._inner, self._first, self._end = inner, first, end
        self._begun = max(0, first + 1 - inner.fewest_steps)
        self.backfill = backfill
        self.extrapolates, self.cautious = inner.extrapolates, inner.cautious
        self.observes, self.fewest_steps = inner.observes, inner.fewest_steps

    def __str__(self) -> str:
        return str(self._inner)

    def decide(self, trace: Trace) -> bool:
        if not self._first <= trace.step < self._end:
            return True
        part = trace.schedule.head(self._end + 1)
        return self._inner.decide(
            replace(trace, schedule=part, begun=max(trace.begun, self._begun))
        )

    def statistics_of(self, schedule: NoiseSchedule, stream: int) -> Statistics | None:
        return self._inner.statistics_of(schedule, stream)

    def remark(self, mask: Sequence[bool]) -> str:
        return self._inner.remark(mask[: self._end + 1])


def fits(profile: Profile, predicted: str) -> bool:
    """Whether a profile is of outputs that mean the same; schedulers of flow matching say nothing.

    Args:
        profile: as it was made with diffusers.
        predicted: what is forecast here, a key of `PREDICTIONS`.
    """
    return (prediction_of(profile.scheduler) or "flow_prediction") == predicted
