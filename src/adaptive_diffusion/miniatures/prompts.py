"""Prompts that the miniatures know, for trying and measuring them."""

from __future__ import annotations

__all__ = ["PROMPTS"]

_EMOJI = (
    *("a red apple", "a tiger face", "a banana", "a sunflower"),
    *("a penguin", "a slice of pizza", "a spouting whale", "a cherry blossom"),
    *("a hot dog", "a lady beetle", "a pineapple", "an owl"),
    *("a mushroom", "a frog", "a doughnut", "a cactus"),
    *("a panda face", "a strawberry", "an octopus", "a lemon"),
)
_MOTION = (
    *("a red apple bouncing to the left", "a rocket rising", "a baby chick moving to the right"),
    *("a fox face shrinking", "a carrot spinning", "a lemon falling", "a frog face bouncing"),
    *("a panda face moving to the left", "a soccer ball bouncing to the right"),
    *("an octopus fading away", "a doughnut growing", "a strawberry spinning"),
    *("a red apple falling", "a rocket spinning", "a baby chick bouncing", "a carrot growing"),
    *("a fox face moving to the left", "a lemon fading away", "a doughnut rising"),
    "a strawberry shrinking",
)
_SOUNDS = (
    *("a bell playing a high note", "a guitar playing three rising notes"),
    *("a flute playing a low note", "a trumpet playing three falling notes"),
    *("a drum playing short repeated notes", "an organ playing a low note"),
    *("a whistle playing a high note", "a laser playing short repeated notes"),
    *("a bell playing three falling notes", "a guitar playing a low note"),
    *("an organ playing three rising notes", "a whistle playing three falling notes"),
    *("a laser playing a high note", "a drum playing a low note"),
    *("a flute playing three rising notes", "a trumpet playing a high note"),
    *("a bell playing short repeated notes", "an organ playing three falling notes"),
    *("a guitar playing a high note", "a whistle playing short repeated notes"),
)
_SCENES = (
    *("a red ball", "a cat and a star", "a blue house on grass", "a pink heart at night"),
    *("an orange boat at sea", "a green tree and a yellow flower", "a purple fish"),
    *("a mushroom and a red box on a carpet", "a yellow moon at night", "a blue cat on snow"),
    *("a pink flower and a blue ball on sand", "a red house and a green tree"),
    *("a green fish at sea", "a yellow star and a tree", "a purple house on snow"),
    *("an orange cat on grass", "a red boat", "a blue mushroom and a pink box"),
    *("a green moon at night", "a yellow ball on a carpet"),
)

PROMPTS: dict[str, tuple[str, ...]] = {
    "emoji": _EMOJI,
    "emoji-dit": _EMOJI,
    "motion": _MOTION,
    "motion-dit": _MOTION,
    "scenes": _SCENES,
    "sounds": _SOUNDS,
}
"""For each miniature that takes prompts, some of those that it was trained on."""
