"""What is promised of every pipeline, however odd, held against what truly happens in a random one.

The references know nothing of the package: they are the plain run, and runs whose skips the
pipeline's own author makes (`Told`).
"""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

import adaptive_diffusion as ad
from adaptive_diffusion import ErrorControlled, Policy, Report, Trace
from random_pipelines.denoiser import Denoiser
from random_pipelines.pipeline import Outcome, RandomPipeline, Told, make, run
from random_pipelines.recipe import Recipe

__all__ = ["PLANS", "PROMISES", "BrokenError", "Case", "plans_of"]

_SEEDS = (3, 6, 4, 5)
_ROUNDING = {
    "float32": 1e-3,
    "bfloat16": 0.1,
    "float64": 1e-3,
    "mixed": 0.1,
}  # relative to the result
_NOT_WORSE = 4.0  # times the error of a run that was told everything
_NOT_WORSE_BACKFILLED = 16.0  # a formula corrects itself: what is made good late costs more
_KNOWN_LEVELS = ("ddim", "euler", "flow", "dpm++", "unipc")  # and one evaluation at each
_SAME_SCHEDULERS = ("copied in the call", "step by names", "injected later")
_STEADY = ("none", "one batch", "interleaved", "three blocks", "two calls", "positive first")
_REFUSABLE = (
    ("scheduler", ("proxy", "no config", "timesteps in a list", "slots", "step without names")),
    ("way", ("engine",)),
    ("title", ("unet is the model",)),
)
_FALLS_BACK = "whole"  # in the note of a batch whose samples were not told apart


def plans_of(text: str) -> tuple[tuple[bool, ...], ...]:
    """The plans that are written so: `cc.c,ccc.`, with `c` for a computed step."""
    return tuple(tuple(letter == "c" for letter in plan) for plan in text.split(","))


PLANS = plans_of("cc.c...c.c..,ccc..c..cc.c")
"""By default. `c` is computed; what changes in the middle of a run does so where both skip."""


class BrokenError(AssertionError):
    """A promise was not kept."""


def _require(kept: bool, what: str) -> None:
    if not kept:
        raise BrokenError(what)


class Prescribed(Policy):
    """Plans that are given, sample by sample, and repeated for as long as a loop lasts."""

    def __init__(
        self, plans: tuple[tuple[bool, ...], ...], extrapolates: bool = True, backfill: bool = True
    ) -> None:
        self.extrapolates = extrapolates
        self.backfill = backfill
        self._plans = plans
        self._samples: dict[int, tuple[Trace, tuple[bool, ...]]] = {}

    def decide(self, trace: Trace) -> bool:
        if id(trace) not in self._samples:  # samples are asked for in their order
            plan = self._plans[len(self._samples) % len(self._plans)]
            self._samples[id(trace)] = trace, plan
        plan = self._samples[id(trace)][1]
        return plan[trace.step % len(plan)]


@dataclass(frozen=True)
class _WithoutBackfill(ErrorControlled):
    backfill = False


@dataclass
class _Run:
    """An enabled run: what it led to, and what was said of it."""

    pipe: RandomPipeline
    outcome: Outcome
    report: Report | None

    @property
    def notes(self) -> list[str]:
        return [] if self.report is None else self.report.notes

    @property
    def is_whole(self) -> bool:
        return any(_FALLS_BACK in note for note in self.notes)


@dataclass
class Case:
    """A recipe and a plan for every sample.

    Attributes:
        plans: which steps are computed, of the first sample, the second, and so on by turns.
        drawn: the noise of every timestep, for a recipe whose noise is scripted.
    """

    recipe: Recipe
    plans: tuple[tuple[bool, ...], ...] = PLANS
    drawn: dict[Any, Tensor] = field(default_factory=dict)

    @property
    def seeds(self) -> list[int]:
        return list(_SEEDS[: self.recipe.samples])

    @cached_property
    def plain(self) -> Outcome:
        """The run that was never enabled."""
        pipe = self._make()
        pipe.after_enable()
        outcome = run(pipe, self.seeds)
        may_raise = self.recipe.callback == "raises"
        assert outcome.error is None or may_raise, f"no pipeline to be held to: {outcome.error}"
        self.drawn.update(pipe.log.drawn)
        return outcome

    def enabled(self, policy: Policy, seeds: list[int] | None = None) -> _Run | None:
        """A run under this policy; None if the pipeline was refused with good reason."""
        pipe = self._make()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                ad.enable(pipe, policy)
            except ad.UnsupportedPipelineError as error:
                refusable = any(getattr(self.recipe, name) in of for name, of in _REFUSABLE)
                _require(refusable, f"refused: {error}")
                return None
            pipe.after_enable()
            outcome = run(pipe, seeds or self.seeds)
        try:
            report = ad.report(pipe)
        except ad.NoReportError:
            report = None
        _require(
            outcome.error == self.plain.error,
            f"raises {outcome.error}, and the plain pipeline {self.plain.error}",
        )
        if outcome.error is None:
            _require(report is not None, "there is no report")
            _require(not pipe.log.faults, "; ".join(dict.fromkeys(pipe.log.faults)))
        return _Run(pipe, outcome, report)

    def prescribed(self, extrapolates: bool = True, backfill: bool = True) -> Prescribed:
        """The policy that gives every sample its plan."""
        plans = tuple(self.plans[b % len(self.plans)] for b in range(self.recipe.samples))
        return Prescribed(plans, extrapolates, backfill)

    @cached_property
    def followed(self) -> _Run | None:
        """The run that follows the plans, with lines and backfill."""
        return self.enabled(self.prescribed())

    def told(self, mask: list[list[bool]], lines: bool = False) -> Outcome:
        """The run whose author makes these skips."""
        pipe = self._make()
        pipe.after_enable()
        pipe.told = Told(mask, lines)
        return run(pipe, self.seeds)

    def _make(self) -> RandomPipeline:
        pipe = make(self.recipe)
        pipe.log.drawn.update(self.drawn)
        return pipe


def identical(case: Case) -> None:
    """At tolerance 0 everything is as in the plain run, to the bit."""
    made = case.enabled(ErrorControlled(tolerance=0))
    if made is not None:
        _check_same(made.outcome, case.plain)
        if made.report is not None and made.outcome.error is None:
            _require(all(map(all, made.report.mask)), "something is skipped at tolerance 0")
            _check_accounts(made)


def untouched(case: Case) -> None:
    """Disabled, the pipeline and all of its parts are what they were."""
    pipe = make(case.recipe)
    before = _shape_of(pipe)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ad.enable(pipe, case.prescribed())
            run(pipe, case.seeds)
        except ad.UnsupportedPipelineError:
            pass
        ad.disable(pipe)
    pipe.reset()
    after = _shape_of(pipe)
    for name, value in before.items():
        _require(after[name] == value, f"{name} was {value}, and is {after[name]} afterwards")
    pipe.after_enable()
    _check_same(run(pipe, case.seeds), case.plain)


def truthful(case: Case) -> None:
    """The report says what was computed, and the result is what exactly these skips lead to."""
    made = case.enabled(case.prescribed(extrapolates=False, backfill=False))
    if made is None or made.outcome.error is not None:
        return
    assert made.report is not None
    mask = _check_accounts(made)
    wanted = [
        any(
            not changes and not case.plans[sample % len(case.plans)][at % len(case.plans[0])]
            for at, changes in enumerate(row)
        )
        for sample, row in enumerate(made.pipe.log.changes(case.recipe.samples))
    ]
    if mask is None:
        _require(bool(made.notes), "nothing was skipped, and no note says why")
        return
    if all(wanted) and all(map(all, mask)):
        _require(bool(made.notes), "nothing was skipped, and no note says why")
    _check_news(made, mask)
    _check_near(made.outcome, case.told(mask), case, "what these skips lead to")


def along_lines(case: Case) -> None:
    """Without backfill a skipped output lies on the line through the last two to that question."""
    recipe = case.recipe
    solver = recipe.solver in _KNOWN_LEVELS and not recipe.has_noise
    loop = recipe.loop in ("usual", "stops early", "begins late", "two loops", "two sizes")
    if not (solver and loop and recipe.guidance in _STEADY) or recipe.dtype in (
        "bfloat16",
        "mixed",
    ):
        return
    if recipe.scheduler not in ("of diffusers", *_SAME_SCHEDULERS):
        return
    made = case.enabled(case.prescribed(backfill=False))
    if made is None or made.outcome.error is not None or made.notes:
        return
    mask = _check_accounts(made)
    if mask is not None:
        _check_news(made, mask)
        _check_near(made.outcome, case.told(mask, lines=True), case, "what lines lead to")


def near(case: Case) -> None:
    """Error control is not worse than its plan is where everything is told: by reuse, by lines."""
    for policy in (_WithoutBackfill(0.05), ErrorControlled(0.02)):
        made = case.enabled(policy)
        if made is None or made.outcome.error is not None:
            continue
        assert made.report is not None
        mask = _check_accounts(made)
        if mask is None:
            _require(bool(made.notes), "nothing was skipped, and no note says why")
            continue
        news = made.pipe.log.news(case.recipe.samples)
        told = [
            [computed or new for computed, new in zip(*rows, strict=True)]
            for rows in zip(mask, news, strict=True)
        ]
        error = _error(made.outcome, case.plain)
        factor = _NOT_WORSE_BACKFILLED if policy.backfill else _NOT_WORSE
        least = 0.0
        for lines in (False, True):
            least = max(least, _error(case.told(told, lines), case.plain))
            if error <= factor * least + _ROUNDING[case.recipe.dtype]:
                break
        else:
            raise BrokenError(
                f"{type(policy).__name__}: {error:.1e} off, where one that is told is {least:.1e}"
            )


def as_its_twin(case: Case) -> None:
    """What is odd in form alone changes nothing, unless a note says so."""
    twin = _twin(case.recipe)
    if twin is None or twin == case.recipe or case.plain.error is not None:
        return
    made = case.followed
    if made is None or made.notes:
        return
    other = Case(twin, case.plans, case.drawn)
    usual = other.followed
    if usual is None or usual.notes or made.report is None or usual.report is None:
        return
    _require(
        made.report.mask == usual.report.mask,
        f"the mask is not that of {twin}",
    )
    _check_near(made.outcome, usual.outcome, case, f"the result of {twin}")


def draws_as_usual(case: Case) -> None:
    """Whatever is skipped, all generators stand afterwards where the plain run leaves them."""
    if case.followed is not None and case.plain.error is None:
        _check_same(case.followed.outcome, case.plain, ("states",))


def takes_its_mask(case: Case) -> None:
    """A mask as long as the report's steps is one that the pipeline takes."""
    made = case.enabled(ErrorControlled(tolerance=0))
    if made is None or made.report is None or made.outcome.error is not None:
        return
    if case.recipe.loop in ("usual", "stops early", "begins late") and made.report.steps:
        masked = case.enabled(ad.FixedSchedule([True] * made.report.steps))
        if masked is not None:
            _check_same(masked.outcome, case.plain)


def pickles(case: Case) -> None:
    """Enabled, it is copied as it is plain: by pickle, and by deepcopy."""
    plain = make(case.recipe)
    for copied in (lambda pipe: pickle.loads(pickle.dumps(pipe)), copy.deepcopy):
        try:
            expected = run(copied(plain), case.seeds)
        except Exception:
            continue
        pipe = make(case.recipe)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                ad.enable(pipe, ErrorControlled(tolerance=0))
            except ad.UnsupportedPipelineError:
                return
            other = copied(pipe)
            _check_same(run(other, case.seeds), expected)


def row_by_row(case: Case) -> None:
    """A batch is its samples, or a note says that it is decided as a whole."""
    recipe = case.recipe
    per_sample = not recipe.has_noise or recipe.noise == "given generators"
    if recipe.samples == 1 or not per_sample or recipe.form == "patched":
        return
    if recipe.solver in ("ddim eta", "ancestral", "ddpm") or case.plain.error is not None:
        return
    together = case.followed
    if together is None or together.is_whole or together.report is None:
        return
    if len(together.report.mask) != recipe.samples:
        _require(bool(together.notes), f"{len(together.report.mask)} samples, and no note")
        return
    for b, seed in enumerate(case.seeds):
        plan = (case.plans[b % len(case.plans)],)
        single = Case(recipe.but(batch="1"), plan)
        single.__dict__["plain"] = Outcome()
        made = single.enabled(single.prescribed(), [seed])
        if made is None or made.notes != together.notes:
            continue
        for row, result in zip(together.outcome.results, made.outcome.results, strict=True):
            difference = _difference(row[b : b + 1], result)
            most = _ROUNDING[recipe.dtype]
            _require(difference <= most, f"sample {b} is {difference:.1e} off its own run")


PROMISES: dict[str, Callable[[Case], None]] = {
    each.__name__: each
    for each in (
        identical,
        untouched,
        truthful,
        along_lines,
        near,
        as_its_twin,
        draws_as_usual,
        takes_its_mask,
        pickles,
        row_by_row,
    )
}


def _check_accounts(made: _Run) -> list[list[bool]] | None:
    """The true mask, one row per sample, if the report says it; None if it sees no steps."""
    assert made.report is not None
    log, mask, samples = made.pipe.log, made.report.mask, made.pipe.recipe.samples
    steps = log.asking
    if made.report.steps != len(steps):
        _require(bool(made.notes), f"{made.report.steps} steps in the report, {len(steps)} taken")
        computed = [bool(step.computed) for step in steps]
        if isinstance(made.pipe.denoiser, Denoiser) and samples == 1:
            return [computed]
        return None
    if len(mask) != samples:
        each = len(mask) // samples
        if each > 1:  # a row per frame
            mask = [mask[sample * each] for sample in range(samples)]
        else:
            _require(made.is_whole, f"{len(mask)} rows for {samples} samples, and no note")
            mask = mask * samples
    if isinstance(made.pipe.denoiser, Denoiser):
        for at, step in enumerate(steps):
            rows = sum(row[at] for row in mask) * sum(step.blocks)
            again = all(row[at] for row in mask)  # a call's rows may have been computed before
            _require(
                step.computed == rows or (again and step.computed > rows),
                f"step {at} has computed {step.computed} rows, and the report says {rows}",
            )
    return mask


def _check_news(made: _Run, mask: list[list[bool]]) -> None:
    """Nothing is skipped where the denoiser is asked something new."""
    news = made.pipe.log.news(made.pipe.recipe.samples)
    for row, new in zip(mask, news, strict=True):
        stale = [at for at, asks in enumerate(new) if asks and not row[at]]
        _require(not stale, f"steps {stale} are skipped, though they ask something new")


def _check_same(
    outcome: Outcome, plain: Outcome, parts: tuple[str, ...] = ("results", "seen", "states")
) -> None:
    _require(outcome.error == plain.error, f"raises {outcome.error}, not {plain.error}")
    for what in parts:
        ours, theirs = getattr(outcome, what), getattr(plain, what)
        same = len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))
        _require(same, f"the {what} differ from the plain run's")


def _check_near(outcome: Outcome, other: Outcome, case: Case, what: str) -> None:
    most = _ROUNDING[case.recipe.dtype]
    difference = _error(outcome, other)
    _require(difference <= most, f"{difference:.1e} off {what}")


def _error(outcome: Outcome, other: Outcome) -> float:
    """The largest relative difference of the results."""
    pairs = zip(outcome.results, other.results, strict=True)
    return max((_difference(*pair) for pair in pairs), default=0.0)


def _difference(ours: Tensor, theirs: Tensor) -> float:
    _require(bool(ours.isfinite().all()), "the result is not finite")
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


def _shape_of(pipe: RandomPipeline) -> dict[str, Any]:
    """What enabling and running might change of a pipeline's objects and classes."""
    found: dict[str, Any] = {"the class": type(pipe), "the attributes": sorted(vars(pipe))}
    parts = {name: part for name, part in pipe.components.items() if part is not None}
    for name, part in parts.items():
        found[f"the class of {name}"] = type(part)
        if hasattr(part, "step"):
            for method in ("step", "set_timesteps"):
                found[f"{method} of {name}'s class"] = vars(type(part)).get(method)
        for inner_name, inner in part.named_modules() if isinstance(part, nn.Module) else ():
            path = f"{name}.{inner_name}".rstrip(".")
            found[f"the class of {path}"] = type(inner)
            found[f"the attributes of {path}"] = sorted(vars(inner))
            hooks = inner._forward_hooks, inner._forward_pre_hooks
            found[f"the hooks of {path}"] = [len(each) for each in hooks]
    return found


def _twin(recipe: Recipe) -> Recipe | None:
    """The recipe with the same arithmetic and nothing odd in form; None if there is none."""
    changed: dict[str, str] = {
        "question": "more channels" if recipe.question == "more channels" else "positional",
        "condition": "tensor",
        "renewed": "kept",
        "time": "scalar",
        "way": "call",
        "title": "Random",
        "step_returns": "tuple",
    }
    changed["answer"] = "tensor" if recipe.streams == "one" else "tuple"
    if recipe.writes.startswith("into"):
        if recipe.solver in ("dpm++", "unipc", "heun", "pndm"):
            return None  # they remember what has been written into
        changed["writes"] = "nothing"
    if recipe.memory != "none":
        changed["memory"] = "list"
    if recipe.scheduler in ("proxy", "step on the instance", *_SAME_SCHEDULERS):
        changed["scheduler"] = "of diffusers"
    if recipe.noise not in ("none", "given generators"):
        if recipe.solver not in _KNOWN_LEVELS or recipe.loop != "usual":
            return None  # it draws noise of its own, or more than once at a timestep
        changed["noise"] = "scripted"
    if recipe.grad in ("inference", "grad mode", "weights want gradients"):
        changed["grad"] = "no grad"
    if recipe.callback not in ("rewrites", "writes in place", "rewrites once", "raises"):
        changed["callback"] = "none"
    if recipe.callback == "writes in place":
        changed["callback"] = "rewrites"
    if recipe.form != "patched":
        changed["form"] = "module"
    if recipe.companion in ("step number", "new dict", "new object"):
        changed["companion"] = "none"
    return recipe.but(**changed)
