"""What one sampling loop of a generation has seen: its branches, and the calls of an iteration.

A *branch* is one denoiser call of an iteration: the conditional one, say. It is known by its
module, its place among the module's calls, and the shapes of its tensors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from adaptive_diffusion.adapters.calls import Branch, Call, made_after_all
from adaptive_diffusion.adapters.changes import Attributes
from adaptive_diffusion.adapters.containers import address_of, tensors
from adaptive_diffusion.adapters.diffusers.batch import Layout, shapes
from adaptive_diffusion.adapters.diffusers.memory import Memory
from adaptive_diffusion.trajectory import Trajectory

__all__ = ["Loop"]


@dataclass
class Loop:
    """One sampling loop.

    Attributes:
        branches: those of this iteration and of the last one.
        asked: this iteration's calls, by branch; None once they are not needed any more.
        spared: those of them that were not computed, or not for all rows.
        unknown: calls of modules whose role is not known yet.
        steps: this iteration's, by scheduler.
        streams: the steps of an iteration: a scheduler, and which of its steps.
        memories: what its schedulers remember.
        attributes: of the pipeline and the modules called.
        prepared: where this iteration's answers of ControlNets are stored.
        rearranged: a module was changed between two calls: an earlier one can't be made again.
        follows_skip: the iteration before was not computed for all samples.
        shape: of the sample that the scheduler steps.
        plan: which samples are computed; None until the first step has shown the samples.
        layout: which rows are whose.
        results: the samples that this iteration's steps have led to.
        trajectory: begun by the first step.
    """

    branches: dict[Hashable, Branch] = field(default_factory=dict)
    asked: dict[Hashable, Call | None] = field(default_factory=dict)
    spared: list[tuple[Call, Branch]] = field(default_factory=list)
    unknown: list[Call] = field(default_factory=list)
    calls: Counter[int] = field(default_factory=Counter)
    steps: Counter[int] = field(default_factory=Counter)
    streams: set[Hashable] = field(default_factory=set)
    memories: dict[int, Memory] = field(default_factory=dict)
    attributes: Attributes | None = None
    prepared: set[int] = field(default_factory=set)
    rearranged: bool = False
    follows_skip: bool = False
    shape: torch.Size | None = None
    plan: list[bool] | None = None
    layout: Layout = field(default_factory=lambda: Layout(1))
    results: list[Tensor] = field(default_factory=list)
    trajectory: Trajectory | None = None

    @property
    def is_computed(self) -> bool:
        """Whether the iteration is computed for all samples."""
        return self.plan is None or all(self.plan)

    @property
    def is_complete(self) -> bool:
        """Whether all of its steps have been taken."""
        return self.trajectory is not None and bool(self.steps) and self.trajectory.is_at_its_end

    @property
    def calls_asked(self) -> list[Call]:
        """This iteration's calls, as long as they are needed."""
        return [call for call in self.asked.values() if call is not None]

    def begin_iteration(self) -> None:
        """Opens the next iteration; it is computed if something has changed."""
        assert self.trajectory is not None
        self.trajectory.close()
        self.branches = {key: self.branches[key] for key in self.asked}
        self.asked, self.spared = {}, []
        self.prepared.clear()
        self.follows_skip, self.rearranged = not self.is_computed, False
        self.calls.clear()
        self.steps.clear()
        self.results.clear()
        self.plan = self.trajectory.open()
        if not self.layout.is_sure and any(self.plan):
            self.plan = self.trajectory.compute_all()
        if self.attributes is not None and self.attributes.have_changed():
            self.restart()

    def begun_anew(self) -> Loop:
        """A loop that begins with the iteration that is open."""
        branches = {key: self.branches[key] for key in self.asked}
        return Loop(branches, self.asked, calls=self.calls, memories=self.memories)

    def restart(self) -> None:
        """What the denoiser is asked has changed: this iteration is computed, all of it."""
        if self.trajectory is None:
            return
        spared, self.spared = self.spared, []
        self.plan = [True] * len(self.trajectory.traces)
        if not self.rearranged and made_after_all(spared):
            self.trajectory.restart()
        else:
            self.trajectory.forget()

    def turn(self, output: Any) -> None:
        """A change has shown after all calls, when the pipeline had made `output` of them.

        If that still is what one call was answered with, it is computed after all. Otherwise the
        iteration keeps its last outputs, and the next one is computed.
        """
        assert self.trajectory is not None
        handed = [tensor for call, _ in self.spared for tensor in tensors(call.answer)]
        is_an_answer = len(self.asked) == 1 and address_of(output) in map(address_of, handed)
        if self.is_computed or (is_an_answer and self.spared[0][0].is_as_given):
            self.restart()
        else:
            self.trajectory.forget()

    def has_changed_meanwhile(self) -> bool:
        """Whether a change was seen on the device; waits for it."""
        return any([b.arguments.have_changed_meanwhile() for b in self.branches.values()])

    def ask(self, call: Call) -> Branch:
        """Takes in a call of this iteration; its branch."""
        place = (id(call.module), self.calls[id(call.module)])
        key: Hashable = (*place, shapes(call.args, call.kwargs))
        self.calls[id(call.module)] += 1
        self.asked[key] = call
        if self.spared and self.attributes is not None:
            self.rearranged = self.rearranged or self.attributes.differ()
        is_new = key not in self.branches
        branch = self.branches.setdefault(key, Branch())
        if is_new:
            branch.arguments.have_changed(call.args, call.kwargs, beside=self.prepared)
        if is_new or branch.arguments.have_changed(
            call.args, call.kwargs, self.follows_skip, self.prepared
        ):
            self.restart()
        return branch

    def release(self) -> None:
        """The iteration's calls are not needed any more."""
        self.asked = dict.fromkeys(self.asked)
        self.spared = []
