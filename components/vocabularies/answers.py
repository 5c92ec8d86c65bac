"""Answers of a language model: asked for, kept as they came, and read as lists of concepts."""

import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Event

from pydantic import BaseModel, ConfigDict, ValidationError

from components.vocabularies.prompts import ASKED, MAX_TOKENS, TEMPERATURE, prompt, template
from components.vocabularies.provider import Provider, ProviderError

BULLET = re.compile(r"(?:[-*•–—]+|\d+[.)](?=\s))\s*")
ENDS = " \t.,;*"  # what chat models put round a phrase


class AnswersError(ValueError):
    """Stored answers cannot be used; one line says why."""


class Answers(BaseModel):
    """What was asked, of whom, and every answer word for word.

    prompts: template by kind of question. answers: by kind, then by class as its card names it; ASKED texts
    each. provider is where the latest came from.
    """

    model_config = ConfigDict(extra="forbid")

    model: str
    provider: str = ""
    temperature: float = TEMPERATURE
    max_tokens: int = MAX_TOKENS
    prompts: dict[str, str]
    answers: dict[str, dict[str, list[str]]]

    def missing(self, kinds: Iterable[str], classes: Sequence[str]) -> list[tuple[str, str]]:
        """Pairs of kind and class that have not been answered ASKED times."""
        return [
            (kind, name)
            for kind in kinds
            for name in classes
            if len(self.answers.get(kind, {}).get(name, ())) < ASKED
        ]

    def differs(self, other: "Answers") -> str:
        """What was asked otherwise there than here, or nothing: then one may go on with the other."""
        for name in ("model", "temperature", "max_tokens"):
            if getattr(self, name) != getattr(other, name):
                return f"{name} {getattr(self, name)!r}, not {getattr(other, name)!r}"
        shared = self.prompts.keys() & other.prompts.keys()
        changed = [kind for kind in sorted(shared) if self.prompts[kind] != other.prompts[kind]]
        return f"another wording of {', '.join(changed)}" if changed else ""

    def concepts(self, kinds: Iterable[str], classes: Sequence[str]) -> dict[str, list[str]]:
        """The union of what all answers name: concepts in sorted order, each with its classes."""
        found: dict[str, dict[str, None]] = {}
        for kind in kinds:
            for name in classes:
                for answer in self.answers[kind][name]:
                    for concept in parse(answer):
                        found.setdefault(concept, {})[name] = None
        return {concept: list(found[concept]) for concept in sorted(found)}


def unanswered(model: str, provider: str, kinds: Iterable[str]) -> Answers:
    """The questions of these kinds, with no answer yet."""
    return Answers(
        model=model, provider=provider, prompts={kind: template(kind) for kind in kinds}, answers={}
    )


def parse(answer: str) -> list[str]:
    """The concepts that an answer lists, in its order: a line each, without dash, bullet or number.

    Dashes within a line stay ("a four-legged mammal"). Headings (lines that end in a colon or begin with #)
    are no concepts. LF-CBM splits at line ends before dashes only and so glues other lines together: its
    ImageNet list has "etched designsTibetan Terrier:".
    """
    lines = ["".join(c if c.isprintable() else " " for c in line).strip() for line in answer.splitlines()]
    listed = [BULLET.sub("", line, count=1) if BULLET.match(line) else line for line in lines]
    return [
        phrase.strip(ENDS)
        for phrase in listed
        if phrase.strip(ENDS) and not phrase.rstrip(ENDS).endswith(":") and not phrase.startswith("#")
    ]


def read_answers(path: Path) -> Answers:
    """AnswersError if the file is not there or is not of this form."""
    try:
        return Answers.model_validate_json(path.read_bytes())
    except OSError as error:
        raise AnswersError(f"no answers at {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise AnswersError(f"answers {path}: {place}: {first['msg']}") from error


def write_answers(answers: Answers, path: Path) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(answers.model_dump_json(indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def ask(
    answers: Answers,
    provider: Provider,
    questions: Sequence[tuple[str, str]],
    path: Path,
    at_once: int,
    progress: Callable[[int], None],
) -> None:
    """Asks each question (kind, class) ASKED times, `at_once` questions at a time, and adds what comes to
    `answers` and the file at `path` as it comes; progress(done) counts questions.

    At the first that fails no more are begun; the answers to those under way are kept, and ProviderError is
    raised.
    """
    stop = Event()  # futures that an executor cancels are never reported as completed

    def answered(kind: str, name: str) -> list[str] | None:
        try:
            return None if stop.is_set() else [provider.answer(prompt(kind, name)) for _ in range(ASKED)]
        except ProviderError:
            stop.set()
            raise

    failed: ProviderError | None = None
    with ThreadPoolExecutor(at_once) as pool:
        begun = {pool.submit(answered, *question): question for question in questions}
        try:
            for done, future in enumerate(as_completed(begun), 1):
                kind, name = begun[future]
                try:
                    texts = future.result()
                except ProviderError as error:
                    failed = failed or error
                    continue
                if texts is not None:
                    answers.answers.setdefault(kind, {})[name] = texts
                    write_answers(answers, path)
                    progress(done)
        finally:  # also where the user interrupts
            stop.set()
    if failed is not None:
        raise failed
