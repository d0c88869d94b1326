"""A plan for an exact number of denoiser calls, from what was measured of the model if it was."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from adaptive_diffusion.numerics.noise_schedule import NoiseSchedule
from adaptive_diffusion.numerics.planning import Plan, even_plan, make_plan
from adaptive_diffusion.numerics.statistics import LoopStatistics, Statistics
from adaptive_diffusion.policies.base import Policy, Trace, require_count

__all__ = ["Planned"]


@dataclass(frozen=True)
class Planned(Policy):
    """Every sample gets exactly `nfe` denoiser calls, at the steps where they help most.

    Where a step has to be computed that was not planned (what the denoiser is asked has changed),
    the rest of the loop is planned anew, with the calls that are left.

    Attributes:
        nfe: how many steps are computed; a loop with no more steps is computed in full.
        loops: what was measured of the model's loops. Without it, forecasts are lines, as
            under error control, and calls are nearly even.
        plans: some that have been found for the measured loops; for others, they are found when
            they are needed, in a second or two.

    Raises:
        PolicyError: if `nfe` is no whole number of at least two: a loop's first and last step are
            always computed.
    """

    nfe: int
    loops: tuple[LoopStatistics, ...] = ()
    plans: tuple[Plan, ...] = ()

    cautious = True

    def __post_init__(self) -> None:
        require_count("nfe", self.nfe, at_least=2)

    def __str__(self) -> str:
        return f"Planned(nfe={self.nfe}, {'measured' if self.loops else 'not measured'})"

    def decide(self, trace: Trace) -> bool:
        if not trace.computed:  # there is nothing to stand in
            return True
        before = sum(trace.mask[: trace.begun])
        return trace.step in self._plan(trace.schedule, self.nfe - before, tuple(trace.computed))

    def remark(self, mask: Sequence[bool]) -> str:
        """Why it was not the number of calls that was asked for."""
        made, steps = sum(mask), len(mask)
        if made == self.nfe:
            return ""
        if made == steps < self.nfe:
            return f"none of {steps} steps skipped: {self.nfe} calls were asked for"
        if made > self.nfe:
            return (
                f"{made} calls instead of {self.nfe} in {steps} steps: "
                "some had to be computed that were not planned"
            )
        return (
            f"{made} calls instead of {self.nfe} in {steps} steps: "
            "the loop ended earlier than its scheduler says"
        )

    def statistics_of(self, schedule: NoiseSchedule, stream: int) -> Statistics | None:
        streams = self._streams(schedule)
        return streams[min(stream, len(streams) - 1)] if streams else None

    @functools.lru_cache(maxsize=64)  # noqa: B019  kept as long as the policy is
    def _streams(self, schedule: NoiseSchedule) -> LoopStatistics:
        if not self.loops:
            return ()
        loop = min(self.loops, key=lambda streams: streams[0].distance(schedule))
        return tuple(stream.on(schedule) for stream in loop)

    @functools.lru_cache(maxsize=256)  # noqa: B019
    def _plan(self, schedule: NoiseSchedule, calls: int, computed: Plan) -> Plan:
        """The plan that goes on from these computed steps: the one so far, as long as it holds."""
        if len(computed) > 1:
            before = self._plan(schedule, calls, computed[:-1])
            if before[: len(computed)] == computed:
                return before
        streams = self._streams(schedule)
        if not streams:
            return even_plan(len(schedule), calls, computed)
        if computed == (0,) and streams in self.loops:
            for plan in self.plans:
                if len(plan) == calls and plan[-1] == len(schedule) - 1:
                    return plan
        return make_plan(streams, calls, computed)
