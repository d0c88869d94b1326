"""What is not kept yet: open faults, each with the fewest odd features that bring it out.

The tests expect each to fail, strictly: who mends one strikes it off. Random recipes that hold one
are not held to the promises, for they would find nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from random_pipelines.promises import PLANS, plans_of
from random_pipelines.recipe import Recipe

__all__ = ["FAULTS", "Fault"]


@dataclass(frozen=True)
class Fault:
    """Something that is not kept.

    Attributes:
        odd: the features that bring it out: for each field one value, or several that do alike.
        reason: what goes wrong.
        batches: whether it takes more than one sample.
        plans: with which it shows.
    """

    odd: dict[str, str | tuple[str, ...]]
    reason: str
    batches: bool = False
    plans: tuple[tuple[bool, ...], ...] = PLANS

    @property
    def recipe(self) -> Recipe:
        """The least that shows it."""
        odd = {name: _values(value)[0] for name, value in self.odd.items()}
        return Recipe.of(**odd, batch="2" if self.batches else "1")

    def is_in(self, recipe: Recipe) -> bool:
        """Whether the recipe holds all that brings it out."""
        return (recipe.samples > 1 or not self.batches) and all(
            getattr(recipe, name) in _values(value) for name, value in self.odd.items()
        )


def _values(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


_MAKES_MORE_OF_ANSWERS = (
    {"answer": "rows"},
    {"dtype": "mixed"},
    {"layout": "asked one by one"},
    {"writes": "pipeline into the output"},
)
_COMES = ("begins late", "has a gap", "negative has a gap")
_RENEWED = ("new tensor", "in place", "one sample")
_ALL_SKIPPED = plans_of("ccc.........,ccc.........")
_KNOWN_LATE = "a buffer that is written at every step is known to rest only after three"
_ASKS = ("asks after the step", "asks before the step", "asks for one sample", "asks at the sample")

FAULTS = (
    Fault({"change": "one sample"}, "other samples' history begins anew, too", batches=True),
    Fault(
        {
            "change": "scalar",
            "guidance": (*_COMES, "ends early"),
        },
        "a number that changes soon after its branch has come is not noticed",
        plans=plans_of("c.cccc.cc...,c.ccc.ccc.cc"),
    ),
    Fault(
        {"condition": ("numbers", "rows"), "change": _RENEWED, "guidance": _COMES},
        "numbers and vectors that change soon after their branch has come are not noticed",
        plans=_ALL_SKIPPED,
    ),
    Fault(
        {"change": _RENEWED, "guidance": _COMES, "steps": "7"},
        "what changes in the step after its branch has come is not noticed",
        plans=_ALL_SKIPPED,
    ),
    Fault(
        {
            "renewed": "copied in place",
            "change": _RENEWED,
            "guidance": _COMES,
        },
        _KNOWN_LATE,
        plans=plans_of("ccc.cc..c.cc,c.ccc.ccc.cc"),
    ),
    Fault(
        {"condition": "rows", "renewed": "copied in place", "change": _RENEWED, "steps": "7"},
        _KNOWN_LATE,
        plans=_ALL_SKIPPED,
    ),
    *(
        Fault(
            {"loop": "asks twice", **each},
            "a further call comes when something has been made of a skipped call's answer",
            plans=plans_of("c......c....,c......c...."),
        )
        for each in _MAKES_MORE_OF_ANSWERS
    ),
    *(Fault({"callback": each}, "what a pipeline asks on its own is a step") for each in _ASKS),
    Fault({"layout": "stepped one by one"}, "no note says that the batch is whole", batches=True),
    Fault({"writes": "into the sample", "grad": "inference"}, "steps are computed for nothing"),
    Fault(
        {"writes": "into the output", "loop": "skips by itself"},
        "what the scheduler writes into its output does not reach the pipeline",
    ),
)
