"""`python -m grid concepts`: a concept vocabulary from a language model's answers and LF-CBM's filters."""

import os
import re
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from components.data.card import DATASETS, Card, load_card
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
from grid.names import unknown
from grid.progress import Display, console
from grid.refused import Refused
from grid.run import SOMETHING_FAILED

KEY = "CONCEPTGRID_PROVIDER_KEY"
NAME = re.compile(r"[\w\-]+", re.ASCII)
EXAMPLES = 3  # dropped concepts that the table shows of each filter


def concepts(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="a card's name: a folder of datasets/")],
    prompts: Annotated[
        str, typer.Option(help="kinds of questions; LF-CBM asks only `important` for CUB")
    ] = ",".join(KINDS),
    provider: Annotated[
        str | None,
        typer.Option(metavar="URL", help="OpenAI-compatible address, such as https://api.openai.com/v1"),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="the provider's name of the model")
    ] = None,
    from_answers: Annotated[
        Path | None, typer.Option(metavar="FILE", help="nobody is asked: answers that an earlier call kept")
    ] = None,
    clip: Annotated[str, typer.Option(help="CLIP checkpoint for similarities")] = "ViT-B-16/openai",
    sentence_encoder: Annotated[
        str, typer.Option(help="sentence encoder checkpoint for similarities")
    ] = "sentence-transformers/all-mpnet-base-v2",
    out: Annotated[str, typer.Option(metavar="NAME", help="the vocabulary's name")] = "generated",
    max_length: Annotated[int, typer.Option(min=1, help="of a concept, in characters")] = 30,
    class_cutoff: Annotated[float, typer.Option(help="similarity to a class's name that drops")] = 0.85,
    pair_cutoff: Annotated[float, typer.Option(help="similarity of two concepts that drops one")] = 0.90,
    compat_index_bug: Annotated[
        bool, typer.Option("--compat-index-bug", help="filter by class similarity as LF-CBM's code does")
    ] = False,
    at_once: Annotated[int, typer.Option(min=1, help="questions on their way at a time")] = 4,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="of a vocabulary that is there; its answers are used again where the same model gave them",
        ),
    ] = False,
) -> None:
    """Makes a concept vocabulary: a language model is asked about each class, then LF-CBM's filters choose.

    `export CONCEPTGRID_PROVIDER_KEY=…`, then `python -m grid concepts waterbirds
    --provider https://api.openai.com/v1 --model gpt-4o-mini`. A server of one's own, such as
    http://localhost:11434/v1, needs no key. Both encoders must be here: `python -m grid weights fetch
    ViT-B-16/openai sentence-transformers/all-mpnet-base-v2`.

    Writes three files to datasets/DATASET: NAME.txt, the vocabulary, which a spec calls `vocabulary: NAME`;
    NAME.report.json, every dropped concept with the filter that dropped it; NAME.answers.json, every answer
    word for word. Broken off, the same command goes on: what was answered is not asked again. To filter
    otherwise without asking: `--from-answers datasets/DATASET/NAME.answers.json --out OTHER`.

    Exit status 1 if a question was not answered or no concept is left, 2 if it was refused before any work.
    """
    card, kinds = load_card(dataset), _kinds(prompts)
    folder = DATASETS / card.name
    if not NAME.fullmatch(out):
        raise Refused(f"--out {out!r}: a vocabulary's name has letters, digits, _ and - only")
    if (folder / f"{out}.txt").exists() and not replace:
        raise Refused(f"{card.name} has a vocabulary {out!r}: --out OTHER, or --replace makes it anew")
    if (from_answers is None) == (provider is None and model is None):
        raise Refused("who answers? give --provider URL and --model NAME, or --from-answers FILE")
    if not os.access(folder, os.W_OK):
        raise Refused(f"cannot write to {folder}")
    rules = Filters(
        max_length=max_length,
        class_cutoff=class_cutoff,
        pair_cutoff=pair_cutoff,
        compat_index_bug=compat_index_bug,
    )
    kept_at = folder / f"{out}.answers.json"
    asked = _provider(provider, model) if from_answers is None else None
    answers = _stored(from_answers or kept_at, asked, kinds, card, replace)
    names = [readable(name) for name in card.classes]
    embed = _encoders(clip, sentence_encoder, names)  # before anybody is paid
    if asked is not None:
        _ask(answers, asked, kinds, card, kept_at, at_once)
    elif from_answers is not None and from_answers.resolve() != kept_at.resolve():
        write_answers(answers, kept_at)
    found = answers.concepts(kinds, card.classes)
    kept, dropped = rules.apply(found, names, embed)
    classes = {concept: found[concept] for concept in kept}
    report = Report(card.name, answers, kinds, rules, clip, sentence_encoder, classes, dropped)
    _write(folder / f"{out}.report.json", report.text())
    if report.kept:
        _write(folder / f"{out}.txt", report.vocabulary())
    _show(report, folder / f"{out}.txt")
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
