"""What the plan enters into the store for a trial, and the rows that it becomes."""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from components.identity import canonical, canonical_json, digest

KnobPath = tuple[str, ...]
GENERATOR = "generator"  # before the names of what drew the data


@dataclass(frozen=True, kw_only=True)
class TrialEntry:
    """A trial before it runs: `config` is the full nested configuration, `stages` the artifact
    keys it reads by the method's own names. drawing: see Dataset. variant: of its block in the experiment's
    spec, whose variants set the knobs `coupled`, by their dotted names."""

    id: str
    method: str
    method_version: int
    dataset: str
    data_fingerprint: str
    seed: int
    config: Mapping[str, Any]
    stages: Mapping[str, str] = field(default_factory=dict)
    drawing: Mapping[str, Any] = field(default_factory=dict)
    variant: str | None = None
    coupled: tuple[str, ...] = ()

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

    def asked_row(self, experiment: str) -> dict[str, Any]:
        """That the experiment asks for it, and as which variant."""
        asked = {"experiment": experiment, "trial_id": self.id}
        return {**asked, "variant": self.variant, "variant_rest": self.variant_rest}

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

    def params_of_data(self) -> list[dict[str, Any]]:
        """The rows for the knobs of the generator that drew the data: each pairs with trials on data that
        were drawn alike but for it."""
        drawing = canonical(self.drawing)
        return [
            {
                "name": ".".join(path),
                **_as_sql(value),
                "rest": digest([self.method, self.dataset, _without(drawing, path), self.knobs]),
            }
            for path, value in flattened(drawing)
            if path[0] == GENERATOR
        ]

    @property
    def variant_rest(self) -> str | None:
        """What two variants of the block share that differ in nothing else."""
        if self.variant is None:
            return None
        alike = self.knobs
        for path in self.coupled:
            alike = _without(alike, tuple(path.split(".")))
        return digest([self.method, *self._data, alike])


def param_rows(entries: Iterable[TrialEntry], known: Container[str]) -> Iterator[dict[str, Any]]:
    """The rows of `trial_param`; each configuration is hashed once, not once for each seed. Of trials that
    are `known`, by id, those of the data alone: the store may have them from before it kept these."""
    shared: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    for entry in entries:
        key = (entry.config_id, entry.id in known)
        if key not in shared:
            shared[key] = entry.params_of_data() if key[1] else [*entry.params(), *entry.params_of_data()]
        yield from ({"trial_id": entry.id, **row} for row in shared[key])


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
    if head not in config:
        return dict(config)
    if not tail:
        return {name: value for name, value in config.items() if name != head}
    return {**config, head: _without(config[head], tuple(tail))}
