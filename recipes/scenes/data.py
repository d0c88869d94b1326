"""The data: scenes that are drawn at random, and captions that say a part of what they show."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from recipes.scenes.drawing import HUES, KINDS, PLACES, SIZE, Scene, Thing, draw, draw_kinds

COLOURS = tuple(HUES)
WHERE = {
    "grass": "on grass",
    "sand": "on sand",
    "snow": "on snow",
    "sea": "at sea",
    "night": "at night",
    "carpet": "on a carpet",
}
"""How a caption says the place."""
THINGS = (5, 8)
"""The fewest and the most things in a picture."""
RADII = (6.6, 7.4)
PITCH = 8
"""Pixels between the places where things may be, which are those where four patches of the
autoencoder meet: a network learns far sooner to draw things that are always cut alike."""
PLACES_A_SIDE = 24
"""Squares along each side of a picture for which it is known what is to be seen in them."""
_SKIES = (
    ((92, 158, 232), (196, 224, 246)),
    ((232, 120, 88), (250, 214, 140)),
    ((148, 156, 176), (212, 214, 220)),
    ((120, 204, 206), (240, 240, 214)),
    ((150, 110, 190), (244, 182, 196)),
)
_GROUNDS = {
    "grass": ((128, 184, 84), (58, 120, 48)),
    "sand": ((236, 208, 146), (198, 150, 88)),
    "snow": ((240, 244, 250), (186, 202, 224)),
    "sea": ((70, 150, 196), (22, 74, 132)),
    "night": ((44, 50, 84), (20, 22, 44)),
}
_NIGHT = ((14, 16, 48), (62, 50, 110))


def compose(seed: int, index: int) -> tuple[Scene, str]:
    """The scene of that index, and one caption of it; the same for the same numbers."""
    random = np.random.default_rng((seed, index))
    place = PLACES[random.integers(len(PLACES))]
    scene = Scene(
        place=place,
        horizon=random.uniform(0.0, 0.2) if place == "carpet" else random.uniform(0.25, 0.75),
        slope=random.uniform(-0.25, 0.25),
        sky=_vary(_NIGHT if place == "night" else _SKIES[random.integers(len(_SKIES))], random),
        ground=_vary(_GROUNDS.get(place) or _carpet(random), random),
        texture_seed=int(random.integers(2**31)),
        light=random.uniform(0, 2 * math.pi),
        contrast=random.uniform(0.05, 0.3),
        things=tuple(_things(random)),
    )
    return scene, caption(scene, random)


def caption(scene: Scene, random: np.random.Generator) -> str:
    """It names one or two of the things, most with their colours; at times the place.

    What it leaves open is for the seed to decide: the other things, where all of them are, the
    ground, the sky and the light.
    """
    order = random.permutation(len(scene.things))[: random.integers(1, 3)]
    names = [_name(scene.things[k], random.random() < 0.8) for k in order]
    text = " and ".join(dict.fromkeys(names))
    return f"{text} {WHERE[scene.place]}" if random.random() < 0.35 else text


def named(text: str) -> list[tuple[str | None, str]]:
    """The things that a caption names: colour, or None if that is left open, and kind."""
    found = re.findall(rf"(?:({'|'.join(COLOURS)}) )?\b({'|'.join(KINDS)})\b", text)
    return [(colour or None, kind) for colour, kind in found]


def all_captions() -> list[str]:
    """Some that hold all the words there are, for the tokenizers to learn."""
    return [
        f"{_article(colour)} {colour} {kind} and a {kind} {where}"
        for colour in COLOURS
        for kind in KINDS
        for where in WHERE.values()
    ]


class Drawn(IterableDataset):
    """Pictures, the kinds in them and captions, without end; picture n is always the same."""

    def __init__(self, seed: int, first: int) -> None:
        self._seed = seed
        self._first = first

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, str]]:
        index = self._first
        while True:
            scene, text = compose(self._seed, index)
            yield draw(scene), draw_kinds(scene, PLACES_A_SIDE), text
            index += 1


def drawn_batches(
    seed: int, first: int, batch_size: int
) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
    """Batches drawn ahead by a process of their own.

    Pictures `(B, SIZE, SIZE, 3)` of uint8, the kinds in them `(B, 24, 24)`, captions.
    """
    return iter(DataLoader(Drawn(seed, first), batch_size, num_workers=1, prefetch_factor=4))


def draw_pictures(seed: int, count: int, first: int = 0) -> tuple[Tensor, list[str], list[Scene]]:
    """So many pictures of a seed, `(count, SIZE, SIZE, 3)` of uint8, their captions and scenes."""
    indices = range(first, first + count)
    scenes, captions = zip(*(compose(seed, index) for index in indices), strict=True)
    pictures = np.stack([draw(scene) for scene in scenes])
    return torch.from_numpy(pictures), list(captions), list(scenes)


def _things(random: np.random.Generator) -> Iterator[Thing]:
    """A few, none in front of another; fewer where there is no room left."""
    kinds = tuple(KINDS)
    free = [(x, y) for x in range(PITCH, SIZE, PITCH) for y in range(PITCH, SIZE, PITCH)]
    for _ in range(random.integers(THINGS[0], THINGS[1] + 1)):
        if not free:
            return
        x, y = free[random.integers(len(free))]
        free = [at for at in free if max(abs(at[0] - x), abs(at[1] - y)) >= 2 * PITCH]
        yield Thing(
            kind=kinds[random.integers(len(kinds))],
            colour=COLOURS[random.integers(len(COLOURS))],
            x=x,
            y=y,
            radius=random.uniform(*RADII),
            mirrored=bool(random.integers(2)),
            hue_shift=random.uniform(-0.015, 0.015),
            value=random.uniform(0.87, 1.0),
        )


def _vary(colours: tuple, random: np.random.Generator) -> tuple:
    """Both colours of a gradient, a little brighter or darker."""
    factor = random.uniform(0.8, 1.08)
    return tuple(tuple(min(int(factor * value), 255) for value in colour) for colour in colours)


def _carpet(random: np.random.Generator) -> tuple:
    """Two muted colours."""
    one, other = random.integers(90, 200, (2, 3)).tolist()
    return tuple(one), tuple(other)


def _name(thing: Thing, with_colour: bool) -> str:
    if not with_colour:
        return f"a {thing.kind}"
    return f"{_article(thing.colour)} {thing.colour} {thing.kind}"


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
