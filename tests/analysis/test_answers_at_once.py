"""What a person asks in passing is answered without importing what computes."""

import subprocess
import sys

import pytest

HEAVY = (
    "torch", "torchvision", "timm", "open_clip", "transformers", "ray", "mlflow", "optuna", "pandas", "pyarrow",
    "scipy", "sklearn", "skimage", "matplotlib", "alembic", "fsspec", "PIL",
)  # fmt: skip
RUN = """
import runpy, sys
module, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
except SystemExit as end:
    status = end.code
print(status, [name for name in {heavy} if name in sys.modules])
"""
QUESTIONS = [
    ("grid", "--help"),
    ("grid", "run", "--help"),
    ("grid", "weights", "--help"),
    ("grid", "concepts", "--help"),
    ("grid", "status", "small", "--results", "URL"),
    ("grid", "show", "standard-1-0", "--results", "URL"),
    ("analysis", "--help"),
    ("analysis", "sql", "SELECT 1 AS one", "--results", "URL"),
]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: " ".join(question[:3]))
def test_nothing_heavy_is_imported(question: tuple[str, ...], url: str) -> None:
    command = [sys.executable, "-c", RUN.format(heavy=HEAVY), *(url if x == "URL" else x for x in question)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["0 []"], done.stdout + done.stderr
