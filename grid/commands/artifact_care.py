"""`python -m grid artifacts`: what the store holds, whether it is whole, and what could go."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from grid.stores.artifacts import ArtifactStore, BrokenArtifact


@dataclass(frozen=True)
class Held:
    """One artifact: its manifest (None: unfinished), size, last use, and whether this results store has a
    trial that reads it."""

    key: str
    manifest: Mapping[str, Any] | None
    bytes: int
    last_used: datetime | None
    needed: bool

    def as_row(self) -> dict[str, Any]:
        """Plain values."""
        manifest = self.manifest or {}
        return {
            "key": self.key,
            "kind": manifest.get("kind", "(unfinished)"),
            "dataset": manifest.get("dataset"),
            "images": manifest.get("images"),
            "failed": manifest.get("failed"),
            "bytes": self.bytes,
            "last_used": self.last_used.isoformat() if self.last_used else None,
            "needed": self.needed,
        }


def held(store: ArtifactStore, in_use: set[str]) -> Iterator[Held]:
    """Every artifact of the store. in_use: keys that trials read by name; what those read is needed too."""
    manifests = {key: _manifest(store, key) for key in store.artifact_keys()}
    needed = _with_inputs(in_use, manifests)
    for key, manifest in manifests.items():
        yield Held(key, manifest, store.bytes(key), store.last_used(key), key in needed)


def _manifest(store: ArtifactStore, key: str) -> Mapping[str, Any] | None:
    """None if it is unfinished; of one that cannot be read, that it is broken: `verify` says how."""
    try:
        return store.manifest(key) if store.has(key) else None
    except BrokenArtifact:
        return {"kind": "(broken manifest)"}


def _with_inputs(keys: set[str], manifests: Mapping[str, Mapping[str, Any] | None]) -> set[str]:
    needed: set[str] = set()
    waiting = list(keys)
    while waiting:
        key = waiting.pop()
        if key in needed:
            continue
        needed.add(key)
        waiting.extend(((manifests.get(key) or {}).get("identity", {}).get("inputs") or {}).values())
    return needed


def removable(artifacts: Iterator[Held], older_than_days: float) -> Iterator[Held]:
    """Those that no trial of this results store needs, unused for so long."""
    limit = datetime.now(UTC) - timedelta(days=older_than_days)
    for artifact in artifacts:
        if not artifact.needed and (artifact.last_used is None or artifact.last_used < limit):
            yield artifact
