"""The program that draws the pictures: things on a background, in a light of its own.

A thing is a few polygons in the square from -1 to 1, which are scaled and painted at three
times the picture's size; the picture is the mean over squares of 3x3 pixels.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

SIZE = 48
"""Pixels along each side of a picture."""
OVERSAMPLING = 3
HUES = {
    "red": 0.0,
    "orange": 0.075,
    "yellow": 0.145,
    "green": 0.36,
    "blue": 0.6,
    "purple": 0.76,
    "pink": 0.9,
}
INK, WHITE, BROWN = (38, 30, 44), (250, 248, 240), (112, 74, 44)
OUTLINE = 1.16
"""How much larger the silhouette is that an outline is painted with."""

Polygon = np.ndarray
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Thing:
    """One thing in a picture; lengths are in pixels."""

    kind: str
    colour: str
    x: float
    y: float
    radius: float
    mirrored: bool
    hue_shift: float
    value: float


@dataclass(frozen=True)
class Scene:
    """All that a picture shows; the texture of its ground is drawn from `texture_seed`."""

    place: str
    horizon: float
    slope: float
    sky: tuple[Colour, Colour]
    ground: tuple[Colour, Colour]
    texture_seed: int
    light: float
    contrast: float
    things: tuple[Thing, ...]


def _circle(x: float = 0.0, y: float = 0.0, radius: float = 1.0, corners: int = 18) -> Polygon:
    return _ellipse(x, y, radius, radius, corners)


def _ellipse(x: float, y: float, width: float, height: float, corners: int = 18) -> Polygon:
    angles = np.arange(corners) * 2 * math.pi / corners
    return np.stack([x + width * np.cos(angles), y + height * np.sin(angles)], axis=1)


def _rectangle(left: float, top: float, right: float, bottom: float) -> Polygon:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def _star(outer: float, inner: float, points: int = 5) -> Polygon:
    angles = np.arange(2 * points) * math.pi / points - math.pi / 2
    radii = np.where(np.arange(2 * points) % 2 == 0, outer, inner)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _heart() -> Polygon:
    t = np.linspace(0, 2 * math.pi, 24, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x / 16, -y / 15], axis=1)


def _moon() -> Polygon:
    outer = np.linspace(-0.75 * math.pi, 0.75 * math.pi, 16) + math.pi
    inner = np.linspace(0.62 * math.pi, -0.62 * math.pi, 12) + math.pi
    arcs = [np.stack([np.cos(outer), np.sin(outer)], axis=1)]
    arcs.append(np.stack([0.4 + 0.75 * np.cos(inner), 0.75 * np.sin(inner)], axis=1))
    return np.concatenate(arcs) + np.array([0.2, 0.0])


def _band(half_width: float) -> Polygon:
    edge = math.sqrt(1 - half_width**2) * 0.98
    return _rectangle(-edge, -half_width, edge, half_width)


def _dome() -> Polygon:
    angles = np.linspace(math.pi, 2 * math.pi, 14)
    return np.stack([np.cos(angles), 0.15 + 1.05 * np.sin(angles)], axis=1)


def _petals() -> list[Polygon]:
    turns = [-math.pi / 2 + k * 2 * math.pi / 5 for k in range(5)]
    return [_circle(0.58 * math.cos(t), 0.58 * math.sin(t), 0.42, 12) for t in turns]


def _painted(paint: str, *polygons: Polygon) -> list[tuple[str, Polygon]]:
    return [(paint, polygon) for polygon in polygons]


KINDS: dict[str, list[tuple[str, Polygon]]] = {
    "ball": [
        *_painted("body", _circle()),
        *_painted("white", _band(0.26)),
        *_painted("light", _circle(-0.35, -0.6, 0.18, 10)),
    ],
    "box": [
        *_painted("body", _rectangle(-0.82, -0.82, 0.82, 0.82)),
        *_painted("white", _rectangle(-0.17, -0.82, 0.17, 0.82)),
        *_painted("dark", _rectangle(-0.82, -0.82, 0.82, -0.42)),
    ],
    "star": [*_painted("body", _star(1.1, 0.48)), *_painted("light", _star(0.55, 0.24))],
    "heart": [*_painted("body", _heart()), *_painted("light", _circle(-0.45, -0.4, 0.2, 10))],
    "moon": [*_painted("body", _moon()), *_painted("dark", _circle(-0.5, 0.2, 0.13, 8))],
    "house": [
        *_painted("body", _rectangle(-0.72, -0.15, 0.72, 0.9)),
        *_painted("dark", np.array([(-1.0, -0.1), (0.0, -1.05), (1.0, -0.1)])),
        *_painted("white", _rectangle(-0.55, 0.1, -0.08, 0.5)),
        *_painted("ink", _rectangle(0.15, 0.2, 0.52, 0.9)),
    ],
    "tree": [
        *_painted("brown", _rectangle(-0.2, 0.4, 0.2, 1.05)),
        *_painted("body", np.array([(-0.9, 0.55), (0.0, -0.55), (0.9, 0.55)])),
        *_painted("light", np.array([(-0.68, -0.1), (0.0, -1.1), (0.68, -0.1)])),
    ],
    "flower": [*_painted("body", *_petals()), *_painted("white", _circle(0, 0, 0.36, 12))],
    "fish": [
        *_painted("dark", np.array([(0.35, 0.0), (1.1, -0.6), (0.95, 0.0), (1.1, 0.6)])),
        *_painted("body", _ellipse(-0.2, 0.0, 0.85, 0.58)),
        *_painted("white", _circle(-0.6, -0.12, 0.2, 10)),
        *_painted("ink", _circle(-0.63, -0.12, 0.1, 8)),
    ],
    "cat": [
        *_painted("body", np.array([(-0.95, -1.0), (-0.15, -0.6), (-0.85, 0.0)])),
        *_painted("body", np.array([(0.95, -1.0), (0.15, -0.6), (0.85, 0.0)])),
        *_painted("body", _ellipse(0, 0.15, 0.95, 0.78)),
        *_painted("ink", _circle(-0.38, 0.0, 0.16, 8), _circle(0.38, 0.0, 0.16, 8)),
        *_painted("white", _ellipse(0, 0.45, 0.3, 0.2, 10)),
    ],
    "boat": [
        *_painted("ink", _rectangle(-0.07, -1.0, 0.07, 0.4)),
        *_painted("white", np.array([(0.12, -0.95), (0.85, 0.2), (0.12, 0.2)])),
        *_painted("light", np.array([(-0.12, -0.75), (-0.7, 0.2), (-0.12, 0.2)])),
        *_painted("body", np.array([(-1.05, 0.3), (1.05, 0.3), (0.65, 0.95), (-0.65, 0.95)])),
    ],
    "mushroom": [
        *_painted("white", np.array([(-0.3, 0.0), (0.3, 0.0), (0.42, 0.95), (-0.42, 0.95)])),
        *_painted("body", _dome()),
        *_painted("white", _circle(-0.4, -0.25, 0.2, 10), _circle(0.3, -0.45, 0.24, 10)),
    ],
}
"""For each kind its parts from back to front, each with the paint that it takes."""

PLACES = ("grass", "sand", "snow", "sea", "night", "carpet")
STROKES = {"grass": 34, "sand": 26, "snow": 14, "sea": 18, "night": 20, "carpet": 9}
"""For each place, the marks that its texture consists of."""


def draw(scene: Scene) -> np.ndarray:
    """The picture of a scene, `(SIZE, SIZE, 3)` of uint8."""
    image = _background(scene)
    canvas = ImageDraw.Draw(image, "RGBA")
    for thing in scene.things:
        _paint_thing(canvas, thing, scene)
    pixels = np.asarray(image.reduce(OVERSAMPLING), dtype=np.float32)
    return (pixels * _lighting(scene)).clip(0, 255).astype(np.uint8)


def draw_kinds(scene: Scene, side: int) -> np.ndarray:
    """What is to be seen where, `(side, side)`: numbers of kinds from 1, and 0 for the ground."""
    image = Image.new("L", (side, side), 0)
    canvas = ImageDraw.Draw(image)
    for thing in scene.things:
        number = list(KINDS).index(thing.kind) + 1
        for _, polygon in _placed_parts(thing, side / SIZE):
            _fill(canvas, polygon, number)
    return np.array(image)


def body_colour(thing: Thing) -> Colour:
    """The colour that a thing's name says, a little varied."""
    hue = (HUES[thing.colour] + thing.hue_shift) % 1.0
    saturation = 0.55 if thing.colour == "pink" else 0.88
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, thing.value)
    return int(255 * red), int(255 * green), int(255 * blue)


def _paint_thing(canvas: ImageDraw.ImageDraw, thing: Thing, scene: Scene) -> None:
    parts = _placed_parts(thing, OVERSAMPLING)
    direction = np.array([math.cos(scene.light), 0.35 * abs(math.sin(scene.light)) + 0.3])
    shade = 0.45 * thing.radius * OVERSAMPLING * direction
    for paint, polygon in parts:
        if paint in ("body", "brown"):
            _fill(canvas, polygon + shade, (0, 0, 20, 85))
    for paint, polygon in parts:
        if paint in ("body", "brown", "dark"):
            middle = polygon.mean(axis=0)
            _fill(canvas, (polygon - middle) * OUTLINE + middle, INK)
    colours = _paints(body_colour(thing))
    for paint, polygon in parts:
        _fill(canvas, polygon, colours[paint])


def _placed_parts(thing: Thing, pixel: float) -> list[tuple[str, Polygon]]:
    """The thing's parts where it is, in its size; `pixel` is the length of a pixel."""
    scale = thing.radius * pixel * np.array([-1.0 if thing.mirrored else 1.0, 1.0])
    centre = np.array([thing.x, thing.y]) * pixel
    return [(paint, polygon * scale + centre) for paint, polygon in KINDS[thing.kind]]


def _fill(canvas: ImageDraw.ImageDraw, polygon: Polygon, colour: tuple[int, ...] | int) -> None:
    canvas.polygon(polygon.ravel().tolist(), fill=colour)


def _paints(body: Colour) -> dict[str, Colour]:
    return {
        "body": body,
        "light": _mix(body, WHITE, 0.45),
        "dark": _mix(body, INK, 0.45),
        "white": WHITE,
        "ink": INK,
        "brown": BROWN,
    }


def _mix(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = ((1 - share) * a + share * b for a, b in zip(one, other, strict=True))
    return int(red), int(green), int(blue)


def _background(scene: Scene) -> Image.Image:
    """Sky above a horizon that may slope, ground with a texture below it."""
    side = SIZE * OVERSAMPLING
    image = _gradient(*scene.sky, side, side)
    canvas = ImageDraw.Draw(image, "RGBA")
    random = np.random.default_rng(scene.texture_seed)
    horizon = scene.horizon * side
    tilt = scene.slope * side / 2
    if horizon < side:
        ground = _gradient(*scene.ground, side, side)
        mask = Image.new("L", (side, side), 0)
        edge = [(0, horizon - tilt), (side, horizon + tilt), (side, side), (0, side)]
        ImageDraw.Draw(mask).polygon(edge, fill=255)
        image.paste(ground, (0, 0), mask)
    _texture(canvas, scene, random, horizon, side)
    return image


def _gradient(top: Colour, bottom: Colour, width: int, height: int) -> Image.Image:
    column = np.linspace(top, bottom, 16)[:, None, :]
    return Image.fromarray(column.astype(np.uint8)).resize(
        (width, height), Image.Resampling.BILINEAR
    )


def _texture(
    canvas: ImageDraw.ImageDraw, scene: Scene, random: np.random.Generator, top: float, side: int
) -> None:
    """Blades, grains, waves, stars or stripes: the marks by which a place is known."""
    count = STROKES[scene.place]
    xs = random.uniform(0, side, count).tolist()
    ys = random.uniform(top + 2, side, count).tolist()
    lengths = random.uniform(4, 12, count).tolist()
    dark, light = _mix(scene.ground[1], INK, 0.45), _mix(scene.ground[0], WHITE, 0.55)
    if scene.place == "carpet":
        stripe = side / count
        for k in range(0, count, 2):
            box = (k * stripe, top, (k + 1) * stripe, side)
            canvas.rectangle(box, fill=(*dark, 150))
        return
    if scene.place == "night":
        for x, y, length in zip(xs, random.uniform(0, top, count).tolist(), lengths, strict=True):
            radius = length / 6
            canvas.rectangle((x - radius, y - radius, x + radius, y + radius), fill=(*WHITE, 220))
        return
    for k, (x, y, length) in enumerate(zip(xs, ys, lengths, strict=True)):
        colour = dark if k % 2 else light
        if scene.place == "grass":
            canvas.line((x, y, x + length / 4, y - length), fill=colour, width=2)
        elif scene.place == "sea":
            canvas.line((x, y, x + length, y - 3, x + 2 * length, y), fill=colour, width=2)
        else:
            radius = length / 6
            canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _lighting(scene: Scene) -> np.ndarray:
    """A factor for each pixel: brighter towards the light."""
    axis = np.linspace(-1, 1, SIZE, dtype=np.float32)
    slope = -(math.cos(scene.light) * axis[None, :] + math.sin(scene.light) * axis[:, None])
    return (1 + scene.contrast * slope)[:, :, None]
