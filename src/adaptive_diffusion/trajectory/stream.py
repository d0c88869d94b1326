"""One sequence of outputs and samples within a sampling loop."""

from __future__ import annotations

from torch import Tensor

from adaptive_diffusion.numerics.noise_schedule import NoiseSchedule
from adaptive_diffusion.numerics.rows import select_rows
from adaptive_diffusion.policies import Policy
from adaptive_diffusion.trajectory.forecaster import Forecaster
from adaptive_diffusion.trajectory.tape import SolverStep, Tape

__all__ = ["Stream"]


class Stream:
    """Completes outputs, backfills what was skipped, and moves the samples of one solver.

    Attributes:
        errors: relative error of the present step's forecast, one per sample; None if not measured.
        changes: mean absolute change of the sample in the present step; None if not measured.
        turned: whether the solver began to add noise in the present step, or ended to.
    """

    def __init__(
        self, policy: Policy, schedule: NoiseSchedule, samples: int, number: int = 0
    ) -> None:
        self.forecaster = Forecaster(policy, schedule, samples, number)
        self.errors: Tensor | None = None
        self.changes: Tensor | None = None
        self.turned = False
        self._policy = policy
        self._samples = samples
        self._tape = Tape()
        self._result: Tensor | None = None

    @property
    def repeats(self) -> bool | None:
        """Whether the solver's steps can be taken again; None if that was not tried."""
        return self._tape.repeats

    def restart(self) -> None:
        """Forgets all outputs; skipped steps that wait for a better output keep theirs."""
        self.forecaster.restart()
        self._tape.forget()

    def fill(self, step: int, mask: list[bool], output: Tensor, sample: Tensor) -> Tensor:
        """`output` with forecasts for the samples not in `mask`; for a loop with no solver here."""
        filled = self._complete(step, mask, output, sample)
        self.forecaster.remember(step, mask, output, sample)
        return filled

    def advance(
        self, step: int, mask: list[bool], output: Tensor, sample: Tensor, solver: SolverStep
    ) -> Tensor:
        """Takes one step of the solver and returns the next sample.

        Args:
            step: which step of the schedule.
            mask: for each sample, whether `output` was computed for it.
            output: the denoiser's output as the solver is to get it; the last one, where skipped.
            sample: what enters the step.
            solver: how the step is taken.
        """
        self._tape.arrive(sample)
        filled = self._complete(step, mask, output, sample)
        start = self._backfill(step, mask, filled, sample)
        if start is not sample:
            filled = self.forecaster.follow(step, filled, start - sample)
        pending = [
            self._policy.backfill and self.repeats is not False and known and not computed
            for known, computed in zip(self.forecaster.known, mask, strict=True)
        ]
        # what was computed is somebody else's, who may write into it: the next call, the solver
        kept = filled.detach().clone() if any(mask) else filled
        before = start.detach().clone() if self.forecaster.goes_by_samples else start
        result = self._tape.record(step, solver, filled, start, pending, kept)
        self.turned = self.forecaster.hear_of_noise(solver.drew_noise)
        if self.turned:
            self._tape.forget()
        self.forecaster.remember(step, mask, kept, before)
        self.see(result)
        return result

    def see(self, result: Tensor) -> None:
        """Measures how far the sample has come in the present step."""
        if self._policy.observes != "changes":
            return
        if self._result is not None:
            difference = (result.float() - self._result.float()).abs()
            self.changes = difference.reshape(self._samples, -1).mean(dim=1)
        self._result = result

    def _complete(self, step: int, mask: list[bool], output: Tensor, sample: Tensor) -> Tensor:
        self.errors = None
        observes = self._policy.observes == "errors" and any(mask)
        if all(mask) and not observes and not self.forecaster.is_cautious:
            return output
        forecast = self.forecaster.forecast(step, mask, output.detach(), sample.detach())
        if observes:
            self.errors = self.forecaster.relative_error(output.detach(), forecast)
        return select_rows(mask, output, forecast)

    def _backfill(self, step: int, mask: list[bool], output: Tensor, sample: Tensor) -> Tensor:
        if not self._tape.awaits(mask):
            return sample
        value = self.forecaster.value(step, output, sample)

        def better(earlier: int, output_then: Tensor, sample_then: Tensor) -> Tensor:
            return self.forecaster.interpolate(earlier, step, value, output_then, sample_then)

        return self._tape.replay(sample, mask, better)
