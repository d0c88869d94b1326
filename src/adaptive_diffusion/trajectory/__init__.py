"""One generation: its history, forecasts, backfill and report. Knows tensors, not diffusers."""

from adaptive_diffusion.trajectory.report import Report
from adaptive_diffusion.trajectory.trajectory import Trajectory

__all__ = ["Report", "Trajectory"]
