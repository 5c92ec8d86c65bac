"""`python -m tests.mutants.score [PREFIX…]`: plants the deliberate faults of mutants.yaml, one at a time, in a copy of
the tree, and runs the tests nearest to each. Prints which are caught, the survivors and the score; exit status 1 below GOAL.

PREFIX: of the files whose faults are planted; all without one.
"""

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_name("mutants.yaml")
GOAL = 0.95
LIMIT = 600  # seconds of processor time for the tests of one fault: one that makes them run on is caught
WAIT = 7200  # seconds by the clock, after which they hang, or the machine has no time for them: nothing is proven
# exit status of pytest, and of one that was ended at LIMIT; any other says that no test was run, which proves nothing
VERDICTS = {0: "SURVIVED", 1: "caught", -signal.SIGXCPU: "over time"}


def groups() -> dict[str, dict[str, Any]]:
    """By file: `tests`, paths below tests/, and `faults`, pairs of a text in the file and its replacement."""
    table: dict[str, dict[str, Any]] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return table


def copied(folder: Path) -> None:
    """The tracked files as they are now, and those that git does not know yet but does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in set(filter(None, listed.stdout.split("\0"))):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def outcome(folder: Path, tests: list[str]) -> tuple[int, str]:
    """Exit status of these tests, which stop at the first that fails, and what they print."""
    done = subprocess.run(
        # the tests' own limits are by the clock, and a busy machine would pass for a fault that is seen
        [sys.executable, "-m", "pytest", "-qx", "-o", "timeout=0"] + [f"tests/{name}" for name in tests],
        cwd=folder,
        # without stored bytecode, which goes by a file's size and second and may be that of another fault
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT + 5)),
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT,
    )
    return done.returncode, done.stdout + done.stderr


def verdicts(folder: Path, file: str, tests: list[str], faults: list[list[str]]) -> Iterator[tuple[str, str]]:
    """Each fault in words, and its verdict. SystemExit with the tests' output where they fail without a fault, or
    cannot be run with one."""
    status, printed = outcome(folder, tests)
    if status != 0:
        sys.exit(f"{printed}\n{tests} must pass before a fault is planted in {file}")
    whole = (folder / file).read_text(encoding="utf-8")
    for text, replacement in faults:
        (folder / file).write_text(whole.replace(text, replacement), encoding="utf-8")
        status, printed = outcome(folder, tests)
        (folder / file).write_text(whole, encoding="utf-8")
        if status not in VERDICTS:
            sys.exit(f"{printed}\n{tests} cannot be run with {replacement!r} in {file}")
        yield f"{file}: {text.strip()!r} -> {replacement.strip()!r}", VERDICTS[status]


def main(prefixes: list[str]) -> int:
    """Plants the faults; the exit status."""
    start, found = time.monotonic(), {}
    with tempfile.TemporaryDirectory(prefix="mutants") as folder:
        copied(Path(folder))
        for file, group in groups().items():
            if not prefixes or file.startswith(tuple(prefixes)):
                for fault, verdict in verdicts(Path(folder), file, group["tests"], group["faults"]):
                    found[fault] = verdict
                    print(f"{verdict:9}  {fault}", flush=True)
    survivors = [fault for fault, verdict in found.items() if verdict == "SURVIVED"]
    caught, total = len(found) - len(survivors), max(len(found), 1)
    print(
        f"\n{caught} of {len(found)} faults caught: {caught / total:.1%}, in {time.monotonic() - start:.0f} s"
    )
    print("\n".join(["survivors:", *survivors]) if survivors else "no survivor")
    return int(caught < GOAL * len(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
