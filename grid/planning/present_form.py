"""Which configurations in the store the present spec of a search could propose, and as which parameters."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.identity import canonical, canonical_json, configuration
from components.method import Method
from grid.spec.space import Space


@dataclass(frozen=True)
class Recalled:
    """A configuration in the store as a point of the spec's space. values: by knob, a choice as the position
    in its list."""

    space: Space
    values: Mapping[str, Any]
    method: Method


def recalled(spaces: Sequence[Space], entered: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[Recalled]:
    """Those of the configurations (method, full configuration) that the spaces have, each once, in order."""
    points = [_Points.of(space) for space in spaces]
    distinct = {canonical_json([name, config]): (name, config) for name, config in entered}
    for name, config in distinct.values():
        found = (known for one in points if one.space.method == name and (known := one.recall(config)))
        if (first := next(found, None)) is not None:
            yield first


def chosen(space: Space, name: str, value: Any) -> Any:
    """The value of a parameter: of a choice, the item at this position of its list."""
    return space.choices[name][value] if name in space.choices else value


@dataclass(frozen=True)
class _Points:
    """A space with the canonical value of each item of its choices."""

    space: Space
    items: Mapping[str, list[Any]]

    @classmethod
    def of(cls, space: Space) -> "_Points":
        first = space.first()
        items = {
            name: [canonical(configuration(space.build({**first, name: item}))[name]) for item in choices]
            for name, choices in space.choices.items()
        }
        return cls(space, items)

    def recall(self, config: Mapping[str, Any]) -> Recalled | None:
        """The point of this configuration, if the space has it."""
        space, values = self.space, dict[str, Any]()
        for name, items in self.items.items():
            if canonical(config.get(name)) not in items:
                return None
            values[name] = items.index(canonical(config.get(name)))
        for name, ends in space.ranges.items():
            if not isinstance(config.get(name), int | float) or not ends.low <= config[name] <= ends.high:
                return None
            values[name] = config[name]
        method = space.build({**space.fixed, **{k: chosen(space, k, v) for k, v in values.items()}})
        same = canonical(configuration(method)) == canonical(config)
        return Recalled(space, values, method) if same else None
