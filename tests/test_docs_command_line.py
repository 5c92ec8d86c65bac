"""docs/command-line.md lists every command, and its completion for bash completes them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/command-line.md").read_text()
SCRIPT = re.search(r"^```bash\n(_conceptgrid\(\) .*?)^```", PAGE, re.M | re.S)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("bash") is None, reason="no bash"),
]


def completed(*words: str) -> set[str]:
    """What Tab offers after `python` and these words, of which the last is being typed."""
    assert SCRIPT is not None
    line = " ".join(f"'{word}'" for word in ("python", *words))
    ask = f"""{SCRIPT[1]}
COMP_WORDS=({line}) COMP_CWORD={len(words)}
_conceptgrid {sys.executable}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "--norc", "-c", ask], capture_output=True, text=True, cwd=ROOT, check=False
    )
    return set(done.stdout.split())


def listed(program: str) -> set[str]:
    """The commands of a program in the page's table."""
    return set(re.findall(rf"^\| `python -m {program} ([\w-]+)", PAGE, re.M))


@pytest.mark.parametrize("program", ["grid", "analysis"])
def test_the_page_lists_every_command_and_tab_completes_it(program: str) -> None:
    assert completed("-m", program, "") == listed(program)


def test_tab_completes_beginnings_groups_and_options() -> None:
    assert completed("-m", "grid", "ru") == {"run"}
    assert completed("-m", "grid", "artifacts", "") == {"ls", "verify", "gc"}
    assert completed("-m", "analysis", "leaderboard", "--sp") == {"--split"}


def test_tab_leaves_other_programs_and_files_to_the_shell() -> None:
    assert completed("-m", "pytest", "") == set()
    assert completed("-m", "grid", "run", "experiments/de") == set()
