"""What is asked of the birds while the detector is trained, and what the right answer is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.data.generators.toybirds import PARTS
from components.models.segmentation.grounding_dino.prompts import one_prompt
from components.toybirds.birds import Birds, tight_box

Boxes = dict[str, NDArray[np.float32]]  # phrase to x0 y0 x1 y1, pixels, (4,)

UNKNOWN = "something else"  # no word of it is in the vocabulary, and it is nowhere
BIRD = "bird"


@dataclass(frozen=True)
class Asked:
    """B texts, and of each the boxes to be found. T tokens, G boxes of an image.

    texts: the tokenizer's tensors (B, T). boxes float32 (G, 4) of each image: centre and size in shares of
    it. words bool (G, T) of each image: the tokens that name the box, without full stops.
    """

    texts: dict[str, Tensor]
    boxes: list[Tensor]
    words: list[Tensor]


def true_boxes(birds: Birds) -> list[Boxes]:
    """The box of every phrase that is true of each image: of a part the box round its pixels, of the
    background the whole image. A part of which no pixel is seen has none."""
    found = []
    for parts, shown in zip(birds.parts, birds.shown, strict=True):
        named = [(shown[part], parts == k) for k, part in enumerate(PARTS, start=1) if part in shown]
        named += [(BIRD, parts > 0), (shown["background"], np.ones_like(parts, bool))]
        found.append({phrase: tight_box(mask) for phrase, mask in named if mask.any()})
    return found


def choose(random: np.random.Generator, phrases: Sequence[str], n: int) -> list[list[str]]:
    """The phrases that are asked of each of `n` images: all of every image (3 of 10 times), a few, the same
    of every image (2), or one or a pair, others of each (5).

    A phrase alone is more often false than true: its score must tell. The pair says two things of one part.
    """
    kind = random.choice(["all", "few", "single"], p=[0.3, 0.2, 0.5])
    if kind == "all":
        return [list(phrases)] * n
    if kind == "few":
        return [random.permutation(phrases)[: random.integers(3, len(phrases))].tolist()] * n
    return [_single(random, phrases) for _ in range(n)]


def _single(random: np.random.Generator, phrases: Sequence[str]) -> list[str]:
    phrase = str(random.choice(phrases))
    rivals = [other for other in phrases if other != phrase and other.split()[-1] == phrase.split()[-1]]
    if rivals and random.random() < 0.25:
        return [phrase, str(random.choice(rivals))]
    return [phrase]


def ask(tokenizer: Any, asked: Sequence[Sequence[str]], truth: Sequence[Boxes], size: int) -> Asked:
    """One text an image, "a. b.", for images of `size` pixels a side."""
    prompts = [one_prompt(phrases, list(range(len(phrases)))) for phrases in asked]
    texts = tokenizer(
        [prompt.text for prompt in prompts], padding=True, return_offsets_mapping=True, return_tensors="pt"
    )
    places = texts.pop("offset_mapping").numpy()  # (B, T, 2)
    boxes, words = [], []
    for prompt, phrases, true, characters in zip(prompts, asked, truth, places, strict=True):
        named = prompt.words(characters)
        found = [k for k, phrase in enumerate(phrases) if phrase in true]
        of_found = np.array([true[phrases[k]] for k in found], np.float32)
        corners = torch.tensor(of_found.reshape(-1, 4) / size)
        boxes.append(torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1))
        of_words = np.array([named[k] for k in found], bool)
        words.append(torch.from_numpy(of_words.reshape(-1, len(characters))))
    return Asked(dict(texts), boxes, words)
