"""Adaptive Diffusion: the same picture in a fraction of the denoiser calls."""

from adaptive_diffusion.adapters.denoiser import AdaptiveDenoiser
from adaptive_diffusion.adapters.linear_loop import run_loop
from adaptive_diffusion.api import accelerate, disable, enable, report
from adaptive_diffusion.calibration import calibrate
from adaptive_diffusion.errors import (
    AdaptiveDiffusionError,
    CalibrationError,
    MiniatureError,
    NoReportError,
    NotLinearError,
    PolicyError,
    ProfileError,
    StepsError,
    UnsupportedPipelineError,
)
from adaptive_diffusion.miniatures import load_miniature
from adaptive_diffusion.numerics.metrics import psnr, ssim
from adaptive_diffusion.numerics.noise_schedule import NoiseSchedule
from adaptive_diffusion.policies import ErrorControlled, FixedSchedule, Policy, ThirdOrder, Trace
from adaptive_diffusion.profile import Profile
from adaptive_diffusion.trajectory import Report

__version__ = "0.1.0"

__all__ = [
    "AdaptiveDenoiser",
    "AdaptiveDiffusionError",
    "CalibrationError",
    "ErrorControlled",
    "FixedSchedule",
    "MiniatureError",
    "NoReportError",
    "NoiseSchedule",
    "NotLinearError",
    "Policy",
    "PolicyError",
    "Profile",
    "ProfileError",
    "Report",
    "StepsError",
    "ThirdOrder",
    "Trace",
    "UnsupportedPipelineError",
    "accelerate",
    "calibrate",
    "disable",
    "enable",
    "load_miniature",
    "psnr",
    "report",
    "run_loop",
    "ssim",
]
