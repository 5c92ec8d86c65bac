"""`python -m grid explain`: what a finished trial's concepts say of an image, and what edits change."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from grid.refused import Refused


def explain(
    trial: Annotated[str, typer.Argument(help="a trial's id, or the beginning of it")],
    image: Annotated[int, typer.Option(help="id of an image of the trial's data set")],
    point: Annotated[str | None, typer.Option(help="X,Y in pixels of the image")] = None,
    box: Annotated[str | None, typer.Option(help="L,T,R,B in pixels of the image")] = None,
    mask: Annotated[Path | None, typer.Option(help="picture of the image's size; above 0 is inside")] = None,
    concept: Annotated[
        str | None, typer.Option(help="concept to raise, in the region if there is one")
    ] = None,
    beta: Annotated[
        float | None, typer.Option(help="by so many of its standard deviations; below 0 lowers it")
    ] = None,
    edit: Annotated[
        str | None, typer.Option(help="concept whose weights are edited until the image is right")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="how many concepts are shown")] = 5,
    out: Annotated[Path | None, typer.Option(help="write the region's picture (PNG)")] = None,
    results: Annotated[str | None, typer.Option(help="results store")] = None,
    storage: Annotated[str | None, typer.Option(help="artifact store")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, for programs")] = False,
) -> None:
    """The strongest concepts in a region of an image, and predictions before and after an edit.

    Reads what a finished trial and its stages stored; no model sees an image. Without a region: the whole
    frame that the model sees. Methods without concept maps tell what each concept contributes.
    """
    from PIL import Image

    from grid.commands.explanation import Question, ask
    from grid.stores.world import open_world
    from grid.trials.finished import open_finished

    world = open_world(results, storage, create=False)
    question = Question(image, point, box, mask, concept, beta, edit, top)
    answer, picture = ask(open_finished(world, trial), question)
    if out is not None:
        if picture is None:
            raise Refused("--out draws a region: this method has no concept maps")
        Image.fromarray(picture).save(out)
    if as_json:
        typer.echo(json.dumps(answer, indent=1))
        return
    for line in _lines(answer):
        typer.echo(line)


def _lines(answer: dict[str, Any]) -> Iterator[str]:
    yield f"trial {answer['trial']} ({answer['method']}), image {answer['image']}, {answer['class']}"
    if "concepts" in answer:
        yield f"strongest concepts in {answer['region']}, in standard deviations:"
        yield from (f"  {one['activation']:+.2f}  {one['concept']}" for one in answer["concepts"])
    if "contributions" in answer:
        yield f"predicted {answer['predicted']}; what contributes most:"
        yield from (f"  {one['contribution']:+.2f}  {one['concept']}" for one in answer["contributions"])
    if "before" in answer:
        yield f"probabilities: {_probabilities(answer['before'])}"
    if "after" in answer:
        yield f"{answer['raised']} raised by {answer['beta']:g}: {_probabilities(answer['after'])}"
        if answer["sign_violation"]:
            yield "note: the pooled concept moved the other way, as it may under softmax pooling"
    if "edit" in answer:
        edit = answer["edit"]
        yield (
            f"weights of {edit['concept']} edited by {edit['delta']:+.3f} for {edit['for']}, against "
            f"{edit['against']}: of {edit['validation_images']} validation images {edit['corrected']} became "
            f"right, {edit['broken']} wrong"
        )


def _probabilities(of: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in of.items())
