"""A trial's pictures and files among the artifacts of its run, stored once where that can be."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import unquote, urlsplit

from grid.tracking.keys import escaped


def log_folder(client: Any, run_id: str, folder: Path, name: str) -> None:
    """The files of a folder as the run's artifacts under `name`: where these lie in a local folder too, as
    hard links, which take no space; else as a copy, which a server needs to show them."""
    place = local_folder(client.get_run(run_id).info.artifact_uri)
    with _named_for_mlflow(folder) as named:
        if place is None:
            client.log_artifacts(run_id, str(named), name)
        else:
            shutil.copytree(named, place / name, copy_function=_linked, dirs_exist_ok=True)


def local_folder(uri: str | None) -> Path | None:
    """Where a file:// URI points; None of all else."""
    parts = urlsplit(uri or "")
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _linked(source: str, target: str) -> None:
    Path(target).unlink(missing_ok=True)  # writing to it would write to the file of an earlier attempt
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


@contextmanager
def _named_for_mlflow(folder: Path) -> Iterator[Path]:
    """The folder, or where MLflow would refuse the names of some files a copy in which they are escaped."""
    files = [file.relative_to(folder) for file in sorted(folder.rglob("*")) if file.is_file()]
    names = {file: "/".join(map(escaped, file.parts)) for file in files}
    if all(str(file) == name for file, name in names.items()):
        yield folder
        return
    with TemporaryDirectory() as copy:
        for file, name in names.items():
            (Path(copy) / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / file, Path(copy) / name)
        yield Path(copy)
