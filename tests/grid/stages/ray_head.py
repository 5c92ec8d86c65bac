"""A Ray cluster to join, started as people start one."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.grid.conftest import ROOT

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

    def __init__(self, folder: str, log: Path, job_server: bool = True, **environment: str) -> None:
        self.folder, self.has_job_server = folder, job_server
        gcs, dashboard, client, agent = free_ports(4)
        self.address, self.jobs = f"127.0.0.1:{gcs}", f"http://127.0.0.1:{dashboard}"
        self.environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": folder, **environment}
        self.environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = "0"  # nothing is worth waiting for
        self.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.ray = str(Path(sys.executable).parent / "ray")
        arguments = (
            "start", "--head", "--block", f"--port={gcs}", f"--dashboard-port={dashboard}",
            f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}",
            "--min-worker-port=0", "--max-worker-port=0", "--node-ip-address=127.0.0.1",
            "--num-cpus=2", f"--include-dashboard={str(job_server).lower()}", "--disable-usage-stats",
        )  # fmt: skip
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", END_WITH_PARENT, self.ray, *arguments],
                env=self.environment, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.log = log

    def wait(self) -> None:
        """Until it has started, and its job server answers."""
        deadline = time.monotonic() + 120
        while not self._answers():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.2)

    def _answers(self) -> bool:
        if not self.has_job_server:
            return "Ray runtime started" in self.log.read_text()
        with suppress(OSError), urllib.request.urlopen(f"{self.jobs}/api/version", timeout=10):
            return True
        return False

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


@contextmanager
def running_head(log: Path, job_server: bool = True, **environment: str) -> Iterator[Head]:
    """A head that answers, with these variables set for it alone."""
    # paths of sockets are short: not in a folder of pytest's
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        head = Head(folder, log, job_server, **environment)
        try:
            head.wait()
            yield head
        finally:
            head.stop()
