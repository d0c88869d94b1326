"""What decides which denoiser calls are skipped, chosen before there is a pipeline."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from adaptive_diffusion.apps.inputs import PolicyName
from adaptive_diffusion.apps.profiles import Source, fingerprint
from adaptive_diffusion.arguments import check_together, tolerance_of
from adaptive_diffusion.errors import ProfileError
from adaptive_diffusion.policies import ErrorControlled, Planned, Policy, ThirdOrder
from adaptive_diffusion.profiles import Profile

__all__ = ["Choice", "Skipping", "as_typed", "choose", "policy_settings"]

_TAKES: dict[PolicyName, set[str]] = {
    PolicyName.ERROR_CONTROLLED: {
        *("tolerance", "quality", "profile", "nfe", "target_psnr", "max_skip")
    },
    PolicyName.THIRD_ORDER: {"threshold", "max_skip"},
    PolicyName.NONE: set(),
}
_PLAN_WITH_MAX_SKIP = "--max-skip goes with a tolerance, not with a plan"


@dataclass(frozen=True)
class Skipping:
    """How calls of a pipeline are accelerated.

    Attributes:
        policy: None for the full run. Policies that are equal share the plans that they have made.
        notes: what the user should know of it.
        profile: that the policy is from, or None.
    """

    policy: Policy | None
    notes: tuple[str, ...] = ()
    profile: Profile | None = None

    @property
    def source(self) -> dict[str, str]:
        """Of a measured plan, as `profile`, a fingerprint of what was measured; else nothing."""
        if self.profile is None or not isinstance(self.policy, Planned) or not self.policy.loops:
            return {}
        return {"profile": fingerprint(self.profile)}

    def describe(self) -> dict[str, Any] | None:
        """All that decides what is skipped, as JSON takes it; None for the full run."""
        if self.policy is None:
            return None
        return {"name": type(self.policy).__name__, **policy_settings(self.policy), **self.source}


@dataclass(frozen=True)
class Choice:
    """How runs are to be accelerated.

    Attributes:
        policy: where no profile decides; None for the full run.
        profiles: of which the nearest to a call decides how it is accelerated, or None.
        nfe: exactly so many calls, by a plan that is made with the profile; None for its own goal.
        target_psnr: that the profile's plan is to reach, in place of its goal.
        max_skip: the longest run of skips, where the profile has a tolerance.
        notes: what the user should know of it.
    """

    policy: Policy | None
    profiles: Source | None = field(default=None, hash=False)
    nfe: int | None = None
    target_psnr: float | None = None
    max_skip: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_full_run(self) -> bool:
        """Whether nothing is skipped."""
        return self.policy is None and self.profiles is None

    def settle(self, pipe: Any, steps: int, guidance: float | None) -> Skipping:
        """What this is for the pipeline's calls with these settings.

        Args:
            pipe: the pipeline.
            steps: of its calls.
            guidance: likewise; None for the pipeline's own.

        Raises:
            ProfileError: if none of the profile's plans reaches the target.
        """
        if self.profiles is None:
            return Skipping(self.policy, self.notes)
        profile, notes = self.profiles.pick(pipe, steps, guidance)
        found = Skipping(self.policy_of(profile, pipe), profile=profile)
        if found.source or not isinstance(found.policy, Planned):
            notes = self.profiles.use_of(profile) + notes
        return replace(found, notes=tuple(notes))

    def describe(self) -> dict[str, Any] | None:
        """All that decides what is skipped, without a pipeline."""
        if self.profiles is None:
            return Skipping(self.policy).describe()
        if len(self.profiles.profiles) == 1:
            [profile] = self.profiles.profiles
            return Skipping(self.policy_of(profile), profile=profile).describe()
        asked = {"nfe": self.nfe, "target_psnr": self.target_psnr, "max_skip": self.max_skip}
        given = {name: value for name, value in asked.items() if value is not None}
        return {"profiles": self.profiles.fingerprint, **given}

    def policy_of(self, profile: Profile, pipe: Any = None) -> Policy:
        """What one of the profiles gives, for a pipeline if there is one.

        Raises:
            ValueError: if it has no such policy.
        """
        how = self.nfe, self.target_psnr
        policy = profile.policy(*how) if pipe is None else profile.policy_for(pipe, *how)
        if self.max_skip is None:
            return policy
        if not isinstance(policy, ErrorControlled):
            raise ValueError(_PLAN_WITH_MAX_SKIP)
        return replace(policy, max_skip=self.max_skip)


def choose(
    name: PolicyName = PolicyName.ERROR_CONTROLLED,
    *,
    tolerance: float | None = None,
    quality: str | None = None,
    profiles: Source | None = None,
    nfe: int | None = None,
    target_psnr: float | None = None,
    threshold: float | None = None,
    max_skip: int | None = None,
) -> Choice:
    """What these options ask for, by the rules of `enable`.

    Profiles that the user has not named count only where a plan is asked for: with `nfe` or
    `target_psnr`.

    Raises:
        ValueError: on options that contradict each other, or that the policy doesn't have: they
            would be silently ignored.
        ProfileError: if none of the profiles' plans reaches the target, or it needs profiles that
            can't be read.
    """
    given = {
        "tolerance": tolerance,
        "quality": quality,
        "profile": profiles if profiles is not None and profiles.named else None,
        "nfe": nfe,
        "target_psnr": target_psnr,
        "threshold": threshold,
        "max_skip": max_skip,
    }
    wants_plan = nfe is not None or target_psnr is not None
    typed = [option for option, value in given.items() if value is not None]
    _check(name, typed, is_published=profiles is not None)
    if name is PolicyName.NONE:
        return Choice(None)
    notes: tuple[str, ...] = ()
    more: dict[str, Any] = {} if max_skip is None else {"max_skip": max_skip}
    if name is PolicyName.THIRD_ORDER:
        return Choice(
            ThirdOrder(**(more if threshold is None else more | {"threshold": threshold}))
        )
    if profiles is not None and (profiles.named or wants_plan):
        if not profiles.problem:
            return _of_profiles(Choice(None, profiles, nfe, target_psnr, max_skip))
        if nfe is None:
            raise ProfileError(profiles.problem)
        notes = (f"what is published with {profiles.place} is not used: {profiles.problem}",)
    if nfe is not None:
        if more:
            raise ValueError(_PLAN_WITH_MAX_SKIP)
        return Choice(Planned(nfe), notes=notes)
    if quality is not None:
        tolerance = tolerance_of(quality)
    if tolerance is None:
        return Choice(ErrorControlled(**more))
    return Choice(ErrorControlled(tolerance, **more))


def _of_profiles(choice: Choice) -> Choice:
    """The choice, if one of its profiles at least has such a policy; else raises why not."""
    assert choice.profiles is not None
    reasons = []
    for profile in choice.profiles.profiles:
        try:
            choice.policy_of(profile)
        except ValueError as error:
            reasons.append(error)
        else:
            return choice
    raise reasons[0]


def policy_settings(policy: Policy) -> dict[str, Any]:
    """The settings of a policy that was chosen, as JSON takes them."""
    if isinstance(policy, Planned):
        return {"nfe": policy.nfe}
    settings: dict[str, Any] = asdict(policy)  # type: ignore[call-overload]
    return settings


def _check(name: PolicyName, given: list[str], is_published: bool) -> None:
    """Raises `ValueError` on options that do not go together; a published profile is one."""
    for option in given:
        if option not in _TAKES[name]:
            takes = ", ".join(map(as_typed, sorted(_TAKES[name])))
            raise ValueError(
                f"{as_typed(option)} does not go with --policy {name.value}, "
                f"which takes {takes or 'no settings'}"
            )
    if is_published and "target_psnr" in given and not {"tolerance", "quality"} & {*given}:
        given = [*given, "profile"]
    check_together(given, as_typed)


def as_typed(option: str) -> str:
    """How an option is written on the command line."""
    return f"--{option.replace('_', '-')}"
