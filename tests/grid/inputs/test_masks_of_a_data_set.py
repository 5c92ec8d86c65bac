"""Masks that cannot be used are counted and named before any work; ambiguous ones are refused."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from components.data.fingerprint import FileHashes
from grid.commands.cli import main
from grid.inputs.datasets import Dataset, locate, read
from grid.progress import Display
from grid.spec.spec import DatasetEntry, SpecError


@pytest.fixture
def root(birds: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(birds, tmp_path / "birds"))


@pytest.fixture
def opened(root: Path, tmp_path: Path) -> Callable[[], Dataset]:
    """The data set as it is read, with the memory of earlier readings."""
    entry = DatasetEntry(name="toybirds", root=str(root))
    hashes = FileHashes(tmp_path / "home" / "file_hashes.json")
    return lambda: read(locate(entry), hashes, Display(stderr=True))


def masks(root: Path) -> list[Path]:
    return sorted((root / "masks").iterdir())


def test_a_palette_and_a_mask_that_cannot_be_used_are_other_data(
    root: Path, opened: Callable[[], Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = opened()
    assert whole.left_out == ()
    first, second = masks(root)[:2]
    second.write_bytes(b"")
    broken = opened()
    (note,) = broken.left_out
    assert note.startswith(f"masks: 1 cannot be used (masks/{second.name}: cannot identify image file")
    assert "of 128, these are left out of what needs them" in broken.note
    monkeypatch.setattr("grid.inputs.datasets.check_masks", lambda *a: pytest.fail("masks were read again"))
    assert opened().left_out == broken.left_out
    monkeypatch.undo()
    (root / "masks" / second.name).unlink()
    assert opened().left_out == (
        f"masks: 1 missing (masks/{second.name}); of 128, these are left out of what needs them",
    )
    assert first.is_file()


def test_ambiguous_masks_are_refused_with_file_and_values(
    root: Path,
    opened: Callable[[], Dataset],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = masks(root)[5]
    Image.fromarray(np.pad(np.full((30, 30), 7, np.uint8), 17)).save(path)
    with pytest.raises(SpecError, match=rf"data set toybirds: masks/{path.name}: .* 0, 7: say in the card"):
        opened()
    spec = root.parent / "spec.yaml"
    content = {"name": "t", "datasets": [{"name": "toybirds", "root": str(root)}]}
    spec.write_text(yaml.safe_dump({**content, "methods": [{"method": "standard"}]}))
    for command, status in (("plan", 2), ("doctor", 1)):
        monkeypatch.setattr(sys, "argv", ["grid", command, str(spec), "--json"])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == status
        out, err = capsys.readouterr()
        assert "has the values 0, 7: say in the card" in (err if command == "plan" else out)
    (finding,) = [row for row in json.loads(out) if row["check"] == "data set toybirds"]
    assert not finding["ok"]
    assert finding["fix"] == "", "the line itself says what to do"
