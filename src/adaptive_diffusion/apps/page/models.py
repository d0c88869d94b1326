"""The models that the page was started with, what is known of them, and pipelines made of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from adaptive_diffusion.apps.loading import (
    LoadOptions,
    load_pipeline,
    pipeline_class,
    scheduler_of,
)
from adaptive_diffusion.apps.profiles import Profiles
from adaptive_diffusion.apps.sampling import has_controlnet
from adaptive_diffusion.apps.schedulers import SCHEDULERS, fitting, make_scheduler, takes
from adaptive_diffusion.apps.sharing import editing_pipeline, own_pipeline

__all__ = ["Models", "Traits"]

_LOOK = 0.5  # seconds from one look at a model that is loaded to the next


@dataclass(frozen=True)
class Traits:
    """What can be known of a model before it is loaded.

    Attributes:
        kind: the class of its pipeline; None if that is not known.
        schedulers: by name, those that fit; all where that is not known.
    """

    kind: type | None
    schedulers: Sequence[str]

    def takes(self, parameter: str) -> bool:
        """Whether its call has such an argument; true where that is not known."""
        return self.kind is None or takes(self.kind.__call__, parameter)


class Models:
    """Pipelines by name, loaded when they are first asked for.

    Args:
        names: miniatures, folders, files or hub ids.
        options: how they are loaded.
        profiles: of the models.
        load: how a name becomes a pipeline.
    """

    def __init__(
        self,
        names: Sequence[str],
        options: LoadOptions | None = None,
        profiles: Profiles | None = None,
        load: Callable[[str, LoadOptions], Any] = load_pipeline,
    ) -> None:
        self.names = list(names)
        self.options = options or LoadOptions()
        self.profiles = profiles or Profiles(revision=self.options.revision)
        self._load = load
        self._lock = threading.Lock()
        self._pipes: dict[tuple[str, bool], Any] = {}
        self._traits: dict[str, Traits] = {}

    def first_with(self, parameter: str) -> str | None:
        """The first model whose pipeline takes such a call argument, as far as that is known."""
        for name in self.names:
            _, kind = self._pipe_and_kind(name)
            if kind is not None and takes(kind.__call__, parameter):
                return name
        return None

    def traits(self, name: str) -> Traits:
        """What is known of the model now: more when it is loaded, where its folder is elsewhere."""
        known = self._traits.get(name)
        if known is None or known.kind is None:
            self._traits[name] = known = self._find_traits(name)
        return known

    def takes_control(self, name: str) -> bool:
        """Whether the model takes a control image, as far as that is known."""
        kind = self.traits(name).kind
        of_its_own = kind is not None and has_controlnet(kind)
        return of_its_own or self.options.controlnet is not None

    def _find_traits(self, name: str) -> Traits:
        pipe, kind = self._pipe_and_kind(name)
        if kind is None:
            return Traits(None, list(SCHEDULERS))
        present = scheduler_of(name) if pipe is None else getattr(pipe, "scheduler", None)
        return Traits(kind, fitting(kind, present))

    def _pipe_and_kind(self, name: str) -> tuple[Any, type | None]:
        """The pipeline, if it is loaded, and its class, if that is known."""
        pipe = next((pipe for (loaded, _), pipe in self._pipes.items() if loaded == name), None)
        return pipe, pipeline_class(name) if pipe is None else type(pipe)

    def loading(self, name: str, bare: bool = False) -> Iterator[float]:
        """Loads a model, unless it is loaded; gives the seconds that it takes, again and again.

        Raises:
            ValueError: if it can't be loaded.
        """
        failed: list[BaseException] = []

        def load() -> None:
            try:
                self.pipeline(name, bare=bare)
            except BaseException as error:  # raised where it is waited for
                failed.append(error)

        began = time.perf_counter()
        thread = threading.Thread(target=load, daemon=True)
        if (name, bare) not in self._pipes:
            thread.start()
        while thread.is_alive():
            yield time.perf_counter() - began
            thread.join(_LOOK)
        if failed:
            raise failed[0]

    def pipeline(self, name: str, scheduler: str | None = None, bare: bool = False) -> Any:
        """A pipeline that nobody else calls: with the model's weights, and a scheduler of its own.

        Args:
            name: one of `names`.
            scheduler: a name of `schedulers.SCHEDULERS`; the model's own by default.
            bare: leaves the LoRAs out. The model is then loaded once more: weights with another
                scale would be everybody's.

        Raises:
            ValueError: if the model can't be loaded, or the scheduler does not fit it.
        """
        if name not in self.names:  # never load what a visitor names
            raise ValueError(f"no model {name!r}: choose from {', '.join(self.names)}")
        with self._lock:
            key = name, bare
            if key not in self._pipes:
                options = replace(self.options, loras=()) if bare else self.options
                self._pipes[key] = self._load(name, options)
            original = self._pipes[key]
        pipe = own_pipeline(original)
        if scheduler is not None:
            pipe.scheduler = make_scheduler(pipe, scheduler)
        return pipe

    def editor(self, name: str, scheduler: str | None, edit: str, bare: bool = False) -> Any:
        """The same, as the pipeline that edits pictures in one of the ways of `sharing`.

        Raises:
            ValueError: as `pipeline` does, or if this kind of pipeline has none.
        """
        pipe = self.pipeline(name, scheduler, bare)
        editor = editing_pipeline(pipe, edit)
        if editor is None:
            raise ValueError(f"{type(pipe).__name__} can't do {edit}: choose another model")
        return editor
