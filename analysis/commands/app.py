"""The app of `python -m analysis`: what its commands share. Exit status 2: refused, with one line that says
why."""

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grid.free_text import presentable
from grid.stores.home import HomeError, results_url

if TYPE_CHECKING:
    from analysis.answer import Answer
    from grid.results.store import ResultsStore

FORMS = {
    "json": "Print JSON: a list of row objects.",
    "csv": "Print CSV, with every column and digit.",
    "markdown": "Print a Markdown table.",
    "latex": "Print a LaTeX table (booktabs).",
}

app = typer.Typer(
    help="Tables, comparisons and reports from the results store. Never writes to it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Results = Annotated[
    str | None, typer.Option("--results", help="URL of the results store.", show_default=False)
]
EveryForm = Annotated[
    bool, typer.Option("--all", help="Also trials that only an earlier form of an experiment asked for.")
]
Dataset = Annotated[str | None, typer.Option(help="One data set only.")]
Method = Annotated[str | None, typer.Option(help="One method only.")]
Metric = Annotated[str, typer.Option(help="Which number.")]
Split = Annotated[str, typer.Option(help="train, val or test.")]
Selection = Annotated[
    str | None,
    typer.Option(
        help="By which rule the weights were chosen; else as the experiment's spec says, or last.",
        show_default=False,
    ),
]


@contextmanager
def open_store(results: str | None) -> Iterator["ResultsStore"]:
    from grid.results.store import ResultsStore

    with refusals():
        store = ResultsStore.open(results_url(results), create=False)
        yield store
        store.close()


@contextmanager
def refusals(*kinds: type[Exception]) -> Iterator[None]:
    """What is refused is one line, and exit status 2."""
    from grid.results.database import ResultsUnreachable

    refused: tuple[type[Exception], ...] = (HomeError, ResultsUnreachable, LookupError, *kinds)
    try:
        yield
    except refused as error:
        print(presentable(f"error: {error.args[0]}"), file=sys.stderr)
        raise typer.Exit(2) from error


def in_any_form(command: "Callable[..., Answer]") -> Callable[..., None]:
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
