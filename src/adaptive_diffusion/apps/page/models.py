"""The models that the page was started with, and pipelines made of them."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from typing import Any

from adaptive_diffusion.apps.loading import load_pipeline, make_scheduler

__all__ = ["Models", "for_inpainting", "for_pictures"]


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
        twin = copy.copy(original)
        twin.scheduler = (
            copy.deepcopy(original.scheduler)
            if scheduler is None
            else make_scheduler(original, scheduler)
        )
        return twin


def for_pictures(pipe: Any) -> Any:
    """The image-to-image pipeline of the same parts; raises `ValueError` if there is none."""
    from diffusers import AutoPipelineForImage2Image

    return _made_of(pipe, AutoPipelineForImage2Image)


def for_inpainting(pipe: Any) -> Any:
    """The inpainting pipeline of the same parts; raises `ValueError` if there is none."""
    from diffusers import AutoPipelineForInpainting

    return _made_of(pipe, AutoPipelineForInpainting)


def _made_of(pipe: Any, kind: Any) -> Any:
    try:
        made = kind.from_pipe(pipe)
    except ValueError as error:
        raise ValueError(
            f"{type(pipe).__name__} has no pipeline that edits pictures: choose another model"
        ) from error
    made.set_progress_bar_config(disable=True)
    return made
