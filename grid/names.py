"""Names of components: a component is called as its file is; nothing lists them."""

import importlib
import importlib.util
import inspect
import pkgutil
from typing import Any

from components.data.written import unknown


class UnknownName(LookupError):  # noqa: N818  reads as the message does
    """A name that no file has; the message gives the closest one and all of them."""


def names(*folders: str) -> list[str]:
    """Names of the components in packages such as `components.data.readers`; imports none of them.

    A folder may hold one star: `components.studies.*.methods` are the methods of all studies. Packages in a
    folder are no components. ValueError if two files have one name.
    """
    return sorted(_modules(*folders))


def component_class(folder: str, name: str) -> type[Any]:
    """The one public class that `<folder>/<name>.py` defines; UnknownName if there is no such file."""
    known = _modules(folder)
    if name not in known:
        raise UnknownName(unknown(name, known, folder.rpartition(".")[2].removesuffix("s")))
    module = importlib.import_module(known[name])
    (found,) = (
        member
        for member_name, member in inspect.getmembers(module, inspect.isclass)
        if member.__module__ == module.__name__ and not member_name.startswith("_")
    )
    return found


def _modules(*folders: str) -> dict[str, str]:
    """The dotted module of each name."""
    found: dict[str, str] = {}
    for package in (package for folder in folders for package in _packages(folder)):
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
            if module.ispkg:
                continue
            if module.name in found:
                raise ValueError(f"{module.name!r} is {found[module.name]} and {package}.{module.name}")
            found[module.name] = f"{package}.{module.name}"
    return found


def _packages(folder: str) -> list[str]:
    """The packages that a folder with a star stands for."""
    above, star, below = folder.partition(".*")
    if not star:
        return [folder]
    path = importlib.import_module(above).__path__
    islands = sorted(module.name for module in pkgutil.iter_modules(path) if module.ispkg)
    each = [f"{above}.{island}{below}" for island in islands]
    return [package for package in each if importlib.util.find_spec(package) is not None]
