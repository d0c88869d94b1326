"""The models that the page was started with, and pipelines made of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from adaptive_diffusion.apps.loading import load_pipeline, pipeline_class
from adaptive_diffusion.apps.schedulers import make_scheduler, takes
from adaptive_diffusion.apps.sharing import editing_pipeline, own_pipeline

__all__ = ["Models"]


class Models:
    """Pipelines by name, loaded when they are first asked for.

    Args:
        names: miniatures, folders or hub ids.
        load: how a name becomes a pipeline.
    """

    def __init__(self, names: Sequence[str], load: Callable[[str], Any] = load_pipeline) -> None:
        self.names = list(names)
        self._load = load
        self._lock = threading.Lock()
        self._pipes: dict[str, Any] = {}

    def first_with(self, parameter: str) -> str | None:
        """The first model whose pipeline takes such a call argument, as far as that is known."""
        for name in self.names:
            kind = pipeline_class(name)
            if kind is not None and takes(kind.__call__, parameter):
                return name
        return None

    def pipeline(self, name: str, scheduler: str | None = None) -> Any:
        """A pipeline that nobody else calls: with the model's weights, and a scheduler of its own.

        Raises:
            ValueError: if the model can't be loaded, or the scheduler does not fit it.
        """
        if name not in self.names:  # never load what a visitor names
            raise ValueError(f"no model {name!r}: choose from {', '.join(self.names)}")
        with self._lock:
            if name not in self._pipes:
                self._pipes[name] = self._load(name)
            original = self._pipes[name]
        pipe = own_pipeline(original)
        if scheduler is not None:
            pipe.scheduler = make_scheduler(pipe, scheduler)
        return pipe

    def editor(self, name: str, scheduler: str | None, edit: str) -> Any:
        """The same, as the pipeline that edits pictures in one of the ways of `sharing`.

        Raises:
            ValueError: as `pipeline` does, or if this kind of pipeline has none.
        """
        pipe = self.pipeline(name, scheduler)
        editor = editing_pipeline(pipe, edit)
        if editor is None:
            raise ValueError(f"{type(pipe).__name__} can't do {edit}: choose another model")
        return editor
