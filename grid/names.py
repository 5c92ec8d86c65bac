"""Names of components: a component is called as its file is; nothing lists them."""

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from typing import Any


class UnknownName(LookupError):  # noqa: N818  reads as the message does
    """A name that no file has; the message gives the closest one and all of them."""


def names(folder: str) -> list[str]:
    """Names of the components in a package such as `components.methods`; imports none of them."""
    package = importlib.import_module(folder)
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def component_class(folder: str, name: str) -> type[Any]:
    """The one public class that `<folder>/<name>.py` defines; UnknownName if there is no such file."""
    if name not in names(folder):
        raise UnknownName(unknown(name, names(folder), folder.rpartition(".")[2].removesuffix("s")))
    module = importlib.import_module(f"{folder}.{name}")
    (found,) = (
        member
        for member_name, member in inspect.getmembers(module, inspect.isclass)
        if member.__module__ == module.__name__ and not member_name.startswith("_")
    )
    return found


def unknown(name: str, known: Iterable[str], noun: str) -> str:
    """One line: what was given, the closest that exists, and all that exist."""
    known = sorted(known)
    closest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {closest[0]!r}? " if closest else ""
    return f"unknown {noun} {name!r}; {hint}there is: {', '.join(known)}"
