"""What was measured of the models: profiles given at the start, or published with a model."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

from adaptive_diffusion.apps.loading import folder_of
from adaptive_diffusion.errors import ProfileError
from adaptive_diffusion.profiles import Profile
from adaptive_diffusion.published import FILE

__all__ = ["Profiles"]

T = TypeVar("T")

_MOST_REMEMBERED = 64


class Profiles:
    """The models' profiles.

    Args:
        given: by the model's name; others have what was published with them, if anything.
        revision: of the hub's repositories.
    """

    def __init__(self, given: Mapping[str, Profile], revision: str | None) -> None:
        self._known: dict[str, Profile | None] = dict(given)
        self._hub = {} if revision is None else {"revision": revision}
        self._remembered: dict[Hashable, Any] = {}

    def may_have(self, model: str) -> bool:
        """False where there is none; a hub's model may have one until it was asked for."""
        folder = folder_of(model)
        if model in self._known or not folder.exists():
            return self._known.get(model, True) is not None
        return (folder / FILE).is_file()

    def find(self, model: str, pipe: Any, steps: int, guidance: float | None) -> Profile | None:
        """The model's profile; of several that were published, the nearest to such a call.

        Raises:
            ProfileError: if the published file can't be read.
        """
        if model in self._known or not self.may_have(model):
            return self._known.get(model)
        folder = folder_of(model)
        if folder.exists():
            return Profile.from_pretrained(folder, pipe, steps, guidance)
        try:
            return Profile.from_pretrained(model, pipe, steps, guidance, **self._hub)
        except ProfileError:
            self._known[model] = None  # not asked again
            return None

    def remember(self, call: Hashable, make: Callable[[], T]) -> T:
        """What was made for such a call, as plans are: they take a second or two."""
        if call not in self._remembered:
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[call] = make()
        found: T = self._remembered[call]
        return found
