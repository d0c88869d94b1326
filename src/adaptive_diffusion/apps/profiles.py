"""Profiles for the apps: those that the user names, and those published with a model."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from adaptive_diffusion.apps.loading import folder_of
from adaptive_diffusion.errors import ProfileError
from adaptive_diffusion.profiles import Profile
from adaptive_diffusion.published import FILE, find_published, nearest, read_profiles

__all__ = ["Profiles", "Source", "fingerprint"]

_PUBLISHED, _NONE = "model", "none"  # what the user may say in place of a file, folder or hub id
_FINGERPRINT = 12  # hexadecimal digits


@dataclass(frozen=True)
class Source:
    """The profiles that there are for a model.

    Attributes:
        place: what to call where they are from.
        profiles: none if they can't be read.
        named: whether the user named them.
        problem: why they can't be read.
    """

    place: str
    profiles: tuple[Profile, ...]
    named: bool = True
    problem: str = ""

    @cached_property
    def fingerprint(self) -> str:
        """Of all that decides which profile a call gets, and what is made with it."""
        return _digest([each.to_json() for each in self.profiles])

    def pick(self, pipe: Any, steps: int, guidance: float | None) -> tuple[Profile, list[str]]:
        """The profile that is nearest to a call, and in what they differ.

        Args:
            pipe: of the call.
            steps: likewise.
            guidance: likewise; None for the pipeline's own.
        """
        if guidance is None:
            guidance = _own_guidance(pipe)
        profile = nearest(self.profiles, pipe, steps, guidance)
        misfits = profile.differences(pipe, steps, guidance)
        if misfits and len(self.profiles) > 1:
            calls = "; ".join(map(_call_of, self.profiles))
            misfits.append(f"the profiles of {self.place} were made with {calls}")
        return profile, misfits

    def use_of(self, profile: Profile) -> list[str]:
        """That the profile is used, where the user has not named it."""
        if self.named:
            return []
        return [f"the profile published with {self.place} is used: {_call_of(profile)}"]


class Profiles:
    """The profiles of models: named by the user, or published with the model.

    Args:
        named: by the model's name; None for a model that is to have none.
        revision: of the models' repositories at the hub.
    """

    def __init__(
        self, named: Mapping[str, Source | None] | None = None, revision: str | None = None
    ) -> None:
        self._known = dict(named or {})
        self._hub = {} if revision is None else {"revision": revision}

    @classmethod
    def of_options(
        cls, models: Sequence[str], given: Sequence[str], revision: str | None = None
    ) -> Profiles:
        """From what was typed: `SOURCE` for a single model, or `MODEL=SOURCE`.

        A source is a profile's file, a folder, a hub id, `model` for what is published with the
        model, or `none`. The last two may stand for all models.

        Raises:
            ValueError: if it is not said whose a profile is, or a model has two.
            ProfileError: if there are no profiles, or they can't be read.
        """
        sources: dict[str, str] = {}
        for text in given:
            name, sign, source = text.partition("=")
            whose = [name]
            if not sign or name not in models:
                whose, source = list(models), text
                if len(models) > 1 and text not in (_PUBLISHED, _NONE):
                    raise ValueError(f"--profile {text}: say of which model, as {models[0]}={text}")
            for model in whose:
                if model in sources:
                    raise ValueError(f"--profile is given twice for {model}")
                sources[model] = source
        found = cls(revision=revision)
        found._known = {model: found._named(model, source) for model, source in sources.items()}
        return found

    def of(self, model: str) -> Source | None:
        """The model's profiles, None if it has none."""
        if model not in self._known:
            self._known[model] = self._published(model)
        return self._known[model]

    def may_have(self, model: str) -> bool:
        """False where there are none; a hub's model may have some until it was asked for."""
        if model in self._known or folder_of(model).exists():
            return self.of(model) is not None
        return True

    def _published(self, model: str) -> Source | None:
        try:
            file = _file(model, self._hub)
        except ProfileError:
            return None
        try:
            return Source(model, tuple(read_profiles(file)), named=False)
        except ProfileError as error:  # of a later version, say
            return Source(model, (), named=False, problem=str(error))

    def _named(self, model: str, source: str) -> Source | None:
        if source == _NONE:
            return None
        if source == _PUBLISHED:
            return Source(model, tuple(read_profiles(_file(model, self._hub))))
        path = folder_of(source)
        is_file = path.is_file() or not (path.is_dir() or _is_hub_id(source))
        return Source(source, tuple(read_profiles(path if is_file else _file(source, {}))))


def fingerprint(profile: Profile) -> str:
    """Of what was measured; empty if nothing was."""
    if profile.measured is None:
        return ""
    return _digest([profile.scheduler, profile.measured.to_json()])


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:_FINGERPRINT]


def _file(place: str, hub: Mapping[str, str]) -> Path:
    """The file that was published in a folder, or at the hub."""
    folder = folder_of(place)
    if folder.is_file():
        raise ProfileError(f"{place} is a single file, and {FILE} stands in a folder")
    return find_published(folder if folder.is_dir() else place, **hub)


def _is_hub_id(text: str) -> bool:
    return text.count("/") == 1 and not text.startswith((".", "/", "~")) and ".json" not in text


def _call_of(profile: Profile) -> str:
    """What a profile was made with, to read."""
    fewest, most = profile.steps
    steps = f"{most} steps" if fewest == most else f"{fewest} to {most} steps"
    guidance = "" if profile.guidance is None else f", guidance {profile.guidance:g}"
    return f"{profile.scheduler.replace(', ', ' ')}, {steps}{guidance}"


def _own_guidance(pipe: Any) -> float | None:
    parameter = inspect.signature(type(pipe).__call__).parameters.get("guidance_scale")
    default = None if parameter is None else parameter.default
    return float(default) if isinstance(default, int | float) else None
