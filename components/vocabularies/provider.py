"""Who answers: the one thing that generation asks of a language model."""

from typing import Protocol


class ProviderError(RuntimeError):
    """A language model gave no usable answer; one line says why, without the key."""


class Provider(Protocol):
    """A language model. Called from several threads at once."""

    def answer(self, prompt: str) -> str:
        """The text that it answers to the prompt; ProviderError if there is none."""
        ...
