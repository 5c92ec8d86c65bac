"""`python -m grid concepts`: a concept vocabulary from a language model's answers and LF-CBM's filters."""

from pathlib import Path
from typing import Annotated

import typer

from components.vocabularies.prompts import KINDS


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
    from components.vocabularies.filters import Filters
    from grid.commands.vocabulary import Wanted, make_vocabulary

    rules = Filters(
        max_length=max_length,
        class_cutoff=class_cutoff,
        pair_cutoff=pair_cutoff,
        compat_index_bug=compat_index_bug,
    )
    make_vocabulary(
        Wanted(
            dataset=dataset,
            prompts=prompts,
            provider=provider,
            model=model,
            from_answers=from_answers,
            clip=clip,
            sentence_encoder=sentence_encoder,
            out=out,
            rules=rules,
            at_once=at_once,
            replace=replace,
        )
    )
