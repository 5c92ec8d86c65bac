"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

SpecPath = Annotated[Path, typer.Argument(help="the experiment's YAML file", metavar="SPEC")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="override a key: `--set search.trials=20`, `--set seeds=[0,1]`"),
]
Storage = Annotated[str | None, typer.Option(help="artifact store: a folder, s3://…, any fsspec URI")]
Results = Annotated[str | None, typer.Option(help="results store: sqlite:///… or postgresql://…")]
Address = Annotated[
    str | None, typer.Option(help="Ray cluster to join: auto or host:port; default: this machine")
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]
