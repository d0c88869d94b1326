"""The models that are served, and a pipeline for each request."""

from __future__ import annotations

import copy
from typing import Any

from adaptive_diffusion.adapters.diffusers.components import schedulers

__all__ = ["own_pipeline"]


def own_pipeline(pipe: Any) -> Any:
    """A pipeline for one request: it has its own schedulers and settings, and shares the rest."""
    own = copy.copy(pipe)
    shared = {id(scheduler) for scheduler in schedulers(pipe)}
    for name, part in list(vars(own).items()):
        if id(part) in shared:
            setattr(own, name, copy.deepcopy(part))
    return own
