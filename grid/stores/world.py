"""One world: the stores and hashes that a command works on, opened or refused before any work."""

import threading
from dataclasses import dataclass

from components.data.fingerprint import FileHashes
from grid.results.store import ResultsStore
from grid.stores.artifacts import ArtifactStore
from grid.stores.home import home, refuse_throw_away_places, results_url, storage_uri
from grid.stores.storage import StorageError

PROBE = ".probe"
PATIENCE = 20.0  # seconds for a storage to answer


@dataclass(frozen=True)
class World:
    """The results store, the artifact store, and the memory of file hashes."""

    results: ResultsStore
    store: ArtifactStore
    hashes: FileHashes


def open_world(results: str | None, storage: str | None, create: bool = True) -> World:
    """Opens the places given, or those of the environment.

    Raises HomeError in a Ray job whose results would be lost, ResultsUnreachable, StorageError.
    """
    url, uri = results_url(results), storage_uri(storage)
    refuse_throw_away_places(url, uri)
    store = ArtifactStore(uri)
    if create:
        probe_writable(store)
    return World(ResultsStore.open(url, create), store, FileHashes(home() / "file_hashes.json"))


def probe_writable(store: ArtifactStore) -> None:
    """StorageError if nothing can be written to the store, or if it does not answer."""
    failed: list[Exception] = []

    def attempt() -> None:
        try:
            store.storage.write(PROBE, b"")
            store.storage.delete_file(PROBE)
        except Exception as error:  # each file system has its own
            failed.append(error)

    thread = threading.Thread(target=attempt, daemon=True)  # some clients try for a quarter of an hour
    thread.start()
    thread.join(PATIENCE)
    if thread.is_alive():
        raise StorageError(f"storage {store.storage.uri} does not answer within {PATIENCE:g} s")
    for error in failed:
        if isinstance(error, StorageError):
            raise error
        raise StorageError(f"storage {store.storage.uri} is not writable: {error}") from error
