"""What people write, read strictly: text files, YAML, and names that nothing has.

One meaning or none: what could be read in two ways is refused in one line with file and place.
"""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

NO_SUCH_VALUE = AttributeError, LookupError, TypeError, ValueError  # `!!int x`, a month 13, 5,000 digits
UNWRITABLE = re.compile("[\0\ud800-\udfff]")  # NUL, and half of a surrogate pair
TEXT_KEY, MERGE_KEY = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"


class TextError(ValueError):
    """A file cannot be read as what it is meant to be; one line with the file, the place and what to do."""


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, without a byte order mark; TextError for anything else."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise TextError(f"{path}: {error.strerror}") from error
    wrong = raw.find(b"\0")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wrong = error.start
    if wrong >= 0:
        line = raw.count(b"\n", 0, wrong) + 1
        raise TextError(
            f"{path}, line {line}: byte {raw[wrong]:#04x} is no UTF-8 text; save the file as UTF-8"
        )
    return text


def read_yaml(path: Path) -> Any:
    """The content of a YAML file; TextError if it cannot be read."""
    return parse_yaml(read_text(path), str(path))


def parse_yaml(text: str, origin: str) -> Any:
    """The plain values of a YAML document; `origin` is named in errors.

    Keys are text, and no mapping has one twice. What an alias stands for is a copy, so that a change of one
    place leaves the others. 1e-3 is a number, as in YAML 1.2. TextError in one line.
    """
    try:
        loader = _Loader(text)
        loader.name = origin
        return loader.get_single_data()
    except TextError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise TextError(f"{origin}{line}: not YAML: {error.problem or error.context}") from error
    except RecursionError as error:
        raise TextError(f"{origin}: not YAML: nested too deeply") from error
    except (yaml.YAMLError, *NO_SUCH_VALUE) as error:
        raise TextError(f"{origin}: not YAML: {' '.join(str(error).split())}") from error


class _Loader(yaml.SafeLoader):
    """Of plain values: text keys, each once, and nothing shared between two places."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.tag not in (TEXT_KEY, MERGE_KEY):
                raise TextError(f"{self.name}, line {line}: the key {key.value!r} is not text; quote it")
            if key.value in lines:
                first = lines[key.value]
                raise TextError(f"{self.name}: key {key.value!r} stands twice, in lines {first} and {line}")
            lines[key.value] = line
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if isinstance(node, yaml.ScalarNode) and (found := UNWRITABLE.search(node.value)):
            line = node.start_mark.line + 1
            raise TextError(f"{self.name}, line {line}: {found[0]!a} in a text: no file or database takes it")
        self.constructed_objects.pop(node, None)  # else an alias is the same object as its anchor
        return super().construct_object(node, deep=True)


# YAML 1.1 wants a dot and a signed exponent: without this rule 1e-3 is text
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def unknown(name: str, known: Iterable[str], noun: str) -> str:
    """One line: what was given, the closest that exists, and all that exist."""
    known = sorted(known)
    closest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {closest[0]!r}? " if closest else ""
    return f"unknown {noun} {name!r}; {hint}there is: {', '.join(known)}"


def one_line(name: str) -> str:
    """The name of a file as one line of a message can hold it: as it is, or quoted with escapes."""
    return name if name.isprintable() else repr(name)
