"""What a calibration was asked for, and what it reached."""

from __future__ import annotations

import math
from dataclasses import MISSING, dataclass, fields
from typing import Any

from adaptive_diffusion.errors import ProfileError

__all__ = [
    "WORST_TENTH_BELOW",
    "Evidence",
    "Goal",
    "require_count",
    "require_fields",
    "require_number",
]

WORST_TENTH_BELOW = 3.0
"""How far below a target for the mean PSNR the worst tenth may be, in dB."""

_UNITS = {
    "psnr": "a PSNR of {:g} dB",
    "ssim": "an SSIM of {:g}",
    "worst": "a PSNR of {:g} dB for every sample",
    "nfe": "{:g} evaluations",
}


@dataclass(frozen=True)
class Goal:
    """What a tolerance was sought for.

    Attributes:
        kind: "psnr" (in dB) or "ssim" for a mean fidelity to be reached, "worst" for a PSNR that no
            sample is to fall below, "nfe" for a mean number of denoiser evaluations to be kept.
        value: how much of it.
    """

    kind: str
    value: float

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in _UNITS:
            raise ProfileError(f"goal.kind must be one of {', '.join(_UNITS)}, not {self.kind!r}")
        require_number("goal.value", self.value, above=0)

    def __str__(self) -> str:
        return _UNITS[self.kind].format(self.value)


@dataclass(frozen=True)
class Evidence:
    """What the tolerance reached on samples that it was not fitted to.

    Attributes:
        fitting: how many samples the tolerance was fitted to.
        held_out: how many others were measured; all figures below are theirs.
        psnr_mean: mean PSNR to the full run in dB; a sample that is equal to it counts as 100.
        psnr_worst_tenth: mean of the worst tenth of the samples (of the worst, below twenty).
        psnr_worst: the worst sample's.
        ssim_mean: mean SSIM; None for pictures too small to have one.
        ssim_worst_tenth: mean of the worst tenth, or None.
        nfe: mean number of denoiser evaluations.
        nfe_reduction: the full run's evaluations over that.
    """

    fitting: int
    held_out: int
    psnr_mean: float
    psnr_worst_tenth: float
    psnr_worst: float
    ssim_mean: float | None
    ssim_worst_tenth: float | None
    nfe: float
    nfe_reduction: float

    def __post_init__(self) -> None:
        for name in ("fitting", "held_out"):
            require_count(f"evidence.{name}", getattr(self, name))
        for name in ("psnr_mean", "psnr_worst_tenth", "psnr_worst"):
            require_number(f"evidence.{name}", getattr(self, name))
        for name in ("ssim_mean", "ssim_worst_tenth"):
            if getattr(self, name) is not None:
                require_number(f"evidence.{name}", getattr(self, name))
        for name in ("nfe", "nfe_reduction"):
            require_number(f"evidence.{name}", getattr(self, name), above=0)

    @classmethod
    def from_json(cls, found: Any) -> Evidence:
        """Evidence from a file; in old ones `nfe_reduction` is called `speedup`.

        Raises:
            ProfileError: if it is something else; says what.
        """
        if isinstance(found, dict):
            found = {"nfe_reduction" if name == "speedup" else name: found[name] for name in found}
        require_fields(cls, found, "evidence")
        return cls(**found)

    def reaches(self, target: float) -> bool:
        """Whether the mean is at least `target` dB, and that of the worst tenth 3 dB less."""
        return self.psnr_mean >= target and self.psnr_worst_tenth >= target - WORST_TENTH_BELOW

    def __str__(self) -> str:
        similarity = "" if self.ssim_mean is None else f", SSIM {self.ssim_mean:.4f}"
        return (
            f"{self.nfe_reduction:.2f}x fewer evaluations ({self.nfe:.1f}) at a PSNR of "
            f"{self.psnr_mean:.1f} dB, worst tenth {self.psnr_worst_tenth:.1f}, "
            f"worst {self.psnr_worst:.1f}{similarity}, on {self.held_out} samples held out"
        )


def require_number(name: str, value: object, above: float = -math.inf) -> None:
    """Raises `ProfileError` unless `value` is a finite number, and more than `above`."""
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if not numeric or not above < value < math.inf:  # type: ignore[operator]
        wanted = "a finite number" if above == -math.inf else f"a finite number above {above:g}"
        raise ProfileError(f"{name} must be {wanted}, not {value!r}")


def require_count(name: str, value: object, at_least: int = 1) -> None:
    """Raises `ProfileError` unless `value` is a whole number, and no less than that."""
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise ProfileError(f"{name} must be a whole number of at least {at_least}, not {value!r}")


def require_fields(kind: Any, found: object, what: str) -> None:
    """Raises `ProfileError` unless `found` is a JSON object with the fields of a dataclass."""
    if not isinstance(found, dict):
        raise ProfileError(f"{what} must be a JSON object, not {found!r}")
    known = {field.name for field in fields(kind)}
    needed = {field.name for field in fields(kind) if field.default is MISSING}
    for problem, names in (("lacks", needed - found.keys()), ("has unknown", found.keys() - known)):
        if names:
            raise ProfileError(f"{what} {problem} {', '.join(sorted(names))}")
