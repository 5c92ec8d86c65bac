"""What the plan enters into the store for a trial, and the rows that it becomes."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from components.identity import canonical, canonical_json, digest

KnobPath = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TrialEntry:
    """A trial before it runs: `config` is the full nested configuration, `stages` the artifact
    keys it reads by the method's own names."""

    id: str
    method: str
    method_version: int
    dataset: str
    data_fingerprint: str
    seed: int
    config: Mapping[str, Any]
    stages: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def knobs(self) -> dict[str, Any]:
        """The canonical configuration without the seed."""
        return {name: value for name, value in canonical(self.config).items() if name != "seed"}

    @cached_property
    def config_id(self) -> str:
        """What all seeds of this configuration share."""
        return digest([self.method, self.method_version, *self._data, self.knobs])

    @property
    def _data(self) -> list[str]:
        return [self.dataset, self.data_fingerprint]

    def trial_row(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "method": self.method,
            "method_version": int(self.method_version),
            "dataset": self.dataset,
            "data_fingerprint": self.data_fingerprint,
            "seed": int(self.seed),
            "config": canonical_json(self.config),
            "config_id": self.config_id,
            "status": "pending",
            "attempt": 0,
        }

    def params(self) -> list[dict[str, Any]]:
        """The rows of `trial_param` without the trial's id: the same for all seeds."""
        return [
            {
                "name": ".".join(path),
                **_as_sql(value),
                "rest": digest([self.method, *self._data, _without(self.knobs, _swapped(path))]),
            }
            for path, value in flattened(self.knobs)
        ]


def param_rows(entries: Iterable[TrialEntry]) -> Iterator[dict[str, Any]]:
    """The rows of `trial_param`; each configuration is hashed once, not once for each seed."""
    shared: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        if entry.config_id not in shared:
            shared[entry.config_id] = entry.params()
        yield from ({"trial_id": entry.id, **row} for row in shared[entry.config_id])


def flattened(config: Mapping[str, Any], path: KnobPath = ()) -> Iterator[tuple[KnobPath, Any]]:
    """The leaves of a nested configuration; lists are leaves, and so is an empty mapping."""
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flattened(value, (*path, name))
        else:
            yield (*path, name), value


def shown_values(config: Mapping[str, Any]) -> dict[str, str]:
    """Knobs by dotted name, as `trial_param.value` shows them."""
    return {".".join(path): _shown(value) for path, value in flattened(canonical(config))}


def _as_sql(value: Any) -> dict[str, Any]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"number": float(value), "text": None, "value": _shown(value)}
    return {"number": None, "text": _shown(value), "value": _shown(value)}


def _shown(value: Any) -> str:
    """Text as it is; numbers, lists, booleans and null as JSON."""
    return value if isinstance(value, str) else canonical_json(value)


def _swapped(path: KnobPath) -> KnobPath:
    """Nested components are exchanged whole: their knobs differ with their kind."""
    return path[:-1] if path[-1] == "name" and len(path) > 1 else path


def _without(config: Mapping[str, Any], path: KnobPath) -> dict[str, Any]:
    head, *tail = path
    if not tail:
        return {name: value for name, value in config.items() if name != head}
    return {**config, head: _without(config[head], tuple(tail))}
