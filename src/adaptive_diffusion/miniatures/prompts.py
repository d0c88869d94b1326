"""Prompts that the miniatures know, for trying and measuring them."""

from __future__ import annotations

__all__ = ["PROMPTS"]

_EMOJI = (
    *("a red apple", "a tiger face", "a banana", "a sunflower"),
    *("a penguin", "a slice of pizza", "a spouting whale", "a cherry blossom"),
    *("a hot dog", "a lady beetle", "a pineapple", "an owl"),
    *("a mushroom", "a frog", "a doughnut", "a cactus"),
)
_MOTION = (
    *("a red apple bouncing to the left", "a rocket rising", "a baby chick moving to the right"),
    *("a fox face shrinking", "a carrot spinning", "a lemon falling", "a frog face bouncing"),
    *("a panda face moving to the left", "a soccer ball bouncing to the right"),
    *("an octopus fading away", "a doughnut growing", "a strawberry spinning"),
)
_SOUNDS = (
    *("a bell playing a high note", "a guitar playing three rising notes"),
    *("a flute playing a low note", "a trumpet playing three falling notes"),
    *("a drum playing short repeated notes", "an organ playing a low note"),
    *("a whistle playing a high note", "a laser playing short repeated notes"),
    *("a bell playing three falling notes", "a guitar playing a low note"),
)

PROMPTS: dict[str, tuple[str, ...]] = {
    "emoji": _EMOJI,
    "emoji-dit": _EMOJI,
    "motion": _MOTION,
    "motion-dit": _MOTION,
    "sounds": _SOUNDS,
}
"""For each miniature that takes prompts, some of those that it was trained on."""
