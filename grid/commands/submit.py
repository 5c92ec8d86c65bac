"""`python -m grid submit`: a run on a Ray cluster as a Ray job, with commit and dirty flag passed along."""

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from components.models.weights.checkpoints import WEIGHTS, weights_folder
from grid.free_text import has_credentials
from grid.stores.home import HOME, RESULTS_URL, STORAGE, TRACKING_URI, HomeError
from grid.stores.provenance import COMMIT, ROOT, git, stated_commit

PASSED_ON = ("CONCEPTGRID_DATA", HOME, RESULTS_URL, STORAGE, TRACKING_URI)
MAX_UPLOAD_BYTES = 100 * 2**20  # Ray refuses a larger working directory


def submit(spec: Path, arguments: Sequence[str], address: str, python: str, wait: bool) -> int:
    """Submits the run; returns the exit status: 0 if it succeeded (or was accepted, without `wait`).

    python: the interpreter on the cluster. Raises HomeError if no absolute home is set, or if the working
    directory is too large; ConnectionError if there is no cluster at `address`.
    """
    from ray.job_submission import JobStatus, JobSubmissionClient

    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    if not Path(environment.get(HOME, "")).is_absolute():
        raise HomeError(
            f"set {HOME} to an absolute path that the cluster can write: a job has no folder of its own"
        )
    if weights := weights_folder():
        environment[WEIGHTS] = str(weights)
    for name in sorted(environment):
        if has_credentials(environment[name]):
            print(
                f"note: the cluster shows the password in {name} to everyone who can list its jobs; leave it"
                " out, and set PGPASSFILE or MLFLOW_TRACKING_PASSWORD on the head"
            )
    environment[COMMIT] = json.dumps(stated_commit())
    _check_size()
    client = JobSubmissionClient(address)
    command = [python, "-m", "grid", "run", str(spec), *arguments]
    job = client.submit_job(
        entrypoint=shlex.join(command),
        runtime_env={"working_dir": str(ROOT), "env_vars": environment},
        metadata={"git_commit": stated_commit()["git_commit"] or "", "spec": str(spec)},
    )
    print(f"submitted {job}; follow it: ray job logs --follow {job} --address {address}")
    if not wait:
        return 0
    _follow(client, job)
    return 0 if client.get_job_status(job) == JobStatus.SUCCEEDED else 1


def _follow(client: object, job: str) -> None:
    import asyncio

    async def tail() -> None:
        async for lines in client.tail_job_logs(job):  # type: ignore[attr-defined]
            print(lines, end="", flush=True)

    asyncio.run(tail())


def _check_size() -> None:
    """HomeError if what would be uploaded (what git does not ignore) is more than Ray takes."""
    listed = git("ls-files", "-co", "--exclude-standard", "-z") or ""
    files = [ROOT / name for name in listed.split("\0") if name]
    total = sum(path.stat().st_size for path in files if path.is_file())
    if total > MAX_UPLOAD_BYTES:
        raise HomeError(
            f"the working directory has {total / 2**20:.0f} MiB, Ray takes {MAX_UPLOAD_BYTES / 2**20:.0f}:"
            " move data out of the repository"
        )
