"""What a calibration found, and on what evidence: a tolerance that can be kept and handed on."""

from __future__ import annotations

import datetime
import hashlib
import inspect
import json
import math
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from torch import nn

from adaptive_diffusion.adapters.diffusers.components import check_pipeline, denoisers, schedulers
from adaptive_diffusion.adapters.diffusers.pipelines import far_in_steps
from adaptive_diffusion.errors import ProfileError

__all__ = ["Evidence", "Goal", "Profile", "describe_model", "describe_scheduler"]

_UNITS = {
    "psnr": "a PSNR of {:g} dB",
    "ssim": "an SSIM of {:g}",
    "worst": "a PSNR of {:g} dB for every sample",
    "nfe": "{:g} evaluations",
}
_SOLVER_SETTINGS = ("prediction_type", "algorithm_type")


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
        if self.kind not in _UNITS:
            raise ProfileError(f"goal.kind must be one of {', '.join(_UNITS)}, not {self.kind!r}")
        _require_number("goal.value", self.value, above=0)

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
        speedup: the full run's evaluations over that.
    """

    fitting: int
    held_out: int
    psnr_mean: float
    psnr_worst_tenth: float
    psnr_worst: float
    ssim_mean: float | None
    ssim_worst_tenth: float | None
    nfe: float
    speedup: float

    def __post_init__(self) -> None:
        for name in ("fitting", "held_out"):
            _require_count(f"evidence.{name}", getattr(self, name))
        for name in ("psnr_mean", "psnr_worst_tenth", "psnr_worst"):
            _require_number(f"evidence.{name}", getattr(self, name))
        for name in ("ssim_mean", "ssim_worst_tenth"):
            if getattr(self, name) is not None:
                _require_number(f"evidence.{name}", getattr(self, name))
        for name in ("nfe", "speedup"):
            _require_number(f"evidence.{name}", getattr(self, name), above=0)

    def __str__(self) -> str:
        similarity = "" if self.ssim_mean is None else f", SSIM {self.ssim_mean:.4f}"
        return (
            f"{self.speedup:.2f}x fewer evaluations ({self.nfe:.1f}) at a PSNR of "
            f"{self.psnr_mean:.1f} dB, worst tenth {self.psnr_worst_tenth:.1f}, "
            f"worst {self.psnr_worst:.1f}{similarity}, on {self.held_out} samples held out"
        )


@dataclass(frozen=True)
class Profile:
    """A calibrated tolerance; made by `calibrate`, used by `enable(pipe, profile=...)`.

    Attributes:
        model: pipeline class, denoiser classes and a fingerprint of their settings (weights do not
            count: a fine-tuned model keeps its profile).
        scheduler: scheduler class and what it takes the model's output for.
        steps: the fewest and the most steps asked for while calibrating.
        tolerance: for `ErrorControlled`.
        goal: what was sought.
        evidence: what was reached, on how many samples.
        versions: of the packages that the result depends on.
        date: of the calibration, as YYYY-MM-DD.

    Raises:
        ProfileError: on values that no calibration gives.
    """

    model: str
    scheduler: str
    steps: tuple[int, int]
    tolerance: float
    goal: Goal
    evidence: Evidence
    versions: dict[str, str]
    date: str

    def __post_init__(self) -> None:
        for name in ("model", "scheduler"):
            if not isinstance(getattr(self, name), str):
                raise ProfileError(f"{name} must be a text, not {getattr(self, name)!r}")
        if not isinstance(self.steps, tuple) or len(self.steps) != 2:
            raise ProfileError(f"steps must be the fewest and the most, not {self.steps!r}")
        for steps in self.steps:
            _require_count("steps", steps)
        if self.steps[0] > self.steps[1]:
            raise ProfileError(f"steps must be the fewest, then the most, not {self.steps!r}")
        _require_number("tolerance", self.tolerance, above=0)
        if not isinstance(self.versions, dict) or not all(
            isinstance(text, str) for entry in self.versions.items() for text in entry
        ):
            raise ProfileError(f"versions must be texts by package, not {self.versions!r}")
        try:
            datetime.date.fromisoformat(self.date)
        except (TypeError, ValueError):
            raise ProfileError(f"date must look like 2026-01-31, not {self.date!r}") from None

    def __str__(self) -> str:
        return (
            f"tolerance {self.tolerance:.3g} for {self.goal}: {self.evidence} "
            f"(fitted to {self.evidence.fitting} others)"
        )

    def differences(self, pipe: Any, steps: int | None = None) -> list[str]:
        """In what the pipeline, and a call with so many steps, is another than the calibrated one.

        A line for each difference; none where the profile fits.

        Raises:
            UnsupportedPipelineError: if it is no pipeline that can be accelerated.
        """
        check_pipeline(pipe)
        pairs = {
            "model": (describe_model(pipe), self.model),
            "scheduler": (describe_scheduler(pipe), self.scheduler),
        }
        found = [
            f"the {part} is {here}, and the profile was calibrated with {calibrated}"
            for part, (here, calibrated) in pairs.items()
            if here != calibrated
        ]
        if steps is not None and (line := far_in_steps(steps, self.steps)):
            found.append(line)
        return found

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the profile as JSON: all of it or, on an error, none.

        Raises:
            OSError: if the file can't be written.
        """
        path = Path(path)
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            unfinished.write_text(text, encoding="utf-8")
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Profile:
        """Reads what `save` wrote.

        Raises:
            ProfileError: if there is no such file, or it holds something else; says what.
        """
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
            _require_fields(cls, found, "the profile")
            _require_fields(Goal, found["goal"], "goal")
            _require_fields(Evidence, found["evidence"], "evidence")
            steps = found["steps"]
            found["steps"] = tuple(steps) if isinstance(steps, list) else steps
            found["goal"] = Goal(**found["goal"])
            found["evidence"] = Evidence(**found["evidence"])
            return cls(**found)
        except OSError as error:
            raise ProfileError(
                f"profile {path} can't be read ({error.strerror}): make one with calibrate"
            ) from error
        except ValueError as error:  # not UTF-8, not JSON, or a ProfileError
            reason = str(error) if isinstance(error, ProfileError) else f"not JSON ({error})"
            raise ProfileError(f"profile {path} can't be used: {reason}") from error


def describe_model(pipe: Any) -> str:
    """Pipeline class, denoiser classes and a fingerprint of the denoisers' settings."""
    modules = [getattr(module, "_orig_mod", module) for module in denoisers(pipe)]
    names = " + ".join(type(module).__name__ for module in modules)
    settings = "\n".join(_settings(module) for module in modules)
    fingerprint = hashlib.sha256(settings.encode()).hexdigest()[:8]
    return f"{type(pipe).__name__}, {names}, {fingerprint}"


def describe_scheduler(pipe: Any) -> str:
    """Scheduler class and what it takes the model's output for."""
    return " + ".join(
        ", ".join([type(scheduler).__name__, *_solver_settings(scheduler)])
        for scheduler in schedulers(pipe)
    )


def _settings(module: nn.Module) -> str:
    """The settings that a module was made with, as JSON; its class's defaults are left out.

    So a setting that a later version of diffusers adds does not make it another model.
    """
    parameters = inspect.signature(type(module).__init__).parameters
    defaults = {name: _json(parameter.default) for name, parameter in parameters.items()}
    given = {name: _json(value) for name, value in dict(getattr(module, "config", {})).items()}
    return _json(
        {
            name: value
            for name, value in given.items()
            if not name.startswith("_") and value != defaults.get(name)
        }
    )


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)  # tuples come out as lists, as in files


def _solver_settings(scheduler: Any) -> list[str]:
    config = getattr(scheduler, "config", {})
    return [str(config[name]) for name in _SOLVER_SETTINGS if config.get(name) is not None]


def _require_fields(kind: Any, found: object, what: str) -> None:
    if not isinstance(found, dict):
        raise ProfileError(f"{what} must be a JSON object, not {found!r}")
    known = {field.name for field in fields(kind)}
    for problem, names in (("lacks", known - found.keys()), ("has unknown", found.keys() - known)):
        if names:
            raise ProfileError(f"{what} {problem} {', '.join(sorted(names))}")


def _require_number(name: str, value: object, above: float = -math.inf) -> None:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if not numeric or not above < value < math.inf:  # type: ignore[operator]
        wanted = "a finite number" if above == -math.inf else f"a finite number above {above:g}"
        raise ProfileError(f"{name} must be {wanted}, not {value!r}")


def _require_count(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ProfileError(f"{name} must be a whole number of at least 1, not {value!r}")
