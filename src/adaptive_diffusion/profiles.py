"""What a calibration found, or a pipeline's first calls taught: it can be kept and handed on."""

from __future__ import annotations

import datetime
import math
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from adaptive_diffusion.adapters.diffusers.components import check_pipeline
from adaptive_diffusion.adapters.diffusers.pipelines import far_in_guidance, far_in_steps
from adaptive_diffusion.errors import PolicyError, ProfileError
from adaptive_diffusion.evidence import (
    Evidence,
    Goal,
    require_count,
    require_fields,
    require_number,
)
from adaptive_diffusion.identity import describe_model, describe_scheduler, prediction_of
from adaptive_diffusion.json_file import read_json, write_json
from adaptive_diffusion.measured import FoundPlan, Measured
from adaptive_diffusion.policies import ErrorControlled, Planned, Policy

__all__ = ["Evidence", "Goal", "Profile"]


@dataclass(frozen=True)
class Profile:
    """A plan or tolerance that was found for a model; used by `enable(pipe, profile=...)`.

    `calibrate` makes one. So does a pipeline that is enabled with `learn=`; `profile(pipe)` gives
    it. It has no evidence then, since nothing was compared.

    Attributes:
        model: pipeline class, denoiser classes and a fingerprint of their settings (weights do not
            count: a fine-tuned model keeps its profile).
        scheduler: scheduler class and what it takes the model's output for.
        steps: the fewest and the most steps of the calls that it was made with.
        goal: what was sought.
        evidence: what was reached, on how many samples; None where it was learned.
        versions: of the packages that the result depends on.
        date: on which it was made, as YYYY-MM-DD.
        tolerance: for `ErrorControlled`, where the pipeline's loops could not be measured; or None.
        nfe: of the plan that reaches the goal, or None.
        measured: the model's statistics, and the plans found with them, or None. Where they were
            learned, the kernel alone was measured, and the rest is assumed.
        learned_from: how many samples taught, or None where it was calibrated.

    Raises:
        ProfileError: on values that no calibration gives.
    """

    model: str
    scheduler: str
    steps: tuple[int, int]
    goal: Goal
    evidence: Evidence | None
    versions: dict[str, str]
    date: str
    tolerance: float | None = None
    nfe: int | None = None
    measured: Measured | None = None
    learned_from: int | None = None

    def __post_init__(self) -> None:
        for name in ("model", "scheduler"):
            if not isinstance(getattr(self, name), str):
                raise ProfileError(f"{name} must be a text, not {getattr(self, name)!r}")
        if not isinstance(self.steps, tuple) or len(self.steps) != 2:
            raise ProfileError(f"steps must be the fewest and the most, not {self.steps!r}")
        for steps in self.steps:
            require_count("steps", steps)
        if self.steps[0] > self.steps[1]:
            raise ProfileError(f"steps must be the fewest, then the most, not {self.steps!r}")
        if (self.tolerance is None) == (self.nfe is None):
            raise ProfileError("a profile has either a tolerance or an nfe")
        if self.tolerance is not None:
            require_number("tolerance", self.tolerance, above=0)
        if self.nfe is not None:
            require_count("nfe", self.nfe, at_least=2)
            if self.measured is None:
                raise ProfileError("a profile with an nfe has what was measured, too")
        if (self.evidence is None) == (self.learned_from is None):
            raise ProfileError("a profile has either evidence or learned_from")
        if self.learned_from is not None:
            require_count("learned_from", self.learned_from)
        if not isinstance(self.versions, dict) or not all(
            isinstance(text, str) for entry in self.versions.items() for text in entry
        ):
            raise ProfileError(f"versions must be texts by package, not {self.versions!r}")
        try:
            datetime.date.fromisoformat(self.date)
        except (TypeError, ValueError):
            raise ProfileError(f"date must look like 2026-01-31, not {self.date!r}") from None

    def __str__(self) -> str:
        found = (
            f"tolerance {self.tolerance:.3g}" if self.nfe is None else f"a plan of {self.nfe} calls"
        )
        if self.evidence is None:
            samples = "1 sample" if self.learned_from == 1 else f"{self.learned_from} samples"
            return f"{found}, learned from {samples} (how close it comes was not measured)"
        return (
            f"{found} for {self.goal}: {self.evidence} (fitted to {self.evidence.fitting} others)"
        )

    @property
    def guidance(self) -> float | None:
        """The guidance scale that the model was measured at; None if it was not, or had none."""
        return None if self.measured is None else self.measured.guidance

    @property
    def noisy(self) -> bool:
        """Whether the model was measured in a loop whose solver adds noise."""
        return self.measured is not None and self.measured.noisy

    def policy(self, nfe: int | None = None, target_psnr: float | None = None) -> Policy:
        """What to enable: by default, what reaches the goal.

        Args:
            nfe: exactly so many denoiser calls in each loop.
            target_psnr: the fewest calls that reach this mean PSNR, in dB, on the profile's
                evidence (and 3 dB less in the worst tenth).

        Raises:
            PolicyError: if both are given, or `nfe` is below two.
            ProfileError: if no plan in the profile reaches the target.
        """
        if nfe is not None and target_psnr is not None:
            raise PolicyError("give nfe or target_psnr, not both")
        if target_psnr is not None:
            nfe = self._reaching(target_psnr).nfe
        if nfe is None and self.nfe is None:
            assert self.tolerance is not None
            return ErrorControlled(tolerance=self.tolerance)
        wanted = nfe if nfe is not None else self.nfe
        assert wanted is not None
        return Planned(wanted) if self.measured is None else self.measured.policy(wanted)

    def policy_for(
        self, pipe: Any, nfe: int | None = None, target_psnr: float | None = None
    ) -> Policy:
        """The same for a pipeline that may differ from the calibrated one.

        Where its scheduler takes the model's output for something else, what was measured is not
        used: the plan is then made as without a profile.
        """
        policy = self.policy(nfe, target_psnr)
        if isinstance(policy, Planned) and not self._means_the_same(pipe):
            return Planned(policy.nfe)
        return policy

    def _means_the_same(self, pipe: Any) -> bool:
        """Whether the pipeline's scheduler takes the model's output for what it was measured as."""
        return prediction_of(describe_scheduler(pipe)) == prediction_of(self.scheduler)

    def _reaching(self, target: float) -> FoundPlan:
        """The plan of the fewest calls whose evidence says that it reaches a mean PSNR."""
        if self.measured is None:
            raise ProfileError(
                "the profile has no plans to choose from, only a tolerance: calibrate again"
            )
        if self.evidence is None:
            raise ProfileError(
                "the profile was learned, and does not say how close its plans come: give nfe, or "
                "make a profile with calibrate"
            )
        require_number("target_psnr", target)
        known = [plan for plan in self.measured.plans if plan.evidence is not None]
        for plan in sorted(known, key=lambda each: each.nfe):
            assert plan.evidence is not None
            if plan.evidence.reaches(target):
                return plan
        best = max((plan.evidence.psnr_mean for plan in known if plan.evidence), default=math.nan)
        raise ProfileError(
            f"no plan in the profile reaches {target:g} dB with the worst tenth in 3 dB; the best "
            f"mean is {best:.1f} dB: ask for less, or calibrate with this target"
        )

    def differences(
        self, pipe: Any, steps: int | None = None, guidance: float | None = None
    ) -> list[str]:
        """In what the pipeline, and a call with these settings, is another than the calibrated one.

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
            f"the {part} is {here}, and the profile was made with {calibrated}"
            for part, (here, calibrated) in pairs.items()
            if here != calibrated
        ]
        if self.nfe is not None and not self._means_the_same(pipe):
            found.append("what was measured is not used: the outputs mean something else")
        return found + self.far_from(steps, guidance)

    def far_from(self, steps: int | None, guidance: float | None) -> list[str]:
        """In what a call is far from those that the profile was made with, a line for each."""
        lines = [
            "" if steps is None else far_in_steps(steps, self.steps),
            far_in_guidance(guidance, self.guidance),
        ]
        return [line for line in lines if line]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the profile as JSON: all of it or, on an error, none.

        Raises:
            OSError: if the file can't be written.
        """
        write_json(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Profile:
        """Reads what `save` wrote.

        Raises:
            ProfileError: if there is no such file, or it holds something else; says what.
        """
        return read_json(Path(path), cls.from_json)

    def publish(self, folder: str | os.PathLike[str]) -> Path:
        """Adds the profile to `adaptive_diffusion.json` in a model's folder, and returns that file.

        It replaces one of the same model, scheduler, steps and guidance.

        Raises:
            ProfileError: if the file that is there holds something else.
            OSError: if it can't be written.
        """
        from adaptive_diffusion.published import publish

        return publish(self, folder)

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        pipe: Any = None,
        steps: int | None = None,
        guidance: float | None = None,
        **hub: Any,
    ) -> Profile:
        """The profile published with a model that is nearest to a call.

        Args:
            source: a model's folder, or the id of its hub repository.
            pipe: the pipeline; profiles of its model and scheduler come first.
            steps: of the call.
            guidance: its guidance scale.
            hub: for `huggingface_hub.hf_hub_download`: `revision`, `token`, …

        Raises:
            ProfileError: if there is no such file, or it holds no profile.
        """
        from adaptive_diffusion.published import load_published

        return load_published(source, pipe, steps, guidance, **hub)

    def to_json(self) -> dict[str, Any]:
        """All of it in lists, texts and numbers."""
        content = {field.name: getattr(self, field.name) for field in fields(self)}
        content["goal"] = asdict(self.goal)
        if self.evidence is not None:
            content["evidence"] = asdict(self.evidence)
        if self.measured is not None:
            content["measured"] = self.measured.to_json()
        return content

    @classmethod
    def from_json(cls, found: Any) -> Profile:
        """What `to_json` gave; profiles made before models were measured, too.

        Raises:
            ProfileError: if it is something else; says what.
        """
        require_fields(cls, found, "the profile")
        require_fields(Goal, found["goal"], "goal")
        steps, evidence = found["steps"], found["evidence"]
        content = found | {
            "steps": tuple(steps) if isinstance(steps, list) else steps,
            "goal": Goal(**found["goal"]),
            "evidence": None if evidence is None else Evidence.from_json(evidence),
        }
        if found.get("measured") is not None:
            content["measured"] = Measured.from_json(found["measured"])
        return cls(**content)
