"""Pictures are stored once where MLflow's artifacts are files beside them, and what a trial left stays as it was."""

import errno
import os
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

from grid.results.store import ResultsStore
from grid.tracking.mirror import Mirror
from tests.grid.tracking.test_mirror import finish, runs, start

pytestmark = pytest.mark.slow


def left(folder: Path, attempt: int) -> Path:
    """A picture that an attempt of the trial left."""
    picture = folder / str(attempt) / "pictures" / "one.jpg"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"attempt %d" % attempt)
    return picture


def logged(uri: str, name: str) -> Path:
    """The picture in MLflow's own folder."""
    (run,) = runs(uri, name)
    return Path(url2pathname(urlsplit(run.info.artifact_uri).path)) / "pictures" / "one.jpg"


def test_a_picture_is_a_link_and_a_later_attempt_leaves_the_earlier_one_alone(
    uri: str, store: ResultsStore, mirror: Mirror, name: str, tmp_path: Path
) -> None:
    pictures = [left(tmp_path, attempt) for attempt in (1, 2)]
    trial_id, launch = start(store, name)
    finish(store, trial_id, (tmp_path / "1").as_uri())
    for _ in range(2):
        mirror.mirror_trial(trial_id)
        assert logged(uri, name).samefile(pictures[0])
    assert pictures[0].stat().st_nlink == 2
    store.reopen(trial_id)
    store.claim(trial_id, launch)
    finish(store, trial_id, (tmp_path / "2").as_uri(), attempt=2)
    mirror.mirror_trial(trial_id)
    assert logged(uri, name).samefile(pictures[1])
    assert [picture.read_bytes() for picture in pictures] == [b"attempt 1", b"attempt 2"]


def test_on_another_file_system_it_is_a_copy(
    uri: str,
    store: ResultsStore,
    mirror: Mirror,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(source: str, target: str) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refused)
    picture = left(tmp_path, 1)
    trial_id, _ = start(store, name)
    finish(store, trial_id, (tmp_path / "1").as_uri())
    for _ in range(2):
        mirror.mirror_trial(trial_id)
    assert not logged(uri, name).samefile(picture)
    assert logged(uri, name).read_bytes() == picture.read_bytes() == b"attempt 1"
