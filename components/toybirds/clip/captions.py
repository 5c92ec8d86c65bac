"""Captioned views of toy birds: what a small CLIP is trained on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.toybirds.birds import Birds, Pixels, Shown
from components.toybirds.clip.views import caption, circled, crop, part_name

PHRASINGS = ("{}", "{}", "{}", "a photo of {}", "a photo of a {}", "a bird with {}")
RADII = (0.08, 0.18)  # of a circle, of the image's side: 32 pixels of 224 are 0.14
SEGMENTS = (0.5, 0.35, 0.15)  # shares of parts, superpixels and whole birds among the crops


@dataclass(frozen=True)
class Example:
    """An image with a caption: every phrase that is true of the one, and that the other says."""

    image: Pixels
    shows: frozenset[str]
    text: str
    says: frozenset[str]


def all_true(birds: Birds, i: int) -> frozenset[str]:
    """Every phrase that is true of the whole image `i`, the name of its class among them."""
    return _true(birds.shown[i]) | {birds.classes[i]}


def whole_image(birds: Birds, i: int, random: np.random.Generator) -> Example:
    """The plain image, with the caption that says everything or with one phrase."""
    image, shown = birds.images[i], birds.shown[i]
    if random.random() < 0.5:
        return _single(_flipped(image, random), all_true(birds, i), random)
    return _full(_flipped(image, random), shown, birds.classes[i], True)


def red_circle(birds: Birds, i: int, random: np.random.Generator) -> Example:
    """The image with a circle round a part or a piece of background, which the caption names."""
    parts, size = birds.parts[i], len(birds.images[i])
    radius = size * random.uniform(*RADII)
    x, y = _place_for_circle(parts, radius, random)
    image = circled(birds.images[i], x, y, radius)
    name = part_name(parts[y, x])
    return _single(_flipped(image, random), _named(name, birds.shown[i][name]), random)


def segment_crop(birds: Birds, i: int, random: np.random.Generator) -> Example:
    """A part, a superpixel or the whole bird, cut out."""
    kind = random.choice(["part", "superpixel", "bird"], p=SEGMENTS)
    if kind == "bird":
        return _whole_bird(birds, i, random)
    if kind == "part":
        mask = birds.parts[i] == random.choice(np.unique(birds.parts[i][birds.parts[i] > 0]))
    else:
        mask = birds.superpixels[i] == random.integers(1, birds.superpixels[i].max() + 1)
    name = part_name(int(np.bincount(birds.parts[i][mask]).argmax()))
    image = _flipped(crop(birds.images[i], mask), random)
    return _single(image, _named(name, birds.shown[i][name]), random)


def _whole_bird(birds: Birds, i: int, random: np.random.Generator) -> Example:
    bird = {part: phrase for part, phrase in birds.shown[i].items() if part != "background"}
    image = _flipped(crop(birds.images[i], birds.parts[i] > 0), random)
    if random.random() < 0.5:
        return _single(image, _true(bird) | {birds.classes[i]}, random)
    return _full(image, bird, birds.classes[i], False)


def _place_for_circle(
    parts: NDArray[np.uint8], radius: float, random: np.random.Generator
) -> tuple[int, int]:
    """A pixel of a random part (3 of 4 times), or of background away from the bird."""
    if random.random() < 0.75:
        index = random.choice(np.unique(parts[parts > 0]))
        y, x = random.choice(np.argwhere(parts == index))
        return int(x), int(y)
    rows, columns = np.mgrid[0 : len(parts), 0 : len(parts)]
    while True:
        x, y = random.integers(0, len(parts), 2)
        near = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
        if (parts[near] > 0).mean() < 0.2 and parts[y, x] == 0:
            return int(x), int(y)


def _flipped(image: Pixels, random: np.random.Generator) -> Pixels:
    return image[:, ::-1] if random.random() < 0.5 else image


def _named(name: str, phrase: str) -> frozenset[str]:
    """A part is called by its phrase or by its bare name."""
    return frozenset({phrase} if name == "background" else {phrase, name})


def _true(shown: Shown) -> frozenset[str]:
    return frozenset().union(*(_named(name, phrase) for name, phrase in shown.items()))


def _single(image: Pixels, shows: frozenset[str], random: np.random.Generator) -> Example:
    # sorted: the order of a set of strings changes from process to process
    phrase = str(random.choice(sorted(shows)))
    return Example(image, shows, str(random.choice(PHRASINGS)).format(phrase), frozenset({phrase}))


def _full(image: Pixels, shown: Shown, bird_class: str, with_background: bool) -> Example:
    # the head goes without saying
    says = frozenset(phrase for part, phrase in shown.items() if part != "head")
    return Example(image, _true(shown) | {bird_class}, caption(shown, with_background), says)
