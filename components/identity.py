"""Content hashes of configurations, and one random stream per purpose."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

DIGEST_LENGTH = 20  # hex characters: 80 bits, no collision expected below 10^11 objects


def canonical(value: Any) -> Any:
    """The one JSON value that stands for `value`: 5 and 5.0 are one, 0.1 + 0.2 and 0.3 are one.

    Mappings get string keys, sequences become lists, floats are rounded to 12 significant digits
    and become integers where they are whole. Raises TypeError on anything without such a form,
    ValueError on NaN and infinities.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return _canonical_float(float(value))
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("a configuration has text keys only")
        return {key: canonical(value[key]) for key in sorted(value)}
    if isinstance(value, Sequence):
        return [canonical(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no canonical form")


def _canonical_float(value: float) -> int | float:
    if not math.isfinite(value):
        raise ValueError(f"{value} cannot be part of an identity")
    if value.is_integer():
        return int(value)
    rounded = float(f"{value:.12g}")
    return int(rounded) if rounded.is_integer() else rounded


def canonical_json(value: Any) -> str:
    """`canonical(value)` as JSON with sorted keys and no spaces."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: Any) -> str:
    """Hash of `canonical_json(value)`: 20 hex characters."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:DIGEST_LENGTH]


def component_name(component: object) -> str:
    """The name of a component: that of the file which defines it."""
    return type(component).__module__.rpartition(".")[2]


def configuration(component: Any) -> dict[str, Any]:
    """All knobs of a component dataclass, nested ones included, as plain JSON values.

    A nested component carries its `name`, so that two kinds with equal knobs differ.
    """
    return {field.name: _plain(getattr(component, field.name)) for field in dataclasses.fields(component)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"name": component_name(value), **configuration(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return canonical(value)


def rng(seed: int, *purpose: str | int) -> np.random.Generator:
    """A random stream of its own for each (seed, purpose): `rng(3, "split", "toybirds")`."""
    text = canonical_json([seed, *purpose]).encode()
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text).digest()[:16], "big"))
