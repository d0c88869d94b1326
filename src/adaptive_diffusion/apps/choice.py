"""What decides which denoiser calls are skipped, chosen before there is a pipeline."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from adaptive_diffusion.apps.inputs import PolicyName
from adaptive_diffusion.arguments import check_together, tolerance_of
from adaptive_diffusion.policies import ErrorControlled, Planned, Policy, ThirdOrder
from adaptive_diffusion.profiles import Profile

__all__ = ["Choice", "choose", "find_profiles", "policy_settings"]

_FINGERPRINT = 12  # hexadecimal digits

_TAKES: dict[PolicyName, set[str]] = {
    PolicyName.ERROR_CONTROLLED: {
        *("tolerance", "quality", "profile", "nfe", "target_psnr", "max_skip")
    },
    PolicyName.THIRD_ORDER: {"threshold", "max_skip"},
    PolicyName.NONE: set(),
}


@dataclass(frozen=True)
class Choice:
    """How runs are accelerated.

    Attributes:
        policy: None for the full run. A plan has only its number of calls here: `policy_for` makes
            the plan.
        profile: that the policy is from, or that plans are made with; or None.
    """

    policy: Policy | None
    profile: Profile | None = field(default=None, hash=False)

    def policy_for(self, pipe: Any) -> Policy | None:
        """What to enable. Keep it: it remembers the plans that it has made."""
        if self.profile is None or not isinstance(self.policy, Planned):
            return self.policy
        return self.profile.policy_for(pipe, self.policy.nfe)

    def misfits(self, pipe: Any, steps: int | None = None) -> list[str]:
        """In what pipeline and steps differ from those that the profile was made with."""
        return [] if self.profile is None else self.profile.differences(pipe, steps)

    @cached_property
    def source(self) -> dict[str, str]:
        """Of a plan, as `profile`, a fingerprint of what was measured; else nothing."""
        if self.profile is None or self.profile.measured is None:
            return {}
        if not isinstance(self.policy, Planned):
            return {}
        content = json.dumps([self.profile.scheduler, self.profile.measured.to_json()])
        return {"profile": hashlib.sha256(content.encode()).hexdigest()[:_FINGERPRINT]}

    def describe(self) -> dict[str, Any] | None:
        """All that decides what is skipped, as JSON takes it; None for the full run."""
        if self.policy is None:
            return None
        return {"name": type(self.policy).__name__, **policy_settings(self.policy), **self.source}


def choose(
    name: PolicyName = PolicyName.ERROR_CONTROLLED,
    *,
    tolerance: float | None = None,
    quality: str | None = None,
    profile: Profile | None = None,
    nfe: int | None = None,
    target_psnr: float | None = None,
    threshold: float | None = None,
    max_skip: int | None = None,
) -> Choice:
    """What these options ask for, by the rules of `enable`.

    Raises:
        ValueError: on options that contradict each other, or that the policy doesn't have: they
            would be silently ignored.
        ProfileError: if none of the profile's plans reaches the target.
    """
    given = {
        "tolerance": tolerance,
        "quality": quality,
        "profile": profile,
        "nfe": nfe,
        "target_psnr": target_psnr,
        "threshold": threshold,
        "max_skip": max_skip,
    }
    _check(name, [option for option, value in given.items() if value is not None])
    if name is PolicyName.NONE:
        return Choice(None)
    more: dict[str, Any] = {} if max_skip is None else {"max_skip": max_skip}
    if name is PolicyName.THIRD_ORDER:
        return Choice(
            ThirdOrder(**(more if threshold is None else more | {"threshold": threshold}))
        )
    if profile is not None:
        found = profile.policy(nfe, target_psnr)
        if isinstance(found, Planned):
            nfe = found.nfe
        tolerance = profile.tolerance
    if nfe is not None:
        if more:
            raise ValueError("--max-skip goes with a tolerance, not with a plan")
        return Choice(Planned(nfe), profile)
    if quality is not None:
        tolerance = tolerance_of(quality)
    if tolerance is None:
        return Choice(ErrorControlled(**more))
    return Choice(ErrorControlled(tolerance, **more), profile)


def find_profiles(names: Sequence[str], given: Sequence[str]) -> dict[str, Profile]:
    """The profiles of models, from `FILE` for a single model, or `MODEL=FILE`.

    Raises:
        ValueError: if it is not said whose a profile is, or a model has two.
        ProfileError: if a file can't be read.
    """
    files: dict[str, str] = {}
    for text in given:
        name, _, file = text.partition("=")
        if name not in names:
            if len(names) > 1:
                raise ValueError(f"--profile {text}: say of which model, as {names[0]}={text}")
            [name], file = names, text
        if name in files:
            raise ValueError(f"--profile is given twice for {name}")
        files[name] = file
    return {name: Profile.load(file) for name, file in files.items()}


def policy_settings(policy: Policy) -> dict[str, Any]:
    """The settings of a policy that was chosen, as JSON takes them."""
    if isinstance(policy, Planned):
        return {"nfe": policy.nfe}
    settings: dict[str, Any] = asdict(policy)  # type: ignore[call-overload]
    return settings


def _check(name: PolicyName, given: list[str]) -> None:
    for option in given:
        if option not in _TAKES[name]:
            takes = ", ".join(map(_as_typed, sorted(_TAKES[name])))
            raise ValueError(
                f"{_as_typed(option)} does not go with --policy {name.value}, "
                f"which takes {takes or 'no settings'}"
            )
    check_together(given, _as_typed)


def _as_typed(option: str) -> str:
    return f"--{option.replace('_', '-')}"
