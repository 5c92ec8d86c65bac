"""Making a concept vocabulary: questions, filters, and the three files that are written."""

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.table import Table

from components.data.card import DATASETS, Card, load_card
from components.data.written import unknown
from components.vocabularies.answers import (
    Answers,
    AnswersError,
    ask,
    read_answers,
    unanswered,
    write_answers,
)
from components.vocabularies.filters import FILTERS, Embed, Filters
from components.vocabularies.openai_compatible import OpenAiCompatible
from components.vocabularies.prompts import ASKED, KINDS, readable
from components.vocabularies.provider import ProviderError
from components.vocabularies.report import Report
from grid.progress import Display, console
from grid.refused import SOMETHING_FAILED, Refused

KEY = "CONCEPTGRID_PROVIDER_KEY"
NAME = re.compile(r"[\w\-]+", re.ASCII)
EXAMPLES = 3  # dropped concepts that the table shows of each filter


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What `python -m grid concepts` was asked for; see its options."""

    dataset: str
    prompts: str
    provider: str | None
    model: str | None
    from_answers: Path | None
    clip: str
    sentence_encoder: str
    out: str
    rules: Filters
    at_once: int
    replace: bool


def make_vocabulary(wanted: Wanted) -> None:
    """Asks, filters and writes; exit status 1 if a question was not answered or no concept is left. Raises
    Refused before anybody is paid."""
    card, kinds = load_card(wanted.dataset), _kinds(wanted.prompts)
    folder = DATASETS / card.name
    if not NAME.fullmatch(wanted.out):
        raise Refused(f"--out {wanted.out!r}: a vocabulary's name has letters, digits, _ and - only")
    if (folder / f"{wanted.out}.txt").exists() and not wanted.replace:
        raise Refused(f"{card.name} has a vocabulary {wanted.out!r}: --out OTHER, or --replace makes it anew")
    if (wanted.from_answers is None) == (wanted.provider is None and wanted.model is None):
        raise Refused("who answers? give --provider URL and --model NAME, or --from-answers FILE")
    if not os.access(folder, os.W_OK):
        raise Refused(f"cannot write to {folder}")
    kept_at = folder / f"{wanted.out}.answers.json"
    asked = _provider(wanted.provider, wanted.model) if wanted.from_answers is None else None
    answers = _stored(wanted.from_answers or kept_at, asked, kinds, card, wanted.replace)
    names = [readable(name) for name in card.classes]
    embed = _encoders(wanted.clip, wanted.sentence_encoder, names)  # before anybody is paid
    if asked is not None:
        _ask(answers, asked, kinds, card, kept_at, wanted.at_once)
    elif wanted.from_answers is not None and wanted.from_answers.resolve() != kept_at.resolve():
        write_answers(answers, kept_at)
    found = answers.concepts(kinds, card.classes)
    kept, dropped = wanted.rules.apply(found, names, embed)
    classes = {concept: found[concept] for concept in kept}
    report = Report(
        card.name, answers, kinds, wanted.rules, wanted.clip, wanted.sentence_encoder, classes, dropped
    )
    _write(folder / f"{wanted.out}.report.json", report.text())
    if report.kept:
        _write(folder / f"{wanted.out}.txt", report.vocabulary())
    _show(report, folder / f"{wanted.out}.txt")
    if not report.kept:
        typer.echo("no concept is left: no vocabulary was written", err=True)
        sys.exit(SOMETHING_FAILED)


def _kinds(prompts: str) -> tuple[str, ...]:
    kinds = tuple(dict.fromkeys(kind.strip() for kind in prompts.split(",")))
    for kind in kinds:
        if kind not in KINDS:
            raise Refused(unknown(kind, KINDS, "kind of question"))
    return kinds


def _provider(url: str | None, model: str | None) -> OpenAiCompatible:
    if not url or not model:
        raise Refused("--provider URL and --model NAME go together")
    try:
        return OpenAiCompatible(url=url, model=model, key=os.environ.get(KEY, "").strip())
    except ValueError as error:
        raise Refused(str(error)) from error


def _stored(
    path: Path, asked: OpenAiCompatible | None, kinds: tuple[str, ...], card: Card, replace: bool
) -> Answers:
    """The answers to go on with. Refused where they are to another question, or not all there and nobody is
    to be asked."""
    wanted = unanswered(asked.model, asked.url, kinds) if asked else None
    if wanted is not None and not path.exists():
        return wanted
    try:
        stored = read_answers(path)
    except AnswersError as error:
        if wanted is not None and replace:
            return wanted
        raise Refused(str(error)) from error
    if wanted is None:
        missing = stored.missing(kinds, card.classes)
        if missing:
            kind, name = missing[0]
            raise Refused(f"answers {path}: {len(missing)} missing, the first: {kind} of {name}")
        return stored
    other = stored.differs(wanted)
    if other and not replace:
        raise Refused(f"{path} holds answers from {other}: --out OTHER, or --replace asks anew")
    if other:
        return wanted
    return stored.model_copy(update={"provider": wanted.provider, "prompts": stored.prompts | wanted.prompts})


def _ask(
    answers: Answers, asked: OpenAiCompatible, kinds: tuple[str, ...], card: Card, path: Path, at_once: int
) -> None:
    """Asks what has no answer yet; exit status 1 at the first failure, with what was answered kept."""
    questions = answers.missing(kinds, card.classes)
    if not questions:
        return
    with Display() as display:
        task = display.task(f"asking {asked.model} about {card.name}", len(questions), "questions")
        try:
            ask(answers, asked, questions, path, at_once, task.update)
        except ProviderError as error:
            typer.echo(
                f"not answered: {error}; what was answered is kept: the same command goes on", err=True
            )
            sys.exit(SOMETHING_FAILED)
        task.finish(f"{len(questions)} questions, each {ASKED} times, in {task.seconds:.1f} s")


def _encoders(clip: str, sentence_encoder: str, names: list[str]) -> Embed:
    """Both encoders, loaded, that can read the names of the classes."""
    import torch

    from components.models.weights.loading import WrongWeights
    from components.vocabularies.similarity import load_encoders

    try:
        embed = load_encoders(clip, sentence_encoder, "cuda" if torch.cuda.is_available() else "cpu")
        embed(names)
    except (WrongWeights, ValueError) as error:
        raise Refused(str(error)) from error
    return embed


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _show(report: Report, path: Path) -> None:
    shown = Table(box=None, pad_edge=False)
    shown.add_column("filter", no_wrap=True)
    shown.add_column("dropped", justify="right")
    shown.add_column("for example")
    for name in FILTERS:
        dropped = [one for one in report.dropped if one.filter == name]
        examples = [
            one.concept
            if one.partner is None
            else f"{one.concept} ({one.partner}{'' if one.similarity is None else f' {one.similarity:.3f}'})"
            for one in dropped[:EXAMPLES]
        ]
        shown.add_row(name, str(len(dropped)), ", ".join(examples))
    output = console()
    output.print(shown, markup=False, emoji=False)
    output.print(f"{len(report.kept)} of {report.named} concepts kept", markup=False)
    if report.kept:
        output.print(f"vocabulary: {path}", markup=False)
    output.print(f"report: {path.with_suffix('.report.json')}", markup=False)
