"""Adaptive Diffusion: the same picture in a fraction of the denoiser calls.

The public names are imported when they are first used, so that the command line can show its help
without waiting for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from adaptive_diffusion.version import __version__

if TYPE_CHECKING:
    from adaptive_diffusion.adapters.denoiser import AdaptiveDenoiser
    from adaptive_diffusion.adapters.linear_loop import run_loop
    from adaptive_diffusion.api import accelerate, disable, enable, profile, report
    from adaptive_diffusion.calibration import calibrate
    from adaptive_diffusion.checking.check import check
    from adaptive_diffusion.checking.findings import Check
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
    from adaptive_diffusion.policies import (
        ErrorControlled,
        FixedSchedule,
        Planned,
        Policy,
        ThirdOrder,
        Trace,
    )
    from adaptive_diffusion.profiles import Profile
    from adaptive_diffusion.trajectory import Report

__all__ = [
    "AdaptiveDenoiser",
    "AdaptiveDiffusionError",
    "CalibrationError",
    "Check",
    "ErrorControlled",
    "FixedSchedule",
    "MiniatureError",
    "NoReportError",
    "NoiseSchedule",
    "NotLinearError",
    "Planned",
    "Policy",
    "PolicyError",
    "Profile",
    "ProfileError",
    "Report",
    "StepsError",
    "ThirdOrder",
    "Trace",
    "UnsupportedPipelineError",
    "__version__",
    "accelerate",
    "calibrate",
    "check",
    "disable",
    "enable",
    "load_miniature",
    "profile",
    "psnr",
    "report",
    "run_loop",
    "ssim",
]

_MODULES = (
    "errors",
    "miniatures",
    "numerics.metrics",
    "numerics.noise_schedule",
    "policies",
    "trajectory",
    "adapters.denoiser",
    "adapters.linear_loop",
    "profiles",
    "api",
    "calibration",
    "checking",
)
"""Where the names are, from the bottom to the top."""

if not TYPE_CHECKING:  # type checkers would take any name for one of these

    def __getattr__(name: str) -> Any:
        if name in __all__:
            for module in _MODULES:
                found = import_module(f"{__name__}.{module}")
                if name in found.__all__:
                    globals()[name] = getattr(found, name)
                    return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
