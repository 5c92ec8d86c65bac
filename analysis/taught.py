"""What the small models that ship were taught, for every table that stands on them."""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import yaml

from grid.results.entry import flattened

TABLE = Path(__file__).resolve().parents[1] / "datasets" / "taught.yaml"


@cache
def _table() -> dict[str, str]:
    content: dict[str, str] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return content


def taught(configs: Iterable[str]) -> list[str]:
    """A line for each checkpoint of these configurations (JSON) that says what it was taught, by name."""
    values = {str(value) for config in set(configs) for _, value in flattened(json.loads(config))}
    return [f"{name} {text.strip()}" for name, text in sorted(_table().items()) if name in values]
