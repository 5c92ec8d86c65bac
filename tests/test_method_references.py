"""Every reference to a page of `docs/` leads somewhere, and none leads to a document that readers do not have.

A reference names a page, and may name what it means on it, by one equation or several, or by a heading in
quotes: `docs/<page>.md, eq. 3`, `docs/<page>.md, eqs. 3-5 and 7`, `docs/<page>.md, "Losses"`. Before a heading
there may be items of its numbered list: `step 2 of docs/<page>.md, "Losses"`. It may go on in the next line of a
docstring or a comment.
"""

import re
import subprocess
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SUFFIXES = (".py", ".yaml", ".md", ".sql")
FOLDERS = "analysis|benchmarks|components|datasets|experiments|grid|tests"

GAP = r"(?:\s+#\s+|\s+)"
NUMBERS = rf"\d+(?:(?:\s*[-–]\s*|{GAP}to{GAP}|,{GAP}|{GAP}and{GAP})\d+)*"
REFERENCE = re.compile(
    rf"(?:\b(?:[Pp]ropert(?:y|ies)|[Ss]teps?){GAP}(?P<items>{NUMBERS}){GAP}of{GAP})?"
    rf"(?P<page>\bdocs/[\w./-]+\.md\b)"
    rf"(?:,{GAP}(?:eqs?\.{GAP}(?P<equations>{NUMBERS})"
    rf"|(?P<headings>\"[^\"]+\"(?:{GAP}and{GAP}\"[^\"]+\")*)))?"
)
SECTION = r"[A-J]\d{1,2}(?:\.\d{1,2})?"
INVISIBLE = re.compile(  # sections of documents that are no part of the project
    rf"\b[Ss]pec(?:ification)?(?:'s)?(?:{GAP}of{GAP}[\w-]+)?,?{GAP}\(?[A-Z]\d+"  # (spec of X, B2), its spec, D6
    rf"|\({SECTION}(?:[,;)]|{GAP}steps?\b)"  # (A9.5), (E1 step 6)
    rf"|(?<=\"\"\"){SECTION}\b[.:,;]"  # a docstring that begins with B8.9:
    rf"|\b{SECTION}{GAP}of{GAP}the{GAP}spec"
    rf"|\(design,"
)

Pages = Callable[[str], str | None]  # the text of a page, None where there is no such file


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    this = Path(__file__).relative_to(ROOT).as_posix()  # which quotes references that lead nowhere
    return [path for path in listed.stdout.splitlines() if path.endswith(SUFFIXES) and path != this]


def page(path: str) -> str | None:
    return (ROOT / path).read_text() if (ROOT / path).is_file() else None


def problems(path: str, text: str, pages: Pages) -> list[str]:
    """What is wrong with the references of a file, each as path:line: what."""
    found = [
        (m.start(), f"{' '.join(m[0].split())!r} is no document of the project")
        for m in INVISIBLE.finditer(text)
    ]
    for match in REFERENCE.finditer(text):
        content = pages(match["page"])
        missing = [f"{match['page']} is not there"] if content is None else list(_missing(match, content))
        found += [(match.start("page"), problem) for problem in missing]
    return [
        f"{path}:{text.count(chr(10), 0, start) + 1}: {problem}"
        for start, problem in sorted(found, key=itemgetter(0))
    ]


def _missing(match: re.Match[str], content: str) -> Iterator[str]:
    name = match["page"]
    for number in numbers(match["equations"] or ""):
        if not re.search(rf"^\*\*Equation {number}\*\*", content, re.MULTILINE):
            yield f"{name} has no equation {number}"
    sections = sections_of(content)
    for heading in re.findall(r'"([^"]+)"', match["headings"] or ""):
        heading = re.sub(GAP, " ", heading)
        if heading not in sections:
            yield f"{name} has no heading {heading!r}"
            continue
        for number in numbers(match["items"] or ""):
            if not re.search(rf"^{number}\. ", sections[heading], re.MULTILINE):
                yield f"{name}, {heading!r} has no item {number}"


def numbers(text: str) -> list[int]:
    """The numbers of "3", "3-5", "3 to 5", "3, 5 and 7-9"."""
    found: list[int] = []
    for first, last in re.findall(rf"(\d+)(?:(?:\s*[-–]\s*|{GAP}to{GAP})(\d+))?", text):
        found += range(int(first), int(last or first) + 1)
    return found


def sections_of(content: str) -> dict[str, str]:
    """The text under each heading of a page, to the next heading of any level."""
    parts = re.split(r"^#+ (.+)$", content, flags=re.MULTILINE)
    return dict(zip((heading.strip() for heading in parts[1::2]), parts[2::2], strict=True))


def test_every_reference_leads_somewhere() -> None:
    found = [problem for path in tracked() for problem in problems(path, (ROOT / path).read_text(), page)]
    assert not found, "\n".join(["references that lead nowhere:", *found])


def test_the_files_that_pages_name_are_there() -> None:
    named = re.compile(rf"`((?:{FOLDERS})/[\w./-]+)`")
    found = [
        f"{path}:{number}: {name}"
        for path in tracked()
        if path.startswith("docs/methods/")
        for number, line in enumerate((ROOT / path).read_text().splitlines(), 1)
        for name in named.findall(line)
        if not (ROOT / name).exists()
    ]
    assert not found, "\n".join(["files that are not there:", *found])


def test_the_equations_of_a_page_are_numbered_without_gap() -> None:
    for path in tracked():
        if path.startswith("docs/methods/"):
            content = (ROOT / path).read_text()
            labels = [int(n) for n in re.findall(r"^\*\*Equation (\d+)\*\*", content, re.MULTILINE)]
            tags = [int(n) for n in re.findall(r"\\tag\{(\d+)\}", content)]
            assert labels == tags == list(range(1, len(labels) + 1)), path


PAGE = "# A\n\n**Equation 1** (a).\n\n$$ x \\tag{1} $$\n\n## The losses\n\n1. one\n2. two\n\n## Rest\n\n**Equation 2** (b).\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see docs/a.md, and docs/a.md.", []),
        ("docs/a.md, eq. 1", []),
        ("docs/a.md,\n    eq. 1", []),
        ("# docs/a.md,\n# eq. 1", []),
        ('(docs/a.md, "The losses")', []),
        ('# docs/a.md, "The\n# losses" and "Rest"', []),
        ('steps 1 and 2 of docs/a.md, "The losses"', []),
        ("docs/b.md", ["f:1: docs/b.md is not there"]),
        ("\ndocs/a.md, eqs. 1-3", ["f:2: docs/a.md has no equation 3"]),
        ("docs/a.md, eqs. 2 and 4", ["f:1: docs/a.md has no equation 4"]),
        ('docs/a.md, "Losses"', ["f:1: docs/a.md has no heading 'Losses'"]),
        ('docs/a.md, "The losses" and "B"', ["f:1: docs/a.md has no heading 'B'"]),
        ('Property 3 of\ndocs/a.md, "The losses"', ["f:2: docs/a.md, 'The losses' has no item 3"]),
        ("(spec A4)", ["f:1: 'spec A4' is no document of the project"]),
        ("the spec of\n  X-Y, B2", ["f:1: 'spec of X-Y, B2' is no document of the project"]),
        ("decides alone (A9.5)", ["f:1: '(A9.5)' is no document of the project"]),
        ('"""C6: the same', ["f:1: 'C6:' is no document of the project"]),
        ("by D1 of the specification", ["f:1: 'D1 of the spec' is no document of the project"]),
        ("an experiment's spec says more, and so does an A100 (A100)", []),
    ],
)
def test_references_are_followed(text: str, expected: list[str]) -> None:
    assert problems("f", text, {"docs/a.md": PAGE}.get) == expected


def test_ranges_of_numbers() -> None:
    assert numbers("3") == [3]
    assert numbers("3-5") == numbers("3 to 5") == numbers("3–5") == [3, 4, 5]
    assert numbers("3, 5 and 7-9") == [3, 5, 7, 8, 9]
