"""What a command answers, and the forms in which it can be printed."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

FORMS = {
    "json": "Print JSON: a list of row objects.",
    "csv": "Print CSV, with every column and digit.",
    "markdown": "Print a Markdown table.",
    "latex": "Print a LaTeX table (booktabs).",
}


@dataclass(frozen=True)
class Answer:
    """A table: `columns` of text for people, `rows` with `fields` for programs; `below` are lines for people."""

    title: str
    columns: Mapping[str, Sequence[Any]]
    rows: Sequence[Mapping[str, Any]]
    fields: Sequence[str]
    below: Sequence[str] = field(default=())


def answer(
    title: str, columns: Mapping[str, Any], table: "pd.DataFrame", below: Sequence[str] = ()
) -> Answer:
    """An answer whose rows for programs are those of a data frame."""
    from analysis.tables import records

    said = {name: list(values) for name, values in columns.items()}
    return Answer(title, said, records(table), [str(name) for name in table.columns], tuple(below))


def in_any_form(command: Callable[..., Answer]) -> Callable[..., None]:
    """The command with an option for each form; it prints what the command answers."""

    @functools.wraps(command)
    def printing(**arguments: Any) -> None:
        from analysis.terminal import print_answer

        forms = [name for name in FORMS if arguments.pop(f"as_{name}")]
        if len(forms) > 1:
            raise typer.BadParameter(f"one form at a time, not {' and '.join(f'--{name}' for name in forms)}")
        print_answer(command(**arguments), *forms)

    added = [
        inspect.Parameter(
            f"as_{name}",
            inspect.Parameter.KEYWORD_ONLY,
            default=False,
            annotation=Annotated[bool, typer.Option(f"--{name}", help=text)],
        )
        for name, text in FORMS.items()
    ]
    signature = inspect.signature(command)
    parameters = [*signature.parameters.values(), *added]
    printing.__signature__ = signature.replace(parameters=parameters, return_annotation=None)  # type: ignore[attr-defined]
    printing.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    return printing
