"""The ways to make a cell's pictures: one row each, in families that differ in a setting.

Rows of a family trade fidelity for speed by one setting. Only the families' curves can be compared:
a single row says little about a method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from adaptive_diffusion.apps.bench.learning import SEARCH_RUNS, Learned, Learner
from adaptive_diffusion.apps.schedulers import SCHEDULERS, make_scheduler
from adaptive_diffusion.policies import (
    ErrorControlled,
    FixedSchedule,
    Planned,
    Policy,
    ThirdOrder,
)

if TYPE_CHECKING:
    from adaptive_diffusion.apps.bench.rivals import Rival

__all__ = [
    "FULL",
    "MEASURED",
    "OURS",
    "OUR_DEFAULT",
    "OUR_FAMILIES",
    "PAPER",
    "PLANNED",
    "Row",
    "all_rows",
    "check_patterns",
    "select",
]

OURS = "ours"
"""Error control, one row per tolerance."""
MEASURED = "ours: measured"
"""Plans for numbers of calls, from what was measured of the model on other samples."""
PLANNED = "ours: nfe"
"""The same without a measurement."""
OUR_FAMILIES = (OURS, PLANNED, MEASURED)
PAPER = "paper's rule"

_FEWER = (1.5, 2, 2.5, 3, 4, 5)
_SEARCHED = (2, 3, 4)
_SEARCHED_FAMILIES = {"searched mask: reuse": False, "searched mask: forecast": True}
_EVERY = (2, 3, 4, 5)
_EVERY_FAMILIES = {"every k-th: reuse": False, "every k-th: forecast": True}  # draws a line
_TOLERANCES = (0.0003, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.5)
_THRESHOLDS = {4: (0.003, 0.01, 0.03, 0.1, 0.3), 2: (0.03, 0.1, 0.3), 6: (0.03, 0.1, 0.3)}
_OTHER_SOLVERS = {"DPM-Solver++": ("dpm++", "flow-dpm++"), "UniPC": ("unipc", "flow-unipc")}


@dataclass(frozen=True)
class Row:
    """One way to make the pictures; what is None is as in the full run.

    Attributes:
        name: unlike all others of the cell.
        family: what it is compared as.
        steps: how many are asked of the scheduler.
        scheduler: a name of `SCHEDULERS`.
        policy: makes the policy for a loop of a given length.
        learn: finds the policy, on samples that are not in the table.
        rival: another method of acceleration.
        calls: how many denoiser calls it has, if that is known.
        learning_runs: about as many runs as `learn` takes.
        on_request: whether the pattern "*" leaves it out, since learning takes so long.
    """

    name: str
    family: str
    steps: int | None = None
    scheduler: str | None = None
    policy: Callable[[int], Policy] | None = None
    learn: Callable[[Learner], Learned] | None = None
    rival: Rival | None = None
    calls: int | None = None
    learning_runs: int = 0
    on_request: bool = False


FULL = Row("full run", "full run")


def _ours(tolerance: float) -> Row:
    policy = ErrorControlled(tolerance)
    return Row(f"{OURS} {tolerance:g}", OURS, policy=lambda _: policy)


OUR_DEFAULT = _ours(ErrorControlled().tolerance).name


def all_rows(pipe: Any, steps: int) -> tuple[list[Row], list[str]]:
    """Every row that fits the pipeline with its present scheduler, the full run first.

    Also says which rivals do not fit it, and why.
    """
    from adaptive_diffusion.apps.bench.rivals import RIVALS

    rivals = [(rival, rival.reason_against(pipe)) for rival in RIVALS]
    rows = [
        FULL,
        *_fewer_steps(steps),
        *_other_solvers(pipe, steps),
        *_every_kth(),
        *_papers_rule(),
        *(Row(each.name, each.family, rival=each) for each, reason in rivals if not reason),
        *_searched(steps),
        *map(_ours, _TOLERANCES),
        *_planned(steps),
        *_measured(steps),
    ]
    return rows, _left_out(rivals)


def _left_out(rivals: Iterable[tuple[Rival, str | None]]) -> list[str]:
    """For every reason, the families that it holds against."""
    families: dict[str, list[str]] = {}
    for rival, reason in rivals:
        if reason and rival.family not in families.setdefault(reason, []):
            families[reason].append(rival.family)
    return [f"{', '.join(names)} left out: {reason}" for reason, names in families.items()]


def select(rows: Iterable[Row], patterns: Sequence[str]) -> list[Row]:
    """The full run, and the rows whose family or name is wanted.

    "*" is all of them but those on request.
    """

    def wanted(row: Row, pattern: str) -> bool:
        if pattern == "*":
            return not row.on_request
        return row.family == pattern or fnmatchcase(row.name, pattern)

    return [row for row in rows if row is FULL or any(wanted(row, each) for each in patterns)]


def check_patterns(patterns: Sequence[str], all_steps: Sequence[int]) -> None:
    """Raises `ValueError` on a pattern that no row has, whatever the model."""
    from adaptive_diffusion.apps.bench.rivals import RIVALS

    families = [*OUR_FAMILIES, PAPER, "fewer steps", *_OTHER_SOLVERS, *_EVERY_FAMILIES]
    families += _SEARCHED_FAMILIES
    families += dict.fromkeys(rival.family for rival in RIVALS)
    rows = [FULL, *_every_kth(), *_papers_rule(), *map(_ours, _TOLERANCES)]
    for steps in all_steps:
        rows += [*_fewer_steps(steps), *_searched(steps), *_planned(steps), *_measured(steps)]
        for family, (scheduler, _) in _OTHER_SOLVERS.items():
            rows += [_solver_row(family, scheduler, fewer) for fewer in _counts(steps)]
    names = [row.name for row in rows] + [rival.name for rival in RIVALS]
    for pattern in patterns:
        if pattern not in families and not any(fnmatchcase(name, pattern) for name in names):
            known = ", ".join(families)
            raise ValueError(
                f"no rows {pattern!r}: give families ({known}), or names as table.md has them, "
                "such as 'ours 0.02' or 'UniPC*'"
            )


def _counts(steps: int, at_least: int = 1, ratios: Sequence[float] = _FEWER) -> list[int]:
    counts = {max(at_least, round(steps / ratio)) for ratio in ratios}
    return sorted((count for count in counts if count < steps), reverse=True)


def _fewer_steps(steps: int) -> Iterator[Row]:
    for fewer in _counts(steps):
        yield Row(f"fewer steps {fewer}", "fewer steps", steps=fewer)


def _other_solvers(pipe: Any, steps: int) -> Iterator[Row]:
    """Fewer steps of the solvers that were made for few steps, unless the cell has them already."""
    for family, names in _OTHER_SOLVERS.items():
        for name in names:
            if _is_another(pipe, name):
                for fewer in _counts(steps):
                    yield _solver_row(family, name, fewer)


def _solver_row(family: str, scheduler: str, steps: int) -> Row:
    return Row(f"{family} {steps}", family, steps=steps, scheduler=scheduler)


def _is_another(pipe: Any, name: str) -> bool:
    try:
        scheduler = make_scheduler(pipe, name)
    except ValueError:
        return False
    kind = "algorithm_type"
    same_class = type(pipe.scheduler).__name__ == SCHEDULERS[name][0]
    return not same_class or pipe.scheduler.config.get(kind) != scheduler.config.get(kind)


def _every_kth() -> Iterator[Row]:
    for family, forecasts in _EVERY_FAMILIES.items():
        for every in _EVERY:
            yield Row(f"{family} k={every}", family, policy=_mask(every, forecasts))


def _mask(every: int, forecasts: bool) -> Callable[[int], Policy]:
    def policy(length: int) -> Policy:
        mask = [step % every == 0 or step == length - 1 for step in range(length)]
        return FixedSchedule(mask, extrapolates=forecasts, backfill=False)

    return policy


def _planned(steps: int) -> Iterator[Row]:
    for calls in _counts(steps, at_least=2):
        yield _planned_row(Planned(calls))


def _planned_row(policy: Planned) -> Row:
    name = f"{PLANNED} {policy.nfe}"
    return Row(name, PLANNED, policy=lambda _: policy, calls=policy.nfe)


def _measured(steps: int) -> Iterator[Row]:
    for calls in _counts(steps, at_least=2):
        yield _measured_row(calls)


def _measured_row(calls: int) -> Row:
    return Row(
        f"{MEASURED} {calls}",
        MEASURED,
        learn=lambda learner: learner.measured(calls),
        calls=calls,
        learning_runs=20,  # 12 to try nuggets, and this row's share in the measurement
    )


def _searched(steps: int) -> Iterator[Row]:
    for family, forecasts in _SEARCHED_FAMILIES.items():
        for calls in _counts(steps, at_least=2, ratios=_SEARCHED):
            yield _searched_row(family, calls, forecasts)


def _searched_row(family: str, calls: int, forecasts: bool) -> Row:
    return Row(
        f"{family} {calls}",
        family,
        learn=lambda learner: learner.searched(calls, forecasts),
        calls=calls,
        learning_runs=SEARCH_RUNS,
        on_request=True,
    )


def _papers_rule() -> Iterator[Row]:
    for max_skip, thresholds in _THRESHOLDS.items():
        for threshold in thresholds:
            yield _paper_row(ThirdOrder(threshold, max_skip))


def _paper_row(policy: ThirdOrder) -> Row:
    name = f"{PAPER} {policy.threshold:g} (at most {policy.max_skip})"
    return Row(name, PAPER, policy=lambda _: policy)
