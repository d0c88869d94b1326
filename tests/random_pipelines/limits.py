"""What is not kept yet: open faults, each with the fewest odd features that bring it out.

The tests expect each to fail, strictly: who mends one strikes it off. Random recipes that hold one
are not held to the promises, for they would find nothing else.
"""

from __future__ import annotations

from random_pipelines.recipe import Recipe

__all__ = ["FAULTS", "Fault", "fault_of"]

Fault = tuple[dict[str, str], str]

_WRONG_ROWS = "a batch's rows are cut though the condition can not be"

FAULTS: tuple[Fault, ...] = (
    ({"condition": "packed", "batch": "2"}, _WRONG_ROWS),
    ({"condition": "rows", "batch": "2"}, _WRONG_ROWS),
    ({"condition": "numpy", "batch": "2"}, _WRONG_ROWS),
    ({"condition": "numbers", "batch": "2"}, _WRONG_ROWS),
    ({"condition": "mapping", "batch": "2"}, "a mapping that is made from names is not made again"),
    ({"answer": "mapping"}, "a mapping that is made from names is not made again"),
    ({"answer": "rows", "batch": "2"}, "a list of rows is not put together again"),
    (
        {"guidance": "interleaved", "latents": "all alike", "batch": "2"},
        "equal samples are taken for a layout in blocks",
    ),
    ({"change": "one sample", "batch": "2"}, "the history of other samples begins anew, too"),
    ({"change": "buffer"}, "a buffer that is written into is not noticed"),
    ({"change": "processor"}, "a number in a plain object that a module holds is not noticed"),
    ({"change": "module exchanged"}, "a submodule that is exchanged is not noticed"),
    ({"change": "in place", "renewed": "copied in place"}, "written at every step: no change seen"),
    ({"change": "new tensor", "renewed": "copied in place"}, "likewise"),
    ({"callback": "asks after the step"}, "a callback is given the loop's last answer"),
    ({"callback": "asks before the step"}, "a callback is given the loop's last answer"),
    ({"callback": "asks for one sample"}, "a callback is given the loop's last answer"),
    ({"callback": "asks at the sample"}, "a callback is given the loop's last answer"),
    ({"scheduler": "slots"}, "a scheduler without __dict__ is neither served nor refused"),
    ({"loop": "calls itself"}, "the inner call's steps are not in the report"),
    ({"layout": "stepped one by one", "batch": "2"}, "no note says that the batch is whole"),
    (
        {"writes": "into the sample", "noise": "given generators"},
        "the velocity is taken from a sample that has been written into",
    ),
    ({"writes": "into the sample", "grad": "inference"}, "steps are computed for nothing"),
    (
        {"writes": "into the output", "loop": "skips by itself"},
        "what the scheduler writes into its output does not reach the pipeline",
    ),
    ({"memory": "class attribute"}, "the trial of a replay passes by chance"),
    ({"memory": "python generator"}, "the trial of a replay passes by chance"),
)


def fault_of(recipe: Recipe) -> str | None:
    """The open fault that the recipe holds, whatever its batch; None if there is none."""
    for odd, reason in FAULTS:
        if all(getattr(recipe, name) == value for name, value in odd.items() if name != "batch"):
            if "batch" not in odd or recipe.samples > 1:
                return reason
    return None
