"""What an accelerated generation did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from adaptive_diffusion.policies import Policy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Report"]


@dataclass(frozen=True)
class Report:
    """The plan that a generation followed.

    Attributes:
        policy: the policy that decided.
        mask: for every sample, which steps called the denoiser (samples × steps).
        seconds: wall-clock time of the denoising loop, from its first denoiser call to the end
            of its last step.
        notes: what the user should know: why a batch was decided as a whole, or why nothing
            was skipped.
        roles: by its name in the pipeline, what each module called in the loop was found to be:
            "denoiser", "side network" (a ControlNet) or "bystander", which is always computed.
        repeats: whether the scheduler's steps led to the same sample when they were taken again;
            None if none was.
    """

    policy: Policy
    mask: list[list[bool]]
    seconds: float
    notes: list[str] = field(default_factory=list)
    roles: dict[str, str] = field(default_factory=dict)
    repeats: bool | None = None

    @property
    def steps(self) -> int:
        """Steps of the sampling loop."""
        return len(self.mask[0]) if self.mask else 0

    @property
    def nfe(self) -> list[int]:
        """Denoiser evaluations, one number per sample; a step with two calls counts once."""
        return [sum(row) for row in self.mask]

    @property
    def nfe_reduction(self) -> float:
        """Steps over the mean number of denoiser evaluations: a ratio of calls, not of time."""
        return self.steps * len(self.nfe) / sum(self.nfe) if self.steps else 1.0

    def __str__(self) -> str:
        if not self.steps:
            line = "no denoising loop"
        else:
            evaluations = ", ".join(map(str, self.nfe))
            line = (
                f"{self.steps} steps, {evaluations} denoiser evaluations: "
                f"{self.nfe_reduction:.2f}x fewer, {self.seconds:.2f} s, {self.policy}"
            )
        return "; ".join([line, *self.notes])

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draws the timeline: one row per sample, dark where the denoiser was called.

        Needs matplotlib (the extra `plot`).
        """
        from matplotlib import pyplot

        if axes is None:
            rows = len(self.mask)
            _, axes = pyplot.subplots(figsize=(8, 0.6 + 0.3 * rows), layout="constrained")
        axes.imshow(self.mask, aspect="auto", cmap="Blues", vmin=0, vmax=1.2)
        axes.set(xlabel="step", ylabel="sample", yticks=range(len(self.mask)))
        axes.set_title(f"{self.nfe_reduction:.2f}x fewer denoiser evaluations")
        return axes
