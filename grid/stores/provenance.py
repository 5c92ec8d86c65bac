"""Where a number comes from: commit, package versions, host, device."""

import json
import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "CONCEPTGRID_COMMIT"  # `python -m grid submit` passes it: a Ray job has no .git
PACKAGES = ("torch", "torchvision", "ray", "open_clip_torch", "scikit-image", "numpy", "pyarrow")


@cache
def commit() -> tuple[str | None, bool | None]:
    """The commit and whether the working tree differs from it; None where that cannot be known.

    Under a plain `ray job submit` the hash of the uploaded package stands for the commit.
    """
    if COMMIT in os.environ:
        stated = json.loads(os.environ[COMMIT])
        return stated["git_commit"], stated["git_dirty"]
    if (ROOT / ".git").exists():
        head = git("rev-parse", "HEAD")
        return head, bool(git("status", "--porcelain")) if head else None
    if ROOT.name.startswith("_ray_pkg_"):
        return ROOT.name.removeprefix("_ray_pkg_"), None
    return None, None


def stated_commit() -> dict[str, Any]:
    """`commit()` in the form in which COMMIT passes it on."""
    head, dirty = commit()
    return {"git_commit": head, "git_dirty": dirty}


def git(*arguments: str) -> str | None:
    """What git prints about this repository; None where it cannot say."""
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that make numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def provenance(device: str) -> dict[str, Any]:
    """What is recorded beside a result, never hashed."""
    return {
        **stated_commit(),
        "versions": versions(),
        "host": platform.node(),
        "device": device,
    }


def command_line() -> str:
    """The command that runs, for the records."""
    return " ".join(["python -m grid", *sys.argv[1:]])
