"""`python -m grid submit`: a run on a Ray cluster as a Ray job, with commit and dirty flag passed along."""

import json
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from components.models.weights.checkpoints import WEIGHTS, weights_folder
from grid.free_text import has_credentials
from grid.refused import SOMETHING_FAILED, Refused
from grid.stores.home import HOME, RESULTS_URL, STORAGE, TRACKING_URI, HomeError
from grid.stores.provenance import COMMIT, ROOT, git, stated_commit

PASSED_ON = ("CONCEPTGRID_DATA", HOME, RESULTS_URL, STORAGE, TRACKING_URI)
MAX_UPLOAD_BYTES = 100 * 2**20  # Ray refuses a larger working directory


def submit(spec: Path, arguments: Sequence[str], address: str, python: str, wait: bool) -> int:
    """Submits the run; returns the exit status: 0 if it succeeded (or was accepted, without `wait`).

    python: the interpreter on the cluster. Raises HomeError if no absolute home is set, or if the working
    directory is too large; Refused if no job server at `address` takes the job.
    """
    from ray.job_submission import JobStatus, JobSubmissionClient

    if not address.startswith(("http://", "https://")):
        raise Refused(f"job server {address!r}: give its address as http://host:8265")

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
    command = [python, "-m", "grid", "run", str(spec), *arguments]
    with _job_server(address):
        client = JobSubmissionClient(address)
        job = client.submit_job(
            entrypoint=shlex.join(command),
            runtime_env={"working_dir": str(ROOT), "env_vars": environment},
            metadata={"git_commit": stated_commit()["git_commit"] or "", "spec": str(spec)},
        )
    print(f"submitted {job}; follow it: ray job logs --follow {job} --address {address}")
    if not wait:
        return 0
    try:
        with _job_server(address):
            _follow(client, job)
            return 0 if client.get_job_status(job) == JobStatus.SUCCEEDED else 1
    except Refused as error:
        print(f"{error}; job {job} may go on without its log here")
        return SOMETHING_FAILED


@contextmanager
def _job_server(address: str) -> Iterator[None]:
    """Refused, in one line, if the job server does not answer or does not let us in."""
    from aiohttp import ClientError
    from ray.exceptions import AuthenticationError

    from grid.stages.address import TOKEN_AS_THERE

    try:
        yield
    except AuthenticationError as error:
        raise Refused(f"the job server at {address} wants another token: {TOKEN_AS_THERE}") from error
    except (ClientError, OSError, RuntimeError, ValueError) as error:
        raise Refused(f"the job server at {address}: {str(error).splitlines()[0]}") from error


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
