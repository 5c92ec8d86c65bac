"""Each remedy of the doctor names the key and the machine that count: to follow it to the letter mends it."""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from components.models.weights.checkpoints import ROOT
from grid.commands import doctor
from grid.commands.doctor import Finding, Places, fetchable, findings
from grid.spec.spec import load_spec
from grid.stages import cluster as clusters

NOWHERE = Places()
METHODS = [{"method": "standard", "recipe": {"epochs": 1}}]
OWN = {"method": "seg_mil_cbm", "segmenter": "slic", "recipe": {"epochs": 1}}


@pytest.fixture(autouse=True)
def bare_machine(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight cores, no GPU, the packages as pinned."""
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr(doctor, "_versions", lambda: Finding("package versions", True, "as pinned"))


@pytest.fixture
def missing(write_spec: Callable[..., Path], birds: Path) -> Callable[..., dict[str, Finding]]:
    """What the doctor finds missing, by its name, of a spec on the birds with these changes."""

    def run(*overrides: str, places: Places = NOWHERE, **content: Any) -> dict[str, Finding]:
        datasets = [{"name": "toybirds", "root": str(birds)}]
        spec = write_spec(**{"name": "s", "datasets": datasets, "methods": METHODS, **content})
        found = findings(load_spec(spec, overrides), places)
        return {finding.check: finding for finding in found if not finding.ok}

    return run


def settings(fix: str) -> list[str]:
    """The --set options of a remedy."""
    return re.findall(r"--set (\S+)", fix)


def test_nothing_is_missing_to_begin_with(missing: Callable[..., Any]) -> None:
    assert missing() == {}


def test_data_go_where_the_spec_says_or_its_own_position_is_set(
    missing: Callable[..., Any], birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A root in the spec goes before CONCEPTGRID_DATA: data that were put there were not found."""
    gone = tmp_path / "gone"
    datasets = [{"name": "toybirds", "root": str(birds)}, {"name": "waterbirds", "root": str(gone)}]
    fix = missing(datasets=datasets)["data set waterbirds"].fix
    assert f"It must lie in {gone}, or in the FOLDER that --set datasets.1.root=FOLDER says" in fix
    assert "CONCEPTGRID_DATA" not in fix
    assert missing(f"datasets.1.root={birds}", datasets=datasets) == {}
    gone.symlink_to(birds)
    assert missing(datasets=datasets) == {}

    named = ["waterbirds"]
    fix = missing(datasets=named)["data set waterbirds"].fix
    assert "It must lie in CONCEPTGRID_DATA/waterbirds (CONCEPTGRID_DATA is not set), or" in fix
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("CONCEPTGRID_DATA", str(tmp_path / "data"))
    assert (
        "It must lie in CONCEPTGRID_DATA/waterbirds, or" in missing(datasets=named)["data set waterbirds"].fix
    )
    (tmp_path / "data/waterbirds").symlink_to(birds)
    assert missing(datasets=named) == {}


def test_files_that_are_missing_go_to_the_folder_that_was_read(
    missing: Callable[..., Any], birds: Path, tmp_path: Path
) -> None:
    root = tmp_path / "some"
    shutil.copytree(birds, root)
    lost = sorted((root / "images").iterdir())[5]
    lost.unlink()
    lacking = missing(f"datasets.0.root={root}")["data set toybirds"]
    assert lacking.detail == f"1 of 128 image files are not in {root}, such as images/{lost.name}"
    assert f"It must lie in {root}, or" in lacking.fix


def test_weights_of_ones_own_are_put_there_not_fetched(
    missing: Callable[..., Any], tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`weights fetch mine/clip.safetensors` was the remedy, which knows no such name."""
    weights = tmp_path / "weights"
    monkeypatch.setenv("CONCEPTGRID_WEIGHTS", str(weights))

    def lacking(name: str, **options: Any) -> Finding:
        (found,) = missing(methods=[{**OWN, "clip": {"checkpoint": name}}], **options).values()
        return found

    assert lacking("mine").fix == "put it there, or correct `checkpoint:`"
    assert str(weights / "mine") in lacking("mine").detail
    shutil.copytree(tiny_clip, weights / "mine")
    assert missing(methods=[{**OWN, "clip": {"checkpoint": "mine"}}]) == {}
    for name in ("mine/clip.pt", "runs/best.safetensors", "datasets/toybirds/klip", "/data/clip"):
        assert lacking(name).fix == "put it there, or correct `checkpoint:`", name
    for name in ("ViT-L-14/openai", "someone/clip"):
        assert lacking(name).fix == f"python -m grid weights fetch {name}"
    assert "timm's repository of this name" in lacking("timm/deit3_base_patch16_224.fb_in1k").fix
    monkeypatch.delenv("CONCEPTGRID_WEIGHTS")
    fix = lacking("mine").fix
    assert fix == "set CONCEPTGRID_WEIGHTS to the folder that holds it, or correct `checkpoint:`"
    assert (
        lacking("a/b").fix == "set CONCEPTGRID_WEIGHTS to their folder, then python -m grid weights fetch a/b"
    )


def test_what_can_be_fetched_is_fetched_at_once() -> None:
    fetch = "python -m grid weights fetch"
    fixes = [
        f"{fetch} a/b",
        f"{fetch} c.pth --again",
        "put it there",
        f"set X, then {fetch} d{doctor.EVERYWHERE}",
    ]
    assert fetchable([Finding("w", False, "", fix) for fix in fixes]) == ["a/b", "d"]


@contextmanager
def two_machines(address: str | None) -> Iterator[Mapping[str, float]]:
    yield {"CPU": 16.0, "GPU": 0.0}


@pytest.mark.parametrize("by", ["--address", "RAY_ADDRESS", "job"])
def test_on_a_cluster_every_machine_needs_data_and_weights(
    missing: Callable[..., Any],
    write_spec: Callable[..., Path],
    birds: Path,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    by: str,
) -> None:
    """A run joins RAY_ADDRESS too; the doctor looked at this machine."""
    monkeypatch.setattr(clusters, "cluster", two_machines)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    monkeypatch.setenv("CONCEPTGRID_WEIGHTS", str(tmp_path / "weights"))
    if by == "RAY_ADDRESS":
        monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    if by == "job":
        monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    places = Places(address="ray://10.0.0.1:10001") if by == "--address" else NOWHERE
    content = {"datasets": ["waterbirds"], "methods": [{**OWN, "clip": {"checkpoint": "a/b"}}]}
    found = missing(places=places, **content)
    assert set(found) == {"data set waterbirds", "weights 'a/b'"}
    for finding in found.values():
        assert finding.fix.endswith("(on every machine of the cluster under the same path)")
    datasets = [{"name": "toybirds", "root": str(birds)}]
    spec = load_spec(write_spec(name="s", datasets=datasets, methods=METHODS))
    (told,) = (one for one in findings(spec, places) if one.check == "every machine of the cluster")
    assert told.detail == (
        f"must see, under the same path: {birds}, {tmp_path / 'weights'}, {home / 'artifacts'}"
    )


def test_a_cluster_that_is_not_there_is_set_where_it_was(
    missing: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "set --address to" in missing(places=Places(address="127.0.0.1:1"))["Ray cluster 127.0.0.1:1"].fix
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert "set RAY_ADDRESS to" in missing()["Ray cluster 127.0.0.1:1"].fix
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    assert "give auto, or host:port" in missing()["Ray cluster nonsense"].detail
    monkeypatch.delenv("RAY_ADDRESS")
    assert missing() == {}


@pytest.mark.parametrize(
    "resources",
    [
        {"methods": {"standard": {"num_cpus": 64}}},
        {"methods": {"default": {"num_cpus": 64}}},
        {"stages": {"classifier": {"num_cpus": 9}}},
        {"stages": {"default": {"num_cpus": 64}}},
        {"stages": {"backbone_images": {"replicas": 9}}},
        {"stages": {"default": {"replicas": {"min": 9}}}, "methods": {"standard": {"num_cpus": 64}}},
        {"stages": {"backbone_images": {"replicas": 9, "num_gpus": 1}}},
    ],
)
@pytest.mark.parametrize("cores", [8, 1])
def test_what_takes_too_many_cpus_is_set_by_its_own_key(
    missing: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, resources: dict[str, Any], cores: int
) -> None:
    """The remedy was resources.stages.KIND of everything."""
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    taken: list[str] = []
    for _ in range(4):  # a finding of each name is shown at a time here
        found = missing(*taken, resources=resources)
        taken += [setting for finding in found.values() for setting in settings(finding.fix)]
    assert found == {}
    assert taken


def test_a_place_that_cannot_be_written_is_set_by_what_says_it_now(
    missing: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier: start the database server, where it was a file; and the variable, where the option said it."""
    blocked, free = tmp_path / "file", tmp_path / "free"
    blocked.touch()
    monkeypatch.setenv("CONCEPTGRID_HOME", str(blocked))  # the doctor itself ended with a traceback
    found = missing()
    assert set(found) == {"results store", "artifact store"}
    assert {finding.fix for finding in found.values()} == {
        "set CONCEPTGRID_HOME to a folder that can be written"
    }
    monkeypatch.setenv("CONCEPTGRID_HOME", str(free))
    assert missing() == {}

    monkeypatch.setenv("CONCEPTGRID_RESULTS_URL", f"sqlite:///{blocked}/x/results.db")
    monkeypatch.setenv("CONCEPTGRID_STORAGE", str(blocked / "x"))
    found = missing()
    assert found["results store"].fix.startswith("set CONCEPTGRID_RESULTS_URL to")
    assert found["artifact store"].fix.startswith("set CONCEPTGRID_STORAGE to")
    given = Places(results=f"sqlite:///{free}/results.db", storage=str(free / "artifacts"))
    assert missing(places=given) == {}
    monkeypatch.setenv("CONCEPTGRID_RESULTS_URL", given.results or "")
    monkeypatch.setenv("CONCEPTGRID_STORAGE", given.storage or "")
    assert missing() == {}
    bad = Places(results=f"sqlite:///{blocked}/x/results.db", storage=str(blocked / "x"))
    found = missing(places=bad)
    assert found["results store"].fix.startswith("give --results a database or file that can be written")
    assert found["artifact store"].fix.startswith("give --storage a folder or bucket that can be written")
    monkeypatch.setenv("CONCEPTGRID_RESULTS_URL", "postgresql://me@127.0.0.1:1/none")
    assert missing()["results store"].fix.startswith(
        "start the database server, or set CONCEPTGRID_RESULTS_URL"
    )


def test_mlflow_that_is_not_known_or_away(
    missing: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for uri, starts in (
        ("http://127.0.0.1:1", "start it"),
        ("foo://x", "unset MLFLOW"),
        ("mysql://h/x", "unset"),
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        (found,) = missing().values()
        assert found.fix.startswith(starts), uri
        assert found.fix.endswith("unset MLFLOW_TRACKING_URI: then it is a file in CONCEPTGRID_HOME")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert missing() == {}


def test_the_disk_that_counts_is_that_of_the_places(
    missing: Callable[..., Any], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was the repository's, and no setting changed that."""
    full, roomy = tmp_path / "full", tmp_path / "roomy"
    for folder in (full, roomy):
        folder.mkdir()

    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(
        "grid.commands.doctor.shutil.disk_usage",
        lambda path: Usage(0 if Path(path).is_relative_to(full) else 2**40),
    )
    monkeypatch.setenv("CONCEPTGRID_HOME", str(full / "home"))
    assert missing()["disk"].fix == "make room, or set CONCEPTGRID_HOME to a folder on another disk"
    monkeypatch.setenv("CONCEPTGRID_HOME", str(roomy / "home"))
    assert missing() == {}


def test_python_in_datasets_is_moved(
    missing: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(ROOT / "constraints.txt", tmp_path)
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets/__init__.py").touch()
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    assert missing()["datasets/ holds no Python"].fix == "move these files out of it"
    (tmp_path / "datasets/__init__.py").rename(tmp_path / "__init__.py")
    assert missing() == {}
