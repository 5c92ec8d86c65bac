"""Prompts of GroundingDINO: which concepts are asked in one text, and which tokens are whose."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPECIAL = 2  # tokens of a text that are no concept's: [CLS] and [SEP]


@dataclass(frozen=True)
class Prompt:
    """One text for the model, and of each concept in it: its place in the list that was asked for, and its
    first character and the one after its last."""

    text: str
    concepts: list[int]
    spans: list[tuple[int, int]]

    def tokens(self, characters: NDArray[np.int64]) -> list[NDArray[np.bool_]]:
        """Which of the T tokens are each concept's, bool (T,): all, special ones too, where it is alone.

        characters (T, 2): first character of each token and the one after its last; equal for special ones.
        """
        if len(self.spans) == 1:
            return [np.ones(len(characters), bool)]
        return self.words(characters)

    def words(self, characters: NDArray[np.int64]) -> list[NDArray[np.bool_]]:
        """Which of the T tokens lie in each concept's text, bool (T,), so neither special ones nor its full
        stop; characters as in `tokens`."""
        first, end = characters.T
        return [(first >= start) & (end <= stop) & (first < end) for start, stop in self.spans]


def prompts(concepts: Sequence[str], tokenizer: Any, per_prompt: int, limit: int) -> list[Prompt]:
    """Prompts that ask for all concepts in order, each filled up to `per_prompt` concepts and `limit` tokens.

    A concept is put as the library puts it: in lower case, with one full stop. Raises ValueError for a
    concept without tokens, or with more than fit.
    """
    if not concepts:
        return []
    texts = [concept.lower().strip().rstrip(". ") for concept in concepts]
    lengths = [len(tokens) + 1 for tokens in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    groups: list[list[int]] = []
    taken = 0
    for place, length in enumerate(lengths):  # with its full stop
        if length == 1:
            raise ValueError(f"concept {concepts[place]!r} is empty")
        if length + SPECIAL > limit:
            raise ValueError(
                f"concept {concepts[place]!r} has {length - 1} tokens, more than the "
                f"{limit - SPECIAL - 1} that fit into a prompt"
            )
        if not groups or len(groups[-1]) == per_prompt or taken + length > limit:
            groups.append([])
            taken = SPECIAL
        groups[-1].append(place)
        taken += length
    return [one_prompt(texts, group) for group in groups]


def one_prompt(texts: Sequence[str], group: list[int]) -> Prompt:
    """The prompt that asks for the texts at these places, each without its full stop."""
    spans = []
    start = 0
    for place in group:
        spans.append((start, start + len(texts[place])))
        start += len(texts[place]) + len(". ")
    return Prompt(". ".join(texts[place] for place in group) + ".", group, spans)
