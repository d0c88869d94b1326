"""Pipelines made at random: small, quick, and odd in ways that have names.

A `Recipe` names what is odd; `make` builds the pipeline, `run` runs it, and its `log` says what
truly happened. `Told` is the reference: the same pipeline, whose author makes the skips.
"""

from random_pipelines.pipeline import Outcome, RandomPipeline, Told, make, run
from random_pipelines.recipe import FEATURES, Recipe, recipes, single_oddities

__all__ = [
    "FEATURES",
    "Outcome",
    "RandomPipeline",
    "Recipe",
    "Told",
    "make",
    "recipes",
    "run",
    "single_oddities",
]
