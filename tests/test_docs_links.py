"""What the documentation points at is there: links, anchors, paths, the tree of the README, the map of pages."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAP = ROOT / "docs/README.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
README_LINES = 180

ENDINGS = [
    "csv",
    "html",
    "j2",
    "json",
    "md",
    "py",
    "safetensors",
    "sh",
    "sql",
    "toml",
    "tsv",
    "txt",
    "yaml",
    "yml",
]
FENCE = re.compile(r"^```.*?^```", re.M | re.S)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SPAN = re.compile(r"`([^`\n]+)`")
PLACEHOLDER = re.compile(r"[<>…*{}]|^runs/|^~|://")
SPEC = re.compile(r"experiments/[\w\-]+\.yaml")
HEADING = re.compile(r"^#+ (.+)$", re.M)


def pages() -> list[Any]:
    return [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in PAGES]


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return FENCE.sub("", page.read_text())


def looks_like_a_path(span: str) -> bool:
    """Whether it names a file or folder of the repository: with a slash and a known ending, or a slash at its end."""
    if PLACEHOLDER.search(span) or " " in span or "/" not in span or span.startswith("/"):
        return False
    return span.endswith("/") or span.rpartition(".")[2] in ENDINGS


def anchors(page: Path) -> set[str]:
    """What a link may name after `#`, as GitHub makes it of the headings."""
    plain = (heading.replace("`", "").lower() for heading in HEADING.findall(prose(page)))
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(prose(page)):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", pages())
def test_paths_in_backticks_exist(page: Path) -> None:
    named = filter(looks_like_a_path, SPAN.findall(prose(page)))
    missing = [span for span in named if not any((base / span).exists() for base in (ROOT, page.parent))]
    assert not missing


@pytest.mark.parametrize("page", pages())
def test_specs_in_commands_exist(page: Path) -> None:
    assert [name for name in SPEC.findall(page.read_text()) if not (ROOT / name).is_file()] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


def test_the_map_links_every_page() -> None:
    linked = {(MAP.parent / target.partition("#")[0]).resolve() for target in LINK.findall(MAP.read_text())}
    below = {page for page in PAGES if page.is_relative_to(MAP.parent) and page != MAP}
    assert sorted(below - linked) == []


def tree() -> Iterator[tuple[list[Path], str]]:
    """The lines of the README's tree: the files or folders that a line is about, and its comment."""
    block = (
        (ROOT / "README.md").read_text().partition("## The tree")[2].partition("```\n")[2].partition("```")[0]
    )
    above: list[Path] = [ROOT]
    for line in block.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        names, _, comment = line.strip().partition("  ")
        about = [above[depth] / name for name in names.split(" ")]
        above[depth + 1 :] = [about[0]]
        yield about, comment


def test_the_tree_of_the_readme_is_the_repository() -> None:
    missing, lines = [], 0
    for about, comment in tree():
        lines += 1
        missing += [str(path) for path in about if not path.exists()]
        for word in re.findall(r"[\w/]+(?:\.\w+|/)(?=[\s,:;)]|$)", comment):
            bases = [*about, ROOT]
            if not any((base / word).exists() or list(base.glob(f"*/{word}")) for base in bases):
                missing.append(f"{about[0]}: {word}")
    assert lines > 20
    assert missing == []
