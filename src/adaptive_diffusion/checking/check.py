"""`check`: short runs of one pipeline that show what holds for it, here.

A stage is a few runs, and what they show. An error in one becomes a finding; most others go on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from adaptive_diffusion.adapters.diffusers import pipelines
from adaptive_diffusion.adapters.diffusers.components import check_pipeline
from adaptive_diffusion.checking import judgements
from adaptive_diffusion.checking.findings import Check, Finding, Status
from adaptive_diffusion.checking.plans import EveryOther
from adaptive_diffusion.checking.subject import describe, describe_roles
from adaptive_diffusion.checking.trials import AcceleratedTrial, RepeatedCall, Trial
from adaptive_diffusion.errors import UnsupportedPipelineError
from adaptive_diffusion.policies import ErrorControlled, Policy

__all__ = ["check"]

_LONGEST = 240  # characters of an error's message


def check(
    pipe: Any,
    *args: Any,
    steps: int = 20,
    seed: int | None = 0,
    notify: Callable[[str], None] | None = None,
    **call: Any,
) -> Check:
    """Finds out by a few short runs what holds for this pipeline on this machine.

    It shows whether tolerance 0 is bit-identical, whether plans are kept and runs repeat, whether
    the samples of a batch are told apart, what denoises, and what skipping saves. The pipeline is
    left as it was, its setting and its report included. An error of the pipeline becomes a finding.

    Args:
        pipe: a diffusers pipeline.
        args: for its calls, such as a prompt.
        steps: of each run, for a pipeline that takes `num_inference_steps`, unless `call` says how
            many. There are seven runs, and four of a batch of two with eight steps at most.
        seed: of the generator, unless `call` has one.
        notify: told what is being done, in a few words.
        call: for every call of the pipeline: `guidance_scale`, `height`, ...

    Returns:
        What was found: `print` shows it on one screen, and `to_json()` is for a bug report.
    """
    examination = _Examination(pipe, notify or (lambda _: None))
    examination.run(args, call, steps, seed)
    return examination.result()


class _Examination:
    """What has been found so far, stage by stage."""

    def __init__(self, pipe: Any, notify: Callable[[str], None]) -> None:
        self._pipe = pipe
        self._notify = notify
        self._subject = {"pipeline": type(pipe).__name__}
        self._findings: list[Finding] = []
        self._figures: dict[str, float] = {}
        self._notes: list[str] = []
        self._floor = math.inf  # dB between two plain runs

    def result(self) -> Check:
        return Check(self._subject, self._findings, self._figures, self._notes)

    def run(
        self, args: tuple[Any, ...], call: dict[str, Any], steps: int, seed: int | None
    ) -> None:
        try:
            check_pipeline(self._pipe)
            with pipelines.plain(self._pipe):
                self._call = RepeatedCall(self._pipe, args, call, steps, seed)
                self._subject = describe(self._call)
                self._run_stages()
        except UnsupportedPipelineError as error:
            self._findings.append(Finding("pipeline", Status.NO, f"{error}."))
        except Exception as error:
            text = f"Preparing the runs failed: {_told(error)}."
            self._findings.append(Finding("pipeline", Status.FAULT, text))

    def _run_stages(self) -> None:
        if not self._runs_plain():
            return
        self._guarded("tolerance 0", self._try_identity)
        if self._figures.get("steps"):
            self._guarded("skipping", self._try_skipping)
            self._guarded("default", self._try_default)
            self._guarded("batch", self._try_batch)
            self._guarded("afterwards", self._try_afterwards)

    def _runs_plain(self) -> bool:
        try:
            first, self._plain = self._run_plain("plain run"), self._run_plain("plain run again")
        except Exception as error:
            text = f"It raises {_told(error)}. Give a call that works without acceleration."
            self._findings.append(Finding("plain run", Status.NO, text))
            return False
        self._floor = first.outputs.decibels(self._plain.outputs)
        found = judgements.of_plain_runs(self._plain, self._floor)
        self._findings.append(found)
        return found.status is not Status.NO

    # Stages ---------------------------------------------------------------------------------------

    def _try_identity(self) -> Iterable[Finding]:
        self._zero = self._run("tolerance 0", ErrorControlled(tolerance=0))
        self._subject["denoiser"] = describe_roles(self._zero)
        self._figures["steps"] = self._zero.report.steps
        return judgements.of_identity(self._zero, self._plain, self._floor)

    def _try_skipping(self) -> Iterable[Finding]:
        policy = EveryOther(0)
        trial = self._run("every other step", policy)
        again = self._run("every other step again", EveryOther(0))
        yield judgements.of_skips(trial, policy.skips, self._plain)
        if policy.skips:
            yield judgements.of_repetition(again, trial, self._floor)
            yield judgements.of_backfill(trial)
            yield from judgements.of_times(self._zero, [trial, again], self._figures)

    def _try_default(self) -> Iterable[Finding]:
        trial = self._run("default tolerance", ErrorControlled())
        yield judgements.of_default(trial, self._plain, self._floor, self._figures)

    def _try_batch(self) -> Iterable[Finding]:
        reason = "it is not known how to ask for two samples; give a list of two prompts"
        for changes in self._call.batches():
            try:
                samples = len(self._run_plain("batch of two", **changes).outputs)
            except Exception as error:
                reason = f"for two samples, the plain pipeline raises {_told(error)}"
                continue
            if samples == len(self._plain.outputs) * (1 if self._call.has_several else 2) > 1:
                yield self._judged_batch(changes)
                return
            reason = f"asked for two samples, it made {samples}"
        yield judgements.batch_not_tried(reason)

    def _judged_batch(self, changes: dict[str, Any]) -> Finding:
        first, second, mixed = (
            self._run("batch of two, by a plan", EveryOther(*offsets), **changes)
            for offsets in ((0,), (1,), (0, 1))
        )
        return judgements.of_rows(mixed, first, second, self._floor, self._call.rounding)

    def _try_afterwards(self) -> Iterable[Finding]:
        if self._floor == math.inf:
            trial = self._run_plain("plain run afterwards")
            yield judgements.of_run_afterwards(trial, self._plain)

    # Steps of all stages --------------------------------------------------------------------------

    def _run_plain(self, name: str, **changes: Any) -> Trial:
        self._notify(name)
        return self._call.run_plain(**changes)

    def _run(self, name: str, policy: Policy, **changes: Any) -> AcceleratedTrial:
        self._notify(name)
        trial = self._call.run(policy, **changes)
        self._notes += [note for note in trial.report.notes if note not in self._notes]
        return trial

    def _guarded(self, subject: str, stage: Callable[[], Iterable[Finding]]) -> None:
        try:
            for finding in stage():
                self._findings.append(finding)
        except Exception as error:
            text = f"Failed, where the plain run does not: {_told(error)}."
            self._findings.append(Finding(subject, Status.FAULT, text))


def _told(error: Exception) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
