"""The repository's own rules that no linter knows."""

import ast
import statistics
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from grid.inputs.datasets import READERS
from grid.spec.drawings import GENERATORS

ROOT = Path(__file__).resolve().parents[1]
DATA = ("datasets/", "experiments/")
PACKAGES = ("components", "grid", "analysis", "benchmarks")


def component_folders() -> list[str]:
    """Every folder whose files are components: what a `FOLDER` says anywhere, and readers and generators."""
    found = {READERS, GENERATORS}
    for path in (ROOT / "components").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "FOLDER" and node.value:
                found.add(ast.literal_eval(node.value))
    return sorted(found)


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def test_datasets_holds_no_python() -> None:
    assert not list((ROOT / "datasets").rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_module_says_what_it_is_and_its_name_means_something(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "no docstring"
    assert path.stem not in {"utils", "helpers", "manager", "misc", "common"}
    if path.name == "__main__.py" or any("__main__" in ast.unparse(node) for node in tree.body[-1:]):
        classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
        assert not classes, "classes of a module run with -m would arrive on workers as __main__.X"


@pytest.mark.parametrize("folder", component_folders())
def test_a_component_is_named_as_its_file(folder: str) -> None:
    paths = [path for path in ROOT.glob(folder.replace(".", "/") + "/*.py") if path.stem != "__init__"]
    assert paths, "a folder of components without a component"
    for path in paths:
        tree = ast.parse(path.read_text())
        public = [n.name for n in tree.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]
        camel = "".join(part.capitalize() for part in path.stem.split("_"))
        assert camel in public, f"{path.name} has no class {camel}"


def tracked() -> list[Path]:
    """The files that are in the repository, without what is data."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [Path(name) for name in listed.stdout.split("\0") if name and not name.startswith(DATA)]


def test_a_file_has_one_reason_and_a_folder_can_be_seen_at_a_glance() -> None:
    """The longest file, the middle one, and the fullest folder (experiments are listed by their prefix)."""
    lines = {path: len((ROOT / path).read_text().splitlines()) for path in tracked() if path.suffix == ".py"}
    assert {path: n for path, n in lines.items() if n > 400} == {}
    assert statistics.median(lines.values()) <= 120
    full = {folder: n for folder, n in Counter(path.parent for path in tracked()).items() if n > 20}
    assert full == {}


def test_pins_name_no_host() -> None:
    for name in ("constraints.txt", "requirements.txt", "pyproject.toml"):
        assert "://" not in (ROOT / name).read_text(), name


def test_every_requirement_is_pinned() -> None:
    pins = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    wanted = [
        line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] != "#"
    ]
    assert [name for name in wanted if name.split("[")[0].lower().replace("_", "-") not in pins] == []
