"""Benchmarks are run by hand; that they are there and can be imported is tested."""

import subprocess
import sys
from pathlib import Path


def test_a_name_that_is_none_is_refused_with_those_that_are():
    command = [sys.executable, "-m", "benchmarks", "speed"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    message = done.stderr.splitlines()[-1]
    assert message.startswith("no benchmark speed; there are ")
    named = message.partition("there are ")[2].split(", ")
    assert set(named) >= {"eac", "relevance_step", "sparse_layer", "trial_overhead"}
    assert all(Path("benchmarks", f"{name}.py").is_file() for name in named)
