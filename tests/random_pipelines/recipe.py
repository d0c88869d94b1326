"""What is odd about a random pipeline: a few named features, each independent of the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
from hypothesis import strategies as st

__all__ = ["FEATURES", "Recipe", "recipes", "single_oddities"]

_CONTAINERS = (
    "tuple",
    "list",
    "model output",
    "dataclass",
    "frozen dataclass",
    "slots dataclass",
    "plain object",
    "slots object",
    "namespace",
    "dict",
    "ordered dict",
    "mapping",
    "namedtuple",
    "user dict",
    "picky dataclass",
    "nested",
)

FEATURES: dict[str, tuple[str, ...]] = {
    # what the denoiser is asked, and what it answers with
    "answer": ("tensor", *_CONTAINERS, "rows", "with a table", "one buffer", "tensor subclass"),
    "question": (
        "positional",
        "named",
        "hidden states",
        "rows",
        "in a dict",
        "in a dataclass",
        "time first",
        "condition first",
        "more channels",
    ),
    "condition": ("tensor", *_CONTAINERS, "rows", "numpy", "numbers", "packed"),
    "condition_rows": ("per sample", "per block"),
    "renewed": ("kept", "made anew", "copied in place"),
    "time": ("scalar", "per row", "number"),
    "companion": ("none", "level", "residual", "step number", "new dict", "new object"),
    # which calls make a step
    "guidance": (
        "none",
        "one batch",
        "interleaved",
        "three blocks",
        "two calls",
        "positive first",
        "by number",
        "begins late",
        "ends early",
        "has a gap",
        "negative has a gap",
    ),
    "change": (
        "none",
        "new tensor",
        "in place",
        "one sample",
        "scalar",
        "attribute",
        "deep attribute",
        "weights",
        "buffer",
        "dict entry",
        "processor",
        "module exchanged",
        "appears",
        "vanishes",
    ),
    "callback": (
        "none",
        "asks after the step",
        "asks before the step",
        "asks for one sample",
        "asks at the sample",
        "rewrites",
        "writes in place",
        "rewrites once",
        "previews",
        "asks a copy",
        "raises",
    ),
    # the scheduler
    "solver": (
        "ddim",
        "euler",
        "flow",
        "dpm++",
        "unipc",
        "heun",
        "pndm",
        "ddim eta",
        "ancestral",
        "ddpm",
    ),
    "memory": (
        "none",
        "list",
        "deque",
        "dict",
        "nested object",
        "tensor in place",
        "thread local",
        "closure",
        "class attribute",
        "slots object",
        "numpy array",
        "python generator",
    ),
    "noise": (
        "none",
        "given generator",
        "given generators",
        "own generator",
        "own numpy",
        "global numpy",
        "default generator",
        "global random",
        "own random",
        "nested generator",
    ),
    "window": ("always", "early", "middle", "late"),
    "scheduler": (
        "of diffusers",
        "proxy",
        "no config",
        "timesteps in a list",
        "slots",
        "step on the instance",
        "step without names",
        "copied in the call",
        "step by names",
        "injected later",
    ),
    "step_returns": ("tuple", "output class", "dataclass", "namedtuple", "dict", "tensor"),
    "writes": ("nothing", "into the sample", "into the output", "pipeline into the output"),
    # the loop
    "loop": (
        "usual",
        "stops early",
        "begins late",
        "two loops",
        "two sizes",
        "calls itself",
        "jumps back",
        "skips by itself",
        "asks twice",
    ),
    "streams": ("one", "two"),
    "batch": ("1", "2", "3", "4"),
    "layout": (
        "pictures",
        "video",
        "frames stepped as rows",
        "tokens",
        "stepped one by one",
        "asked one by one",
    ),
    "latents": ("each its own", "all alike"),
    # how the denoiser is reached, and what it is
    "way": (
        "call",
        "forward",
        "thread pool",
        "whole call in a thread",
        "other context",
        "generator function",
        "method",
        "engine",
        "engine later",
        "partial",
        "wrapped",
        "data parallel",
        "own call",
        "copy",
    ),
    "form": ("module", "traced", "scripted", "patched", "notes its calls"),
    "grad": ("no grad", "inference", "grad mode", "weights want gradients", "guided by gradients"),
    "dtype": ("float32", "bfloat16", "float64", "mixed"),
    "title": ("Random", "Message", "MESSAGE", "CombinedRandom", "unet is the model"),
    "steps": ("12", "7", "20"),
}
"""For each field of a recipe the values it may have; the first one is the usual."""


@dataclass(frozen=True, repr=False)
class Recipe:
    """How a random pipeline is made. Every field is a key of `FEATURES`."""

    answer: str = "tensor"
    question: str = "positional"
    condition: str = "tensor"
    condition_rows: str = "per sample"
    renewed: str = "kept"
    time: str = "scalar"
    companion: str = "none"
    guidance: str = "none"
    change: str = "none"
    callback: str = "none"
    solver: str = "ddim"
    memory: str = "none"
    noise: str = "none"
    window: str = "always"
    scheduler: str = "of diffusers"
    step_returns: str = "tuple"
    writes: str = "nothing"
    loop: str = "usual"
    streams: str = "one"
    batch: str = "1"
    layout: str = "pictures"
    latents: str = "each its own"
    way: str = "call"
    form: str = "module"
    grad: str = "no grad"
    dtype: str = "float32"
    title: str = "Random"
    steps: str = "12"

    @classmethod
    def of(cls, **odd: str) -> Recipe:
        """The recipe with these features, less those that can't be had beside them."""
        return _reconciled(cls(**odd))

    @property
    def odd(self) -> dict[str, str]:
        """The fields that are not as usual."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value != FEATURES[name][0]}

    def but(self, **changed: str) -> Recipe:
        """This recipe with other values in some fields."""
        return _reconciled(replace(self, **changed))

    def __repr__(self) -> str:
        return f"Recipe.of({', '.join(f'{name}={value!r}' for name, value in self.odd.items())})"

    @property
    def samples(self) -> int:
        return int(self.batch)

    @property
    def latent_dtype(self) -> torch.dtype:
        """What the loop works in; with "mixed", the denoiser works in bfloat16."""
        return getattr(torch, "float32" if self.dtype == "mixed" else self.dtype)

    @property
    def has_noise(self) -> bool:
        """Whether steps draw random numbers."""
        return self.noise != "none" or self.solver in ("ddim eta", "ancestral", "ddpm")


_SINGLE = ("tensor", "rows", "one buffer", "tensor subclass")


def _reconciled(recipe: Recipe) -> Recipe:
    """The recipe without the features that others leave no room for."""
    usual = {name: values[0] for name, values in FEATURES.items()}
    drop: set[str] = set()

    def forbid(condition: bool, *names: str) -> None:
        if condition:
            drop.update(names)

    jit = recipe.form in ("traced", "scripted")
    forbid(
        jit, "answer", "question", "condition", "companion", "layout", "streams", "time", "change"
    )
    forbid(jit and recipe.way in ("method", "own call"), "way")
    forbid(jit or recipe.form == "patched", "dtype")
    forbid(recipe.layout != "pictures" or recipe.streams == "two", "question")
    forbid(recipe.form in ("patched", "traced", "scripted"), "streams", "layout")
    forbid(recipe.layout != "pictures", "streams")
    forbid(recipe.streams == "two" and recipe.answer in _SINGLE, "answer")
    own = recipe.scheduler in ("no config", "timesteps in a list", "slots")
    forbid(own, "solver", "layout")
    forbid(recipe.scheduler == "slots", "memory", "noise", "step_returns", "writes")
    forbid(recipe.noise == "none", "window")
    forbid(recipe.solver == "pndm", "memory", "step_returns", "writes")
    forbid(recipe.loop == "two sizes", "layout")
    forbid(recipe.layout == "tokens", "callback", "companion", "dtype")
    forbid(recipe.layout.endswith("one by one"), "companion", "dtype", "form")
    forbid(recipe.layout == "stepped one by one", "solver", "memory", "noise", "writes")
    forbid(recipe.layout == "stepped one by one", "scheduler", "step_returns")
    forbid(recipe.condition == "packed" and recipe.condition_rows == "per block", "condition")
    forbid(recipe.grad == "guided by gradients", "writes", "dtype", "layout")
    forbid(recipe.grad == "guided by gradients" and recipe.answer == "one buffer", "answer")
    forbid(recipe.grad == "weights want gradients" and recipe.writes == "into the output", "writes")
    forbid(recipe.form == "patched" and recipe.guidance == "begins late", "guidance")
    has_graph = recipe.grad in ("guided by gradients", "weights want gradients")
    noted = recipe.form == "notes its calls" and has_graph  # what has a graph can't be copied
    forbid(noted and recipe.callback == "asks a copy", "callback")
    forbid(recipe.grad != "no grad" and recipe.change in ("weights", "buffer"), "change")
    forbid(recipe.grad == "inference", "change", "callback", "renewed")
    forbid(recipe.condition_rows == "per block" and recipe.condition == "rows", "condition")
    forbid(recipe.condition_rows == "per block" and recipe.change == "one sample", "change")
    forbid(recipe.loop == "begins late" and recipe.solver == "heun", "loop")
    forbid(recipe.loop == "jumps back" and recipe.solver != "ddim", "loop")
    forbid(recipe.way == "generator function" and recipe.loop == "calls itself", "loop")
    changed = {name: usual[name] for name in drop}
    if "answer" in changed and recipe.streams == "two" and "streams" not in drop:
        changed["answer"] = "tuple"
    made = replace(recipe, **changed)
    return made if made == recipe else _reconciled(made)


def single_oddities(batches: tuple[str, ...] = ("1", "2")) -> Iterator[Recipe]:
    """The usual pipeline, and every one with a single odd feature, in batches of these sizes."""
    for batch in batches:
        yield Recipe.of(batch=batch)
        for name, values in FEATURES.items():
            if name != "batch":
                beside = {"noise": "given generator"} if name == "window" else {}
                for value in values[1:]:
                    yield Recipe.of(**{"batch": batch, name: value} | beside)


@st.composite
def recipes(draw: st.DrawFn, among: tuple[str, ...] = tuple(FEATURES), at_most: int = 10) -> Recipe:
    """Recipes with up to so many odd features; they shrink toward the usual pipeline."""
    names = draw(st.lists(st.sampled_from(among), max_size=at_most, unique=True))
    return Recipe.of(**{name: draw(st.sampled_from(FEATURES[name][1:])) for name in names})
