"""The public face: one line to switch on, one to switch off, one to ask what happened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from adaptive_diffusion.adapters.diffusers import pipelines
from adaptive_diffusion.adapters.diffusers.generation import StepCallback
from adaptive_diffusion.errors import PolicyError
from adaptive_diffusion.policies import ErrorControlled, Policy
from adaptive_diffusion.trajectory import Report

__all__ = ["Run", "accelerate", "disable", "enable", "report"]


def enable(
    pipe: Any,
    policy: Policy | None = None,
    *,
    tolerance: float | None = None,
    on_step: StepCallback | None = None,
) -> None:
    """Switches a diffusers pipeline's acceleration on, until `disable`.

    Args:
        pipe: any diffusers pipeline with a denoiser and a scheduler.
        policy: when to call the denoiser; `ErrorControlled()` by default.
        tolerance: short for `policy=ErrorControlled(tolerance=...)`.
        on_step: called after every step with the mask so far (samples × steps, True = computed).

    Enabling again replaces the setting. Nothing is changed if an error is raised.

    Raises:
        PolicyError: on a bad tolerance, or if both a policy and a tolerance are given.
        UnsupportedPipelineError: if the pipeline can't be accelerated; the message says why.
    """
    pipelines.enable(pipe, pipelines.Setting(_policy(policy, tolerance), on_step))


def disable(pipe: Any) -> None:
    """Switches the acceleration off; the pipeline is exactly what it was before `enable`.

    Does nothing if it was not enabled.
    """
    pipelines.disable(pipe)


def report(pipe: Any) -> Report:
    """What the last accelerated call of the pipeline did.

    Raises:
        NoReportError: if the pipeline has made nothing while it was enabled.
    """
    return pipelines.report(pipe)


class Run:
    """What `accelerate` gives: the generations made inside the `with` block."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        pipelines.forget_report(pipe)

    @property
    def report(self) -> Report:
        """The report of the last generation; raises `NoReportError` if there was none."""
        return report(self._pipe)


@contextmanager
def accelerate(
    pipe: Any,
    policy: Policy | None = None,
    *,
    tolerance: float | None = None,
    on_step: StepCallback | None = None,
) -> Iterator[Run]:
    """`enable` for the length of a `with` block; an earlier setting comes back after it."""
    before = pipelines.setting_of(pipe)
    enable(pipe, policy, tolerance=tolerance, on_step=on_step)
    try:
        yield Run(pipe)
    finally:
        if before is None:
            disable(pipe)
        else:
            pipelines.enable(pipe, before)


def _policy(policy: Policy | None, tolerance: float | None) -> Policy:
    if policy is None:
        return ErrorControlled() if tolerance is None else ErrorControlled(tolerance=tolerance)
    if tolerance is not None:
        raise PolicyError("give a policy or a tolerance, not both")
    if not isinstance(policy, Policy):
        raise PolicyError(f"policy must be a Policy such as ErrorControlled(), not {policy!r}")
    return policy
