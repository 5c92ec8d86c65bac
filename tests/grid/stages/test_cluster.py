"""The cluster path: what would hang is refused, the cluster file is Ray's, and a submitted job runs."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from grid.commands.submit import submit
from grid.refused import Refused
from grid.spec.spec import MethodResources, StageResources
from grid.stages.address import ClusterError
from grid.stages.cluster import replicas_for, require_room
from grid.stores.home import HomeError
from tests.grid.conftest import ROOT, Shell
from tests.grid.stages.ray_head import Head, free_ports, running_head


@pytest.mark.parametrize(
    ("resources", "cluster", "expected"),
    [
        ({}, {"CPU": 8}, (7, 7)),
        ({}, {"CPU": 2}, (1, 1)),
        ({"num_cpus": 0.75}, {"CPU": 2}, (1, 1)),
        ({"num_cpus": 0.75, "replicas": 2}, {"CPU": 2}, (2, 2)),
        ({"num_gpus": 1}, {"CPU": 16, "GPU": 4}, (4, 4)),
        ({"num_gpus": 0.5}, {"CPU": 16, "GPU": 2}, (4, 4)),
        ({"num_gpus": 0.1}, {"CPU": 64, "GPU": 2}, (20, 20)),
        ({"num_gpus": 0.6}, {"CPU": 16, "GPU": 3}, (3, 3)),
        ({"replicas": {"min": 2, "max": 5}}, {"CPU": 8}, (2, 5)),
        ({"replicas": {"max": 90}}, {"CPU": 8}, (1, 7)),
        ({"replicas": {"min": 1}, "num_gpus": 1}, {"CPU": 16, "GPU": 3}, (1, 3)),
    ],
)
def test_replicas_fit_the_cluster(
    resources: dict[str, float], cluster: dict[str, float], expected: tuple[int, int]
) -> None:
    assert replicas_for(StageResources(**resources), cluster) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("resources", "cluster", "reason"),
    [
        ({"replicas": 2}, {"CPU": 2}, "do not leave"),
        ({"replicas": 9}, {"CPU": 8}, "do not leave"),
        ({}, {"CPU": 1}, "do not leave"),
        ({"replicas": {"min": 9}}, {"CPU": 8}, "do not leave"),
        ({"num_gpus": 1}, {"CPU": 8}, "needs 1 GPU; the cluster has 0"),
    ],
)
def test_what_would_hang_without_a_word_is_refused(
    resources: dict[str, float], cluster: dict[str, float], reason: str
) -> None:
    with pytest.raises(ClusterError, match=reason):
        replicas_for(StageResources(**resources), cluster)  # type: ignore[arg-type]


def test_a_trial_that_never_fits_is_refused() -> None:
    with pytest.raises(ClusterError, match="needs 4 CPU"):
        require_room(MethodResources(num_cpus=4), {"CPU": 2}, "a trial")


def test_rays_own_validator_accepts_the_cluster_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(yaml.safe_load((ROOT / "cluster.yaml").read_text())))


def test_submit_needs_a_home_that_outlives_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for home in (None, "runs"):
        monkeypatch.delenv("CONCEPTGRID_HOME", raising=False)
        if home:
            monkeypatch.setenv("CONCEPTGRID_HOME", home)
        with pytest.raises(HomeError, match="absolute path"):
            submit(Path("experiments/demo.yaml"), [], "http://127.0.0.1:1", sys.executable, wait=True)


def test_submit_to_what_is_no_job_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCEPTGRID_HOME", str(tmp_path))
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    for address, reason in ((nobody, "give its address as http"), (f"http://{nobody}", "Failed to connect")):
        with pytest.raises(Refused, match=reason) as refused:
            submit(Path("experiments/demo.yaml"), [], address, sys.executable, wait=True)
        assert nobody in str(refused.value)
        assert len(str(refused.value).splitlines()) == 1


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    with running_head(tmp_path_factory.mktemp("head") / "head.log") as head:
        yield head


WHICH_CLUSTER = """
import ray, sys
from grid.stages.cluster import cluster
with cluster(sys.argv[1] if sys.argv[1:] else None):
    print(ray.get_runtime_context().gcs_address)
"""


@pytest.mark.slow
def test_a_cluster_that_runs_here_is_joined_by_its_address_alone(head: Head) -> None:
    """Ray's own `ray.init()` joins whatever runs on the machine, and then refuses to be told its CPUs."""

    def joined(*arguments: str, **environment: str) -> str:
        command = [sys.executable, "-c", WHICH_CLUSTER, *arguments]
        settings = {**head.environment, **environment}
        return subprocess.run(
            command, env=settings, cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout

    port = f":{head.address.rpartition(':')[2]}"  # the host may be told by another of its addresses
    assert port not in joined()
    assert port in joined("auto")
    assert port in joined(RAY_ADDRESS=head.address)


@pytest.mark.slow
def test_a_submitted_job_fills_the_results_store(
    head: Head, birds: Path, tmp_path: Path, shell: Shell
) -> None:
    bags = "method: seg_mil_cbm, clip: {checkpoint: datasets/toybirds/clip}, recipe: {epochs: 1}"
    few = (
        f"[{{method: standard, recipe: {{epochs: 1}}}}, {{{bags}, segmenter: [felzenszwalb, ground_truth]}}]"
    )
    overrides = [
        "--set",
        f"datasets=[{{name: toybirds, root: {birds}}}]",
        "--set",
        "seeds=[0]",
        "--set",
        f"methods={few}",
    ]
    log = head.run(
        "job", "submit", "--address", head.jobs, "--working-dir", ".",
        "--runtime-env-json", f'{{"env_vars": {{"CONCEPTGRID_HOME": "{shell.home}"}}}}',
        "--", sys.executable, "-m", "grid", "run", "experiments/demo.yaml", *overrides,
    )  # fmt: skip
    assert "succeeded" in log
    trials = shell.sql("SELECT method, status, git_commit FROM trial")
    assert len(trials) == 3
    assert {trial["status"] for trial in trials} == {"done"}
    assert all(trial["git_commit"] for trial in trials), (
        "the hash of the uploaded package stands for the commit"
    )
    assert (shell.home / "mlflow.db").exists()

    # our own submit passes the commit along, and finds nothing left to do
    shell.environment["RAY_AUTH_MODE"] = "disabled"  # as the head has it
    again = shell.run("grid", "submit", "experiments/demo.yaml", "--address", head.jobs, *overrides)
    assert "nothing to run" in again

    # without a home, the job refuses before any work
    without = {k: v for k, v in shell.environment.items() if k != "CONCEPTGRID_HOME"}
    refused = subprocess.run(
        [sys.executable, "-m", "grid", "run", "experiments/demo.yaml"],
        cwd=tmp_path, env={**without, "PYTHONPATH": str(ROOT), "RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert refused.returncode == 2
