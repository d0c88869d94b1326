"""Who denoises, seen by what each module does in the loop.

A denoiser's input is the sample that the scheduler steps, and its answer is what the scheduler is
given; of one alone the answer is enough. A pipeline with one module of diffusers' denoiser classes
needs no look. Of others each is watched, and computed, for the first iteration that it is called
in.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from adaptive_diffusion.adapters.calls import Call
from adaptive_diffusion.adapters.diffusers.batch import takes
from adaptive_diffusion.adapters.diffusers.components import is_side_network, is_usual_denoiser
from adaptive_diffusion.adapters.diffusers.flow import Flow

__all__ = ["Roles"]


class Roles:
    """The roles of a generation's modules; to be ended with it.

    Args:
        candidates: all modules that may denoise, and the ControlNets beside them.

    Attributes:
        flow: follows the answers of modules whose role is not known yet.
    """

    def __init__(self, candidates: Iterable[Any]) -> None:
        self.flow = Flow()
        self._side_networks = {id(each) for each in candidates if is_side_network(each)}
        others = [each for each in candidates if not self.is_side_network(each)]
        is_alone = len(others) == 1 and is_usual_denoiser(others[0])
        self._denoisers = {id(each) for each in others if is_alone}
        self._bystanders: set[int] = set()

    def is_side_network(self, module: Any) -> bool:
        """Whether it only prepares something for a denoiser."""
        return id(module) in self._side_networks

    def is_bystander(self, module: Any) -> bool:
        """Whether it was seen not to denoise, in this loop."""
        return id(module) in self._bystanders

    def is_known(self, module: Any) -> bool:
        """Whether nothing has to be found out about it."""
        return self.is_side_network(module) or id(module) in self._denoisers

    def role_of(self, module: Any) -> str:
        """What a module that was called has turned out to be."""
        if self.is_side_network(module):
            return "side network"
        return "denoiser" if id(module) in self._denoisers else "bystander"

    def judge(self, calls: list[Call], output: Tensor, sample: Tensor) -> list[Call]:
        """Those of an iteration's calls whose modules denoise; the others are bystanders.

        Args:
            calls: of modules that are not known yet.
            output: what the scheduler is given.
            sample: what it steps.
        """
        reached = self.flow.reaches(output) | self.flow.lost
        nothing_is_known = not reached and not self._denoisers
        self.flow.end()
        for call in calls:
            module = call.module
            usual = is_usual_denoiser(module)
            flows = id(module) in reached or (usual and nothing_is_known)
            is_alone = reached == {id(module)} and not self._denoisers
            if flows and (usual or is_alone or takes(call.args, call.kwargs, sample)):
                self._denoisers.add(id(module))
        found = [call for call in calls if id(call.module) in self._denoisers]
        self._bystanders |= {id(call.module) for call in calls} - self._denoisers
        return found

    def begin_loop(self) -> None:
        """In another loop a bystander may denoise."""
        self._bystanders.clear()
