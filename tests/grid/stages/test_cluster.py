"""The cluster path: what would hang is refused, the cluster file is Ray's, and a submitted job runs."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml

from grid.commands.submit import submit
from grid.spec.spec import MethodResources, StageResources
from grid.stages.cluster import ClusterError, replicas_for, require_room
from grid.stages.cluster import cluster as connected
from grid.stores.home import HomeError
from tests.grid.conftest import ROOT, Shell


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


END_WITH_PARENT = (  # a program to be run, with its arguments: it is ended when these tests are killed
    "import ctypes, os, signal, sys; PR_SET_PDEATHSIG = 1;"
    "ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM); os.execv(sys.argv[1], sys.argv[1:])"
)


def free_ports(n: int) -> list[int]:
    """Ports that nothing listens on."""
    sockets = [socket.create_server(("", 0)) for _ in range(n)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def started_with(folder: str) -> list[psutil.Process]:
    """The processes that have this Ray folder in their environment: a head, and whatever it started."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("RAY_TMPDIR") == folder:
                found.append(process)
    return found


class Head:
    """A Ray head on free ports of this machine's loopback, with a folder of its own: `ray stop`, and a
    folder that others read the address from, would meddle with the other clusters of whoever runs this."""

    def __init__(self, folder: str, log: Path) -> None:
        self.folder = folder
        gcs, dashboard, client, agent = free_ports(4)
        self.address, self.jobs = f"127.0.0.1:{gcs}", f"http://127.0.0.1:{dashboard}"
        self.environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": folder}
        self.environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = "0"  # nothing is worth waiting for
        self.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.ray = str(Path(sys.executable).parent / "ray")
        arguments = (
            "start", "--head", "--block", f"--port={gcs}", f"--dashboard-port={dashboard}",
            f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}",
            "--min-worker-port=0", "--max-worker-port=0", "--node-ip-address=127.0.0.1",
            "--num-cpus=2", "--include-dashboard=true", "--disable-usage-stats",
        )  # fmt: skip
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", END_WITH_PARENT, self.ray, *arguments],
                env=self.environment, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.log = log

    def wait(self) -> None:
        """Until its job server answers."""
        deadline = time.monotonic() + 120
        while True:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            with suppress(OSError), urllib.request.urlopen(f"{self.jobs}/api/version", timeout=10):
                return
            time.sleep(0.2)

    def run(self, *arguments: str) -> str:
        """What `ray …` prints, with the same settings."""
        done = subprocess.run(
            [self.ray, *arguments], env=self.environment, cwd=ROOT,
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def stop(self) -> None:
        """Ends it and what it started, each by its process id."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(60)
        deadline = time.monotonic() + 60
        while left := started_with(self.folder):
            assert time.monotonic() < deadline, left
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=5)
        self.process.wait()


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    # paths of sockets are short: not in a folder of pytest's
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        head = Head(folder, tmp_path_factory.mktemp("head") / "head.log")
        try:
            head.wait()
            yield head
        finally:
            head.stop()


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


def refusal_of(address: str | None) -> str:
    with pytest.raises(ClusterError) as refused, connected(address):
        pass
    (line,) = str(refused.value).splitlines()
    return line


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nobody_listens_is_one_line_at_once(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"{scheme}127.0.0.1:{free_ports(1)[0]}"
    assert refusal_of(address).startswith(f"no Ray cluster at {address}: [Errno 111]")
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert address in refusal_of(None)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:8265", "here", "ray://", "127.0.0.1:99999", "a b:1", "h:"]
)
def test_an_address_of_another_form_is_one_line(address: str) -> None:
    assert address in refusal_of(address)


@pytest.mark.slow
def test_a_submitted_job_fills_the_results_store(
    head: Head, birds: Path, tmp_path: Path, shell: Shell
) -> None:
    overrides = [
        "--set", f"datasets.0.root={birds}", "--set", "seeds=[0]", "--set", "methods.1.recipe.epochs=1",
        "--set", "methods.0.recipe.epochs=1", "--set", "methods.2.recipe.epochs=1",
        "--set", "methods.1.k_top=5", "--set", "methods.1.tau_min_pixels=256", "--set", "methods.1.lambda_concept=0",
        "--set", "methods.2.tau_iou=0.8", "--set", "methods.2.lambda_concept=0", "--set", "methods.2.tau_min_pixels=256",
    ]  # fmt: skip
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
