"""What a profile keeps of a measurement: a model's statistics, and the plans found with them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch

from adaptive_diffusion.errors import ProfileError
from adaptive_diffusion.evidence import Evidence, require_count, require_number
from adaptive_diffusion.numerics.noise_schedule import is_monotonic
from adaptive_diffusion.numerics.planning import Plan
from adaptive_diffusion.numerics.statistics import NUGGET, LoopStatistics, Statistics
from adaptive_diffusion.policies import Planned

__all__ = ["FoundPlan", "Measured"]

_VERSION = 1


@dataclass(frozen=True)
class FoundPlan:
    """A plan for the measured loop.

    Attributes:
        nfe: how many steps it computes.
        steps: which; empty where a call has several loops: their plans are made when they are
            needed.
        nugget: of the statistics, chosen by trial.
        evidence: what it reached on samples held out, or None.
    """

    nfe: int
    steps: Plan
    nugget: float
    evidence: Evidence | None = None


@dataclass(frozen=True)
class Measured:
    """The statistics of a model's loops.

    Attributes:
        loops: of every loop of a call, its streams.
        guidance: the guidance scale that was asked for, or None.
        dtype: of the outputs, such as "float32".
        plans: those that were tried.
    """

    loops: tuple[LoopStatistics, ...]
    guidance: float | None
    dtype: str
    plans: tuple[FoundPlan, ...] = ()

    @property
    def noisy(self) -> bool:
        """Whether the solver added noise."""
        return any(stream.noisy for loop in self.loops for stream in loop)

    def policy(self, nfe: int) -> Planned:
        """The plan of exactly so many calls."""
        known = [plan for plan in self.plans if plan.nfe == nfe and plan.steps]
        return Planned(
            nfe, self.with_nugget(self._nugget(nfe)), tuple(each.steps for each in known)
        )

    def with_nugget(self, nugget: float) -> tuple[LoopStatistics, ...]:
        """The loops' statistics for forecasts that swing less, or more."""
        return tuple(
            tuple(replace(stream, nugget=nugget) for stream in loop) for loop in self.loops
        )

    def _nugget(self, nfe: int) -> float:
        """That of the plan with the nearest number of calls."""
        nearest = min(self.plans, key=lambda plan: abs(plan.nfe - nfe), default=None)
        return NUGGET if nearest is None else nearest.nugget

    def to_json(self) -> dict[str, Any]:
        """All of it in lists and numbers; of kernels, the upper triangle."""
        return {
            "version": _VERSION,
            "guidance": self.guidance,
            "dtype": self.dtype,
            "loops": [[_stream_to_json(stream) for stream in loop] for loop in self.loops],
            "plans": [asdict(plan) for plan in self.plans],
        }

    @classmethod
    def from_json(cls, found: Any) -> Measured:
        """What `to_json` gave.

        Raises:
            ProfileError: if it is something else, or of a later version.
        """
        try:
            if found["version"] != _VERSION:
                raise ProfileError(
                    f"what was measured is in version {found['version']!r}, and this is for "
                    f"{_VERSION}: update adaptive-diffusion, or calibrate again"
                )
            if not found["loops"] or not all(found["loops"]):
                raise ValueError("no loops")
            loops = tuple(tuple(map(_stream_from_json, loop)) for loop in found["loops"])
            if any(len({len(stream) for stream in loop}) > 1 for loop in loops):
                raise ValueError("streams of one loop differ in their steps")
            return cls(
                loops,
                None if found["guidance"] is None else _number("guidance", found["guidance"]),
                str(found["dtype"]),
                tuple(_plan_from_json(each) for each in found["plans"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            if isinstance(error, ProfileError):
                raise
            raise ProfileError(
                f"what was measured can't be read ({type(error).__name__}: {error}): "
                "calibrate again"
            ) from error


def _stream_to_json(stream: Statistics) -> dict[str, Any]:
    rows, columns = torch.triu_indices(len(stream), len(stream))
    numbers = {
        field.name: getattr(stream, field.name)
        for field in fields(stream)
        if field.name != "kernel"
    }
    return numbers | {"kernel": stream.kernel[rows, columns].tolist()}


def _stream_from_json(found: dict[str, Any]) -> Statistics:
    length = len(found["coordinates"])
    if length < 2:
        raise ValueError(f"a loop of {length} steps")
    rows, columns = torch.triu_indices(length, length)
    kernel = torch.zeros(length, length, dtype=torch.float64)
    triangle = torch.tensor(_numbers("kernel", found["kernel"], len(rows)), dtype=torch.float64)
    kernel[rows, columns] = kernel[columns, rows] = triangle
    several = {
        name: _numbers(name, found[name], length)
        for name in ("coordinates", "gains", "moves", "effects", "responses", "deviations")
    }
    if not is_monotonic(several["coordinates"]):
        raise ValueError("coordinates that neither rise nor fall")
    scales = found.get("scales")  # not in profiles before December 2026
    return Statistics(
        kernel=kernel,
        nugget=_number("nugget", found["nugget"]),
        scales=None if scales is None else _numbers("scales", scales, length),
        noisy=bool(found.get("noisy")),  # nor this
        **several,
    )


def _number(name: str, value: Any) -> float:
    require_number(name, value)
    return float(value)


def _numbers(name: str, values: Any, length: int) -> tuple[float, ...]:
    if not isinstance(values, list) or len(values) != length:
        raise ValueError(f"{name} has not {length} numbers")
    return tuple(_number(name, value) for value in values)


def _plan_from_json(found: dict[str, Any]) -> FoundPlan:
    nfe, steps, evidence = found["nfe"], tuple(found["steps"]), found["evidence"]
    require_count("nfe", nfe)
    for step in steps[1:]:
        require_count("a plan's step", step)
    if steps and (len(steps) != nfe or steps[0] != 0 or list(steps) != sorted(set(steps))):
        raise ValueError(f"{steps} is no plan of {nfe} calls")
    return FoundPlan(
        nfe,
        steps,
        _number("nugget", found["nugget"]),
        None if evidence is None else Evidence.from_json(evidence),
    )
