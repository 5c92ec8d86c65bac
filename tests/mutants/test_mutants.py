"""The table of deliberate faults fits the tree: `make mutants` can plant each of them, and has tests to run."""

import ast

import pytest

from tests.mutants import score

GROUPS = score.groups()


@pytest.mark.parametrize("file", GROUPS)
def test_the_text_of_a_fault_occurs_once_and_its_tests_are_there(file):
    whole = (score.ROOT / file).read_text(encoding="utf-8")
    assert GROUPS[file]["tests"]
    assert all((score.ROOT / "tests" / name).is_file() for name in GROUPS[file]["tests"])
    for text, replacement in GROUPS[file]["faults"]:
        assert whole.count(text) == 1, text
        assert replacement != text
        if file.endswith(".py"):
            ast.parse(whole.replace(text, replacement))


def test_there_are_enough_of_them_and_none_twice():
    """Also in the grid and the analysis, not in one file more than in all others."""
    faults = [(file, *fault) for file, group in GROUPS.items() for fault in group["faults"]]
    assert len(faults) == len({tuple(fault) for fault in faults}) >= 60
    packages = [file.partition("/")[0] for file, *_ in faults]
    assert min(packages.count(package) for package in ("components", "grid", "analysis")) >= 5


@pytest.mark.slow
def test_a_fault_that_tests_see_is_told_from_one_that_they_do_not(tmp_path, capsys, monkeypatch):
    """On a package of one line, whose test knows its value at 1."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "double.py").write_text("def double(x): return 2 * x\n")
    (tmp_path / "tests/test_double.py").write_text(
        "import sys; sys.path.insert(0, '.')\nfrom double import double\n\n\ndef test_it(): assert double(1) == 2\n"
    )
    monkeypatch.setattr(
        score, "copied", lambda folder: score.shutil.copytree(tmp_path, folder, dirs_exist_ok=True)
    )
    faults = [["2 * x", "3 * x"], ["2 * x", "x + 1"]]
    table = {"double.py": {"tests": ["test_double.py"], "faults": faults}}
    monkeypatch.setattr(score, "groups", lambda: table)
    assert score.main([]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "caught     double.py: '2 * x' -> '3 * x'"
    assert printed[1] == "SURVIVED   double.py: '2 * x' -> 'x + 1'"
    assert printed[3].startswith("1 of 2 faults caught: 50.0%")
    assert printed[-1] == "double.py: '2 * x' -> 'x + 1'"
    faults[:] = [["def double(x): return 2 * x", "raise ImportError"]]
    with pytest.raises(SystemExit, match=r"cannot be run with 'raise ImportError' in double.py"):
        score.main([])
