"""What a rival is: a way to make a pipeline's denoiser do less, without training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

__all__ = ["Rival", "Work", "missing_package"]


@dataclass
class Work:
    """What a denoiser did in one generation.

    Attributes:
        per_step: for every step of the loop the share of the denoiser's full work that ran: 1
            where it was computed, 0 where it was skipped, in between where parts of it ran.
    """

    per_step: list[float] = field(default_factory=list)

    @property
    def nfe(self) -> float:
        """The work as a number of full evaluations."""
        return sum(self.per_step)


class Rival(ABC):
    """One method with one setting.

    Attributes:
        name: for tables, with the setting: "DeepCache, every 3".
        family: the method: "DeepCache".
    """

    name: str
    family: str

    @abstractmethod
    def reason_against(self, pipe: Any) -> str | None:
        """Why it can't run on this pipeline; None if it can."""

    @abstractmethod
    def applied(self, pipe: Any, steps: int) -> AbstractContextManager[Work]:
        """On for the with-block, for one call of the pipeline with that many steps.

        Afterwards the pipeline is what it was, also if the call failed. One sample at a time:
        these methods decide for a batch as a whole.
        """


def missing_package(module: str, package: str) -> str | None:
    """What to install if `module` can't be imported."""
    try:
        found = find_spec(module) is not None
    except (ImportError, ValueError):
        found = False
    return None if found else f'{package} is not installed: pip install "{package}"'
