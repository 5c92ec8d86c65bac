"""What a CLIP knows about toy birds, measured against the truth, each score beside its chance.

N: images, T: texts, D: features, K: concepts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from components.data.drawing.backgrounds import TEXTURES
from components.data.drawing.bird_drawing import PLUMAGE
from components.data.generators.toybirds import PARTS, TYPICAL
from components.toybirds.birds import Birds, Pixels
from components.toybirds.clip.views import caption, circled, crop

GRID = 7  # circle positions per axis
RADIUS = 32 / 224  # of the image's side, as in SALF-CBM
CLEAR = 0.4  # fog above it hides a background too well to be named


@dataclass(frozen=True)
class Score:
    """A share of `n` decisions that were right, and the share that guessing gets."""

    value: float
    n: int
    chance: float


class Clip(Protocol):
    """Embeddings of length 1, float32 (N, D) and (T, D), as `components.models.clip.clip` gives them."""

    def embed_squares(self, squares: NDArray[np.uint8]) -> NDArray[np.float32]: ...

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


def scores(clip: Clip, birds: Birds, concepts: Sequence[str]) -> dict[str, Score]:
    """Every score below, under the name of what is measured."""
    return {
        **{f"attribute_{part}": _choice(clip, birds, part, options) for part, options in OPTIONS.items()},
        "background": _choice(clip, _clear(birds), "background", BACKGROUNDS),
        "circled_part": circled_part(clip, birds),
        "circle_localisation": circle_localisation(clip, birds),
        "segment_part": segment_part(clip, birds, concepts),
        "segment_background": segment_background(clip, _clear(birds), concepts),
        "retrieval_at_1": retrieval(clip, birds),
    }


OPTIONS = {
    **{part: tuple(f"{kind} {part}" for kind in kinds) for part, kinds in TYPICAL.items()},
    "wing": ("striped wing", "plain wing"),
    "body": tuple(f"{colour} body" for colour in PLUMAGE),
}
BACKGROUNDS = TEXTURES["land"] + TEXTURES["water"]
# the scores that need neither a circle nor a cut-out
OF_WHOLE_IMAGES = (*(f"attribute_{part}" for part in OPTIONS), "background", "retrieval_at_1")


def _choice(clip: Clip, birds: Birds, part: str, options: Sequence[str]) -> Score:
    """Which of `options` does the whole image show?"""
    chosen = (clip.embed_squares(birds.images) @ clip.embed_texts(options).T).argmax(1)
    return _score([options[k] == s[part] for k, s in zip(chosen, birds.shown, strict=True)], 1 / len(options))


def circled_part(clip: Clip, birds: Birds) -> Score:
    """Which of the bird's parts has the red circle round it?"""
    views = [(i, k) for i, parts in enumerate(birds.parts) for k in np.unique(parts[parts > 0])]
    radius = RADIUS * birds.images.shape[1]
    images = [circled(birds.images[i], *_middle(birds.parts[i] == k), radius) for i, k in views]
    names = [[birds.shown[i][part] for part in PARTS if part in birds.shown[i]] for i, _ in views]
    truth = [birds.shown[i][PARTS[k - 1]] for i, k in views]
    return _named_right(clip, images, names, truth)


def segment_part(clip: Clip, birds: Birds, concepts: Sequence[str]) -> Score:
    """Which of all concepts does a part show that is cut out?"""
    views = [(i, k) for i, parts in enumerate(birds.parts) for k in np.unique(parts[parts > 0])]
    images = [crop(birds.images[i], birds.parts[i] == k) for i, k in views]
    truth = [birds.shown[i][PARTS[k - 1]] for i, k in views]
    return _named_right(clip, images, [list(concepts)] * len(views), truth)


def segment_background(clip: Clip, birds: Birds, concepts: Sequence[str]) -> Score:
    """Which of all concepts does a superpixel show that has none of the bird?"""
    pieces = [(i, label) for i in range(len(birds)) for label in _pure_background(birds, i)]
    images = [crop(birds.images[i], birds.superpixels[i] == label) for i, label in pieces]
    truth = [birds.shown[i]["background"] for i, _ in pieces]
    return _named_right(clip, images, [list(concepts)] * len(pieces), truth)


def circle_localisation(clip: Clip, birds: Birds) -> Score:
    """Does the one of GRID² circle positions that is closest to a part's text lie on the part?

    Right is a centre within a circle's radius of the part. Chance is a position at random.
    """
    size = birds.images.shape[1]
    centres = size // (GRID + 1) * np.arange(1, GRID + 1)
    places = [(x, y) for y in centres for x in centres]
    right, chance = [], []
    for image, parts, shown in zip(birds.images, birds.parts, birds.shown, strict=True):
        seen = [k for k in np.unique(parts[parts > 0]) if PARTS[k - 1] != "body"]
        views = clip.embed_squares(np.stack([circled(image, x, y, RADIUS * size) for x, y in places]))
        best = (views @ clip.embed_texts([shown[PARTS[k - 1]] for k in seen]).T).argmax(0)
        for k, position in zip(seen, best, strict=True):
            near = distance_transform_edt(parts != k) <= RADIUS * size
            hits = [bool(near[y, x]) for x, y in places]
            right.append(hits[position])
            chance.append(np.mean(hits))
    return _score(right, float(np.mean(chance)))


def retrieval(clip: Clip, birds: Birds) -> Score:
    """Is the closest of all images' full captions this image's own (or the same words)?"""
    captions = np.array([caption(shown) for shown in birds.shown])
    best = (clip.embed_squares(birds.images) @ clip.embed_texts(captions.tolist()).T).argmax(1)
    return _score(captions[best] == captions, float((captions[:, None] == captions).mean()))


def _named_right(clip: Clip, images: list[Pixels], names: list[list[str]], truth: list[str]) -> Score:
    """Is the name that is closest to each image, of its own list of names, the true one?"""
    words = sorted({name for several in names for name in several})
    similar = clip.embed_squares(np.stack(images)) @ clip.embed_texts(words).T
    column = {word: j for j, word in enumerate(words)}
    chosen = [max(ns, key=lambda n: row[column[n]]) for ns, row in zip(names, similar, strict=True)]
    right = [c == t for c, t in zip(chosen, truth, strict=True)]
    return _score(right, float(np.mean([1 / len(ns) for ns in names])))


def _score(right: Sequence[bool] | NDArray[np.bool_], chance: float) -> Score:
    return Score(float(np.mean(right)), len(right), chance)


def _middle(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """The pixel (x, y) that lies deepest in the mask: a body's centroid would be on the wing."""
    y, x = np.unravel_index(distance_transform_edt(mask).argmax(), mask.shape)
    return int(x), int(y)


def _clear(birds: Birds) -> Birds:
    return birds.select(np.flatnonzero(birds.fog < CLEAR))


def _pure_background(birds: Birds, i: int) -> list[int]:
    touched = np.unique(birds.superpixels[i][birds.parts[i] > 0])
    return [int(s) for s in np.setdiff1d(birds.superpixels[i], touched)]
