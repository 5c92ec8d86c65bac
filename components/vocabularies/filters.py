"""LF-CBM's filters of concepts, in their order. K concepts, C classes, D features.

Source: the method's official code (Label-free-CBM, commit fa2869d). Similarity of two texts is the dot
product of their vectors: see `components/vocabularies/similarity.py`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROWS = 1024  # of the similarity matrix at once: bounds memory to ROWS x K
TIE = 1e-6  # mean similarities closer than this differ by float32 noise only
ARTICLES = ("a ", "A ", "an ", "An ", "the ", "The ")

Vectors = NDArray[np.float64]
Embed = Callable[[Sequence[str]], Vectors]


@dataclass(frozen=True)
class Dropped:
    """A concept that a filter dropped, the class or concept that it was too close to, and how close."""

    concept: str
    filter: str
    partner: str | None = None
    similarity: float | None = None


@dataclass(frozen=True, kw_only=True)
class Filters:
    """max_length: of a concept, in characters. class_cutoff, pair_cutoff: similarities in [-1, 1], from which
    a concept is too close to a class's name or to another concept.
    compat_index_bug: the official code does not compare a class with the concept that has the same number in
    its list, so a concept can survive by its place; this does the same.
    """

    max_length: int = 30
    class_cutoff: float = 0.85
    pair_cutoff: float = 0.90
    compat_index_bug: bool = False

    def apply(
        self, concepts: Iterable[str], classes: Sequence[str], embed: Embed
    ) -> tuple[list[str], list[Dropped]]:
        """The concepts that pass all filters, sorted, and those dropped, in the order of filters and names.

        embed: texts to unit vectors float64 (K, D), called once at most.
        """
        kept, long = drop_long(concepts, self.max_length)
        kept, named = drop_class_names(kept, classes)
        if not kept:
            return kept, [*long, *named]
        vectors = embed([*classes, *kept])
        of_classes, of_concepts = vectors[: len(classes)], vectors[len(classes) :]
        near_class = drop_near_classes(
            kept, of_concepts, classes, of_classes, self.class_cutoff, self.compat_index_bug
        )
        gone = {one.concept for one in near_class}
        stay = np.array([concept not in gone for concept in kept])
        kept = [concept for concept in kept if concept not in gone]
        near_other = drop_near_pairs(kept, of_concepts[stay], self.pair_cutoff)
        gone = {one.concept for one in near_other}
        kept = [concept for concept in kept if concept not in gone]
        return kept, [*long, *named, *near_class, *near_other]


FILTERS = ("length", "class_name", "class_similarity", "pair_similarity")


def drop_long(concepts: Iterable[str], max_length: int) -> tuple[list[str], list[Dropped]]:
    """Concepts of at most max_length characters, sorted and once each, and the longer ones."""
    ordered = sorted(set(concepts))
    long = [Dropped(concept, "length") for concept in ordered if len(concept) > max_length]
    return [concept for concept in ordered if len(concept) <= max_length], long


def drop_class_names(concepts: Sequence[str], classes: Sequence[str]) -> tuple[list[str], list[Dropped]]:
    """Drops what equals the name of a class, also with an article before it, all in capitals or with a first
    capital letter."""
    class_of: dict[str, str] = {}
    for name in classes:
        variants = (
            name,
            *(article + name for article in ARTICLES),
            name.upper(),
            name[:1].upper() + name[1:],
        )
        for variant in variants:
            class_of.setdefault(variant, name)
    dropped = [Dropped(c, "class_name", class_of[c]) for c in concepts if c in class_of]
    return [concept for concept in concepts if concept not in class_of], dropped


def drop_near_classes(
    concepts: Sequence[str],
    vectors: Vectors,
    classes: Sequence[str],
    class_vectors: Vectors,
    cutoff: float,
    compat_index_bug: bool = False,
) -> list[Dropped]:
    """Concepts whose similarity to a class's name is at least `cutoff`, with the most similar class."""
    similarity = vectors @ class_vectors.T
    if compat_index_bug:
        np.fill_diagonal(similarity, -np.inf)
    nearest = similarity.argmax(axis=1)
    return [
        Dropped(concept, "class_similarity", classes[nearest[k]], float(similarity[k, nearest[k]]))
        for k, concept in enumerate(concepts)
        if similarity[k, nearest[k]] >= cutoff
    ]


def drop_near_pairs(concepts: Sequence[str], vectors: Vectors, cutoff: float) -> list[Dropped]:
    """Of each pair with a similarity of at least `cutoff`, the concept that is less similar to all concepts
    together (the more special one); of two that are equally so, the later one.

    Greedy in the order given; a pair of which one is already dropped is passed over.
    """
    if not len(concepts):
        return []
    means = vectors @ vectors.mean(axis=0)
    dropped: dict[int, Dropped] = {}
    for start in range(0, len(concepts), ROWS):
        block = vectors[start : start + ROWS] @ vectors.T
        for row, second in np.argwhere(block >= cutoff):
            first = start + row
            if second <= first or first in dropped or second in dropped:
                continue
            loser, keeper = (first, second) if means[first] < means[second] - TIE else (second, first)
            partner, value = concepts[keeper], float(block[row, second])
            dropped[loser] = Dropped(concepts[loser], "pair_similarity", partner, value)
    return [dropped[place] for place in sorted(dropped)]
