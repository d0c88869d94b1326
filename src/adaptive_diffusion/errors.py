"""The errors of this package. Each says what was wrong and what to do about it."""

__all__ = [
    "AdaptiveDiffusionError",
    "CalibrationError",
    "MiniatureError",
    "NoReportError",
    "NotLinearError",
    "PolicyError",
    "ProfileError",
    "StepsError",
    "UnsupportedPipelineError",
]


class AdaptiveDiffusionError(Exception):
    """Base of every error that this package raises on purpose."""


class PolicyError(AdaptiveDiffusionError, ValueError):
    """A policy was given a value it can't work with."""


class StepsError(AdaptiveDiffusionError, ValueError):
    """A sampling loop has no steps, or not those that a policy was made for."""


class UnsupportedPipelineError(AdaptiveDiffusionError, TypeError):
    """The object is not a pipeline whose denoiser calls can be skipped."""


class NoReportError(AdaptiveDiffusionError, LookupError):
    """A report was asked for before an accelerated generation had run."""


class NotLinearError(AdaptiveDiffusionError, ValueError):
    """A sampler is not linear in its model's outputs, or draws noise that can't be drawn again."""


class MiniatureError(AdaptiveDiffusionError, LookupError):
    """No miniature of that name is at hand."""


class CalibrationError(AdaptiveDiffusionError, ValueError):
    """A calibration was asked for something that it can't do, or that no tolerance reaches."""


class ProfileError(AdaptiveDiffusionError, ValueError):
    """A profile can't be read, or holds what no calibration gives."""
