"""Which configurations in the store the present spec of a search could propose."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.identity import canonical, canonical_json, configuration
from grid.spec.block import Block, Candidate
from grid.spec.space import At


@dataclass(frozen=True)
class Recalled:
    """A configuration in the store, and where in the spec it stands."""

    block: Block
    at: At
    candidate: Candidate


def recalled(blocks: Sequence[Block], entered: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[Recalled]:
    """Those of the configurations (method, full configuration) that the blocks have, each once, in order."""
    distinct = {canonical_json([name, config]): (name, config) for name, config in entered}
    for name, config in distinct.values():
        found = (known for block in blocks if block.method == name for known in _recall(block, config))
        if (first := next(found, None)) is not None:
            yield first


def _recall(block: Block, config: Mapping[str, Any]) -> Iterator[Recalled]:
    """The points of a block with this configuration."""
    for at in block.located(config):
        candidate = block.at(at)
        if canonical(configuration(candidate.method)) == canonical(config):
            yield Recalled(block, at, candidate)
