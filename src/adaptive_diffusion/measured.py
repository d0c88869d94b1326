"""What a profile keeps of a measurement: a model's statistics, and the plans found with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch

from adaptive_diffusion.errors import ProfileError
from adaptive_diffusion.evidence import Evidence
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
            return cls(
                tuple(tuple(_stream_from_json(each) for each in loop) for loop in found["loops"]),
                None if found["guidance"] is None else float(found["guidance"]),
                str(found["dtype"]),
                tuple(_plan_from_json(each) for each in found["plans"]),
            )
        except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
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
    rows, columns = torch.triu_indices(length, length)
    kernel = torch.zeros(length, length, dtype=torch.float64)
    kernel[rows, columns] = torch.tensor(found["kernel"], dtype=torch.float64)
    kernel[columns, rows] = kernel[rows, columns]
    numbers: dict[str, Any] = {
        name: _numbers(value, length) if isinstance(value, list) else float(value)
        for name, value in found.items()
        if name != "kernel"
    }
    return Statistics(kernel=kernel, **numbers)


def _numbers(values: Sequence[Any], length: int) -> tuple[float, ...]:
    if len(values) != length:
        raise ValueError(f"{len(values)} numbers for {length} steps")
    return tuple(map(float, values))


def _plan_from_json(found: dict[str, Any]) -> FoundPlan:
    evidence = found["evidence"]
    return FoundPlan(
        int(found["nfe"]),
        tuple(map(int, found["steps"])),
        float(found["nugget"]),
        None if evidence is None else Evidence(**evidence),
    )
