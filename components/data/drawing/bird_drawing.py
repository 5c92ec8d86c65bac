"""Birds drawn from parts, with the part that every pixel shows.

Coordinates of a bird: side of the square image = 1, x to the right, y down, the centre of the body
at (0, 0), beak on the right. S: side of the image in pixels, P: parts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

PARTS = ("beak", "crest", "head", "neck", "wing", "tail", "feet", "body")
SUPERSAMPLING = 4
MARGIN = 0.02  # of the image's side, kept free round the bird

EYE, THROAT, NAPE = np.array([[0.03, -0.015], [0.05, 0.03], [-0.05, 0.0]])  # from the head

Points = NDArray[np.float64]  # (n, 2) x and y
Colour = tuple[float, float, float]  # red, green, blue, each in [0, 1]

PLUMAGE: dict[str, Colour] = {
    "brown": (0.55, 0.34, 0.17),
    "blue": (0.22, 0.38, 0.78),
    "white": (0.90, 0.90, 0.88),
    "yellow": (0.93, 0.80, 0.22),
}
HORN: dict[str, Colour] = {
    "orange": (0.95, 0.55, 0.10),
    "dark": (0.16, 0.14, 0.14),
    "pink": (0.92, 0.62, 0.62),
}


@dataclass(frozen=True, kw_only=True)
class Bird:
    """What a bird looks like, and how it stands in the image."""

    beak: Literal["flat", "pointed"]
    neck: Literal["long", "short"]
    tail: Literal["short", "long"]
    feet: Literal["webbed", "clawed"]
    crest: bool
    stripe: bool
    colour: str  # a key of PLUMAGE
    horn: str  # colour of beak and feet, a key of HORN
    scale: float
    rotation: float  # degrees
    flip: bool


@dataclass(frozen=True)
class Shape:
    """A filled polygon of one part."""

    part: str
    colour: Colour
    points: Points


def shapes(bird: Bird) -> Iterator[Shape]:
    """The polygons of `bird`, back to front."""
    plumage, horn = PLUMAGE[bird.colour], HORN[bird.horn]
    head = np.array([0.23, -0.38] if bird.neck == "long" else [0.20, -0.19])
    yield Shape("tail", _shade(plumage, 0.62), _tail(bird.tail))
    yield from (Shape("feet", horn, points) for points in _feet(bird.feet))
    yield Shape("body", plumage, _ellipse(np.zeros(2), 0.22, 0.15, tilt=-8))
    yield Shape("neck", _shade(plumage, 0.86), _neck(head))
    if bird.crest:
        yield from (Shape("crest", _shade(plumage, 0.45), points) for points in _crest(head))
    yield Shape("beak", horn, _beak(bird.beak) + head)
    yield Shape("head", _shade(plumage, 0.93), _ellipse(head, 0.075, 0.068))
    yield Shape("head", (0.05, 0.05, 0.05), _ellipse(head + EYE, 0.016, 0.016))
    yield Shape("wing", _shade(plumage, 0.72), _wing())
    if bird.stripe:
        yield from (Shape("wing", (0.98, 0.98, 0.98), points) for points in _stripes())


def draw(
    bird: Bird, background: NDArray[np.float64], random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Put `bird` at a random place of `background` where the whole of it is in the frame.

    background: (S, S, 3) in [0, 1]. Returns the image, the same shape and range, and the part that
    each pixel shows: (S, S) uint8, 0 background, k the k-th of PARTS. A pixel is the bird's where
    half of it or more is covered. A bird that is too large for the frame is made smaller.
    """
    size = len(background)
    placed = list(_place(list(shapes(bird)), bird, random))
    side = size * SUPERSAMPLING
    colour, part = Image.new("RGB", (side, side)), Image.new("L", (side, side))
    for shape in placed:
        corners = [(float(x), float(y)) for x, y in shape.points * side]
        paint = tuple(round(255 * c) for c in shape.colour)
        ImageDraw.Draw(colour).polygon(corners, fill=paint)
        ImageDraw.Draw(part).polygon(corners, fill=PARTS.index(shape.part) + 1)
    index = np.asarray(part)
    cover = np.stack([_shrink(index == k + 1) for k in range(len(PARTS))])  # (P, S, S)
    inside = cover.sum(0)
    image = _shrink(np.asarray(colour)) / 255 + (1 - inside[..., None]) * background
    shown = np.where(inside >= 0.5, cover.argmax(0) + 1, 0).astype(np.uint8)
    return image, shown


def _shrink(fine: NDArray[np.uint8] | NDArray[np.bool_]) -> NDArray[np.float64]:
    """Means of SUPERSAMPLING² blocks: (S·s, S·s, …) to (S, S, …)."""
    wide, step = fine.astype(np.uint16), SUPERSAMPLING
    rows = np.add.reduce([wide[i::step] for i in range(step)])
    blocks: NDArray[np.uint16] = np.add.reduce([rows[:, i::step] for i in range(step)])
    return blocks / step**2


def _place(parts: list[Shape], bird: Bird, random: np.random.Generator) -> Iterator[Shape]:
    """Flip, turn, scale and move the shapes to frame coordinates in [MARGIN, 1 - MARGIN]."""
    angle = np.deg2rad(bird.rotation)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    turn = np.diag([-1.0 if bird.flip else 1.0, 1.0]) @ turn
    everything = np.concatenate([shape.points for shape in parts]) @ turn
    low, high = everything.min(0), everything.max(0)
    room = 1 - 2 * MARGIN
    scale = min(bird.scale, room / (high - low).max())
    corner = MARGIN + random.random(2) * (room - scale * (high - low))
    for shape in parts:
        yield Shape(shape.part, shape.colour, (shape.points @ turn - low) * scale + corner)


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (c * factor for c in colour)
    return red, green, blue


def _ellipse(centre: Points, a: float, b: float, tilt: float = 0.0) -> Points:
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    c, s = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))
    axes = np.array([[c, s], [-s, c]]) * [[a], [b]]  # rows: the half axes
    outline: Points = centre + np.stack([np.cos(t), np.sin(t)], axis=1) @ axes
    return outline


def _tail(kind: str) -> Points:
    if kind == "long":
        return np.array(
            [
                [-0.15, -0.04],
                [-0.30, -0.03],
                [-0.46, 0.01],
                [-0.45, 0.08],
                [-0.28, 0.09],
                [-0.14, 0.08],
            ]
        )
    return np.array([[-0.16, -0.06], [-0.27, -0.14], [-0.31, -0.05], [-0.28, 0.02], [-0.17, 0.05]])


def _feet(kind: str) -> Iterator[Points]:
    for x in (-0.05, 0.07):
        yield np.array([[x - 0.011, 0.12], [x + 0.011, 0.12], [x + 0.011, 0.25], [x - 0.011, 0.25]])
        if kind == "webbed":
            yield np.array([[x - 0.015, 0.22], [x + 0.09, 0.245], [x + 0.085, 0.28], [x - 0.035, 0.28]])
        else:
            yield from (_toe(x, 0.235, dx, dy) for dx, dy in [(0.065, 0.03), (0.03, 0.06), (-0.05, 0.04)])


def _toe(x: float, y: float, dx: float, dy: float) -> Points:
    side = 0.009 * np.array([-dy, dx]) / np.hypot(dx, dy)
    start, end = np.array([x, y]), np.array([x + dx, y + dy])
    return np.stack([start - side, end - side, end + side, start + side])


def _neck(head: Points) -> Points:
    shoulder, back_end = np.array([0.19, -0.03]), np.array([0.08, -0.09])
    throat, crown = head + THROAT, head + NAPE
    front = 0.5 * (shoulder + throat) + [-0.015, 0.0]
    back = 0.5 * (back_end + crown) + [0.025, 0.015]
    return np.stack([shoulder, front, throat, crown, back, back_end])


def _beak(kind: str) -> Points:
    if kind == "flat":
        return np.array(
            [[0.04, -0.02], [0.12, 0.0], [0.18, -0.01], [0.20, 0.015], [0.18, 0.04], [0.05, 0.045]]
        )
    return np.array([[0.05, -0.045], [0.145, 0.01], [0.05, 0.045]])


def _crest(head: Points) -> Iterator[Points]:
    for degrees in (95, 125, 155):
        way = np.array([np.cos(np.deg2rad(degrees)), -np.sin(np.deg2rad(degrees))])
        side = 0.026 * np.array([-way[1], way[0]])
        yield head + np.stack([0.04 * way - side, 0.155 * way, 0.04 * way + side])


def _wing() -> Points:
    return np.array(
        [
            [0.10, -0.05],
            [0.02, -0.095],
            [-0.10, -0.07],
            [-0.24, 0.0],
            [-0.15, 0.05],
            [-0.02, 0.075],
            [0.08, 0.04],
        ]
    )


def _stripes() -> Iterator[Points]:
    for x in (-0.12, -0.045, 0.03):
        yield np.array([[x, -0.055], [x + 0.032, -0.06], [x + 0.012, 0.045], [x - 0.02, 0.04]])
