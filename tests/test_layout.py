"""The repository's own rules that no linter knows."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMPONENTS = {
    "components/methods",
    "components/models/segmenters",
    "components/models/box_segmenters",
    "components/models/detectors",
    "components/models/backbones",
    "components/models/attributions",
    "components/models/relevances",
    "components/readers",
    "components/generators",
}
PACKAGES = ("components", "grid", "analysis", "benchmarks")


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


@pytest.mark.parametrize("folder", sorted(COMPONENTS))
def test_a_component_is_named_as_its_file(folder: str) -> None:
    for path in (ROOT / folder).glob("*.py"):
        if path.stem == "__init__":
            continue
        tree = ast.parse(path.read_text())
        public = [n.name for n in tree.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]
        camel = "".join(part.capitalize() for part in path.stem.split("_"))
        assert camel in public, f"{path.name} has no class {camel}"


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
