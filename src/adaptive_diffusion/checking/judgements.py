"""What runs show: from trials to findings.

`floor` is the distance in dB between two plain runs: infinite where the plain pipeline repeats.
What can't be told more exactly than that is a limit, not a fault.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, median

from adaptive_diffusion.checking.findings import Finding, Status
from adaptive_diffusion.checking.trials import AcceleratedTrial, Trial

__all__ = [
    "batch_not_tried",
    "of_backfill",
    "of_default",
    "of_identity",
    "of_plain_runs",
    "of_repetition",
    "of_rows",
    "of_run_afterwards",
    "of_skips",
    "of_times",
]

_LOW = 30.0  # dB: a difference that is easily seen
_APART = 10.0  # dB by which a result may be further from a plain run than another plain run is
_DEAR = 0.5  # of a computed step's time: a skipped step that saves little
_WHOLE = "the batch is decided as a whole: "


def of_plain_runs(plain: Trial, floor: float) -> Finding:
    """Whether there is something to compare with, and whether it repeats."""
    status, text = Status.OK, "Two runs with the same seed are identical."
    if not plain.outputs.arrays:
        status = Status.NO
        text = "Its result holds no pictures, arrays or tensors that could be compared."
    elif not plain.outputs.is_finite:
        status = Status.LIMIT
        text = "Its result has values that are not numbers. Try another dtype, such as bfloat16."
    elif floor != math.inf:
        status = Status.LIMIT
        text = (
            f"Two runs with the same seed differ ({_decibels(floor)}): the rest is no surer than "
            "that. Give the call a generator, or call torch.use_deterministic_algorithms(True)."
        )
    return Finding("plain run", status, text)


def of_identity(zero: AcceleratedTrial, plain: Trial, floor: float) -> Iterator[Finding]:
    """Tolerance 0 skips nothing and changes nothing; and a loop must have been seen."""
    status, text = Status.OK, "Identical to the plain run, to the last bit."
    distance = zero.outputs.decibels(plain.outputs)
    if not all(map(all, zero.report.mask)):
        status, text = Status.FAULT, "Steps were skipped, where none may be."
    elif distance != math.inf:
        status = _fault_unless_as_far_as(distance, floor)
        text = f"The result is not the plain run's: {_decibels(distance)}."
    yield Finding("tolerance 0", status, text)
    if not zero.report.steps:
        yield Finding("skipping", Status.NO, _sentence(zero.report.notes))


def of_skips(trial: AcceleratedTrial, planned: int, plain: Trial) -> Finding:
    """Whether a plan was kept, of which `planned` steps are to be skipped."""
    steps = sum(map(len, trial.report.mask))
    skipped = sum(row.count(False) for row in trial.report.mask)
    calls = _calls_in_skipped_steps(trial)
    distance = f"{_decibels(trial.outputs.decibels(plain.outputs))} from the plain run"
    status, text = Status.OK, f"{skipped} of {steps} steps were skipped, as planned: {distance}."
    if plain.outputs.is_finite and not trial.outputs.is_finite:
        status, text = (
            Status.FAULT,
            "With skipped steps the result has values that are not numbers.",
        )
    elif not planned:
        status, text = Status.LIMIT, f"Not tried: of {steps} steps none can be. Ask for more."
    elif skipped > planned:
        status, text = Status.FAULT, f"{skipped} steps were skipped, and {planned} planned."
    elif skipped < planned:
        status = Status.LIMIT
        text = (
            f"Of {planned} steps to be skipped, {planned - skipped} were computed, since what the "
            f"denoiser was asked had changed: {distance}."
        )
    elif calls:
        status = Status.LIMIT
        text += f" In skipped steps a denoiser was called {calls} times, as by a callback."
    return Finding("skipping", status, text)


def of_repetition(again: AcceleratedTrial, trial: AcceleratedTrial, floor: float) -> Finding:
    """Whether the same plan leads to the same result."""
    distance = again.outputs.decibels(trial.outputs)
    if distance == math.inf:
        return Finding("repeats", Status.OK, "The same plan again leads to the same result.")
    text = f"The same plan again leads to another result: {_decibels(distance)}."
    return Finding("repeats", _fault_unless_as_far_as(distance, floor), text)


def of_backfill(trial: AcceleratedTrial) -> Finding:
    """Whether the scheduler's steps can be taken again."""
    repeats = trial.report.repeats
    status = Status.LIMIT if repeats is False else Status.OK
    if repeats is None:
        text = "No skipped step was taken again."
    elif repeats:
        text = "Skipped steps are improved later: the scheduler's steps can be taken again."
    else:
        text = (
            "Skipped steps keep their forecasts: the scheduler's steps did not repeat when they "
            "were taken again. Expect results less close to the plain run's."
        )
    return Finding("backfill", status, text)


def of_times(
    zero: AcceleratedTrial, skipping: Sequence[AcceleratedTrial], figures: dict[str, float]
) -> Iterator[Finding]:
    """What a computed step costs, and what a skipped one; nothing where one was not seen."""
    computed = [step.seconds for step in zero.steps[1:]]
    skipped = [step.seconds for trial in skipping for step in trial.all_skipped]
    if not computed or not skipped:
        return
    figures["seconds_computed_step"] = cost = median(computed)
    figures["seconds_skipped_step"] = rest = median(skipped)
    status = Status.OK
    text = f"A computed step takes {1000 * cost:.3g} ms, a skipped one {1000 * rest:.3g} ms."
    if rest > _DEAR * cost:
        status = Status.LIMIT
        text += " Skipping saves little: most of a step's time is not the denoiser's."
    yield Finding("time", status, text)


def of_default(
    trial: AcceleratedTrial, plain: Trial, floor: float, figures: dict[str, float]
) -> Finding:
    """What the default tolerance saves, and how close it stays."""
    report = trial.report
    distance = trial.outputs.decibels(plain.outputs)
    figures.update(
        nfe=fmean(report.nfe),
        nfe_reduction=report.nfe_reduction,
        psnr_default=distance,
        seconds_plain=plain.seconds,
        seconds_default=trial.seconds,
    )
    status = Status.OK
    text = (
        f"{fmean(report.nfe):.3g} of {report.steps} steps computed: {_decibels(distance)} from the "
        f"plain run, {trial.seconds:.2f} s instead of {plain.seconds:.2f}. "
        "Longer loops skip a larger share."
    )
    if plain.outputs.is_finite and not trial.outputs.is_finite:
        status, text = Status.FAULT, "The result has values that are not numbers."
    elif report.nfe_reduction == 1:
        status = Status.LIMIT
        text = f"None of {report.steps} steps was skipped. Ask for more steps."
    elif distance < min(_LOW, floor - _APART):
        status = Status.LIMIT
        text += ' For closer results say quality="faithful", or calibrate.'
    return Finding("default", status, text)


def batch_not_tried(reason: str) -> Finding:
    """No batch could be made; `reason` ends no sentence."""
    return Finding("batch", Status.LIMIT, f"Not tried: {reason}.")


def of_rows(
    mixed: AcceleratedTrial,
    first: AcceleratedTrial,
    second: AcceleratedTrial,
    floor: float,
    rounding: float,
) -> Finding:
    """Whether the samples of a batch are told apart.

    In `mixed` the first sample follows the plan that all follow in `first`, and its neighbour that
    of `second`. Each must come out as there: nearer to it than to what the other plan leads to, or
    as near as two results that differ by `rounding` alone, in dB.
    """
    mask, samples = mixed.report.mask, len(mixed.outputs)
    if not mask:
        text = f"Nothing is skipped in a batch of two. {_sentence(mixed.report.notes)}"
        return Finding("batch", Status.LIMIT, text)
    if len(mask) == 1:
        reasons = [note.removeprefix(_WHOLE) for note in mixed.report.notes if _WHOLE in note]
        text = f"Decided as a whole, by the sample that needs the most steps: {'; '.join(reasons)}."
        return Finding("batch", Status.LIMIT, text)
    if mask[0] == mask[1]:
        return batch_not_tried("the loop has too few steps for two plans")
    distances, is_right = [], True
    for sample, (own, other) in enumerate(((first, second), (second, first))):
        made, truth, wrong = (
            trial.outputs.of_sample(sample, samples) for trial in (mixed, own, other)
        )
        distances.append(made.decibels(truth))
        is_right &= distances[-1] >= rounding or distances[-1] > wrong.decibels(truth)
    if is_right:
        text = "Each sample follows a plan of its own, and comes out as it would alone."
        return Finding("batch", Status.OK, text)
    worst = min(distances)
    text = (
        "Samples with plans of their own do not come out as they would alone: "
        f"{_decibels(worst)}. The denoiser may look across samples."
    )
    return Finding("batch", _fault_unless_as_far_as(worst, floor), text)


def of_run_afterwards(trial: Trial, plain: Trial) -> Finding:
    """Whether the pipeline, switched off again, is what it was."""
    distance = trial.outputs.decibels(plain.outputs)
    if distance == math.inf:
        text = "Switched off again, the pipeline makes what it made before."
        return Finding("afterwards", Status.OK, text)
    text = f"Switched off again, the pipeline makes something else: {_decibels(distance)}."
    return Finding("afterwards", Status.FAULT, text)


def _fault_unless_as_far_as(distance: float, floor: float) -> Status:
    """Where two plain runs differ, others may, too."""
    return Status.FAULT if floor == math.inf or distance < floor - _APART else Status.LIMIT


def _calls_in_skipped_steps(trial: AcceleratedTrial) -> int:
    names = [name for name, role in trial.report.roles.items() if role != "bystander"]
    return sum(step.calls[name] for step in trial.all_skipped for name in names)


def _decibels(distance: float) -> str:
    if math.isinf(distance):
        return "identical" if distance > 0 else "not comparable"
    return f"{distance:.1f} dB PSNR"


def _sentence(notes: Sequence[str]) -> str:
    text = "; ".join(notes)
    return f"{text[:1].upper()}{text[1:]}."
