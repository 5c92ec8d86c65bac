import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from components.data.card import load_card
from components.data.fingerprint import FileHashes, fingerprint
from components.data.mask_files import MaskValues
from components.data.readers.waterbirds_csv import WaterbirdsCsv
from tests.world import draw_waterbirds

CARD = load_card("toybirds")


@pytest.fixture
def root(tmp_path):
    return draw_waterbirds(tmp_path / "data", per_group=1, side=12)


@pytest.fixture
def of(tmp_path):
    """Fingerprint of what lies at a root, remembered hashes included."""
    return lambda root: fingerprint(WaterbirdsCsv().read(root, CARD), FileHashes(tmp_path / "memory.json"))


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    later = path.stat().st_mtime_ns + 1_000_000_000
    os.utime(path, ns=(later, later))


def edit_first_row(path, column, value):
    header, first, *rest = path.read_text().splitlines()
    cells = first.split(",")
    cells[header.split(",").index(column)] = value(cells[header.split(",").index(column)])
    path.write_text("\n".join([header, ",".join(cells), *rest]))


def test_it_does_not_change_with_the_root_or_the_order_of_rows(root, of, tmp_path):
    before = of(root)
    moved = shutil.copytree(root, tmp_path / "elsewhere" / "name")
    header, *rows = (moved / "metadata.csv").read_text().splitlines()
    (moved / "metadata.csv").write_text("\n".join([header, *reversed(rows)]))
    assert of(moved) == before == of(root)


@pytest.mark.parametrize("folder", ["", "masks", "parts"])
def test_one_byte_of_an_image_or_mask_changes_it(root, of, folder):
    before = of(root)
    flip_a_byte(sorted((root / folder / "0").glob("*.png"))[0])
    assert of(root) != before


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("y", lambda y: str(1 - int(y))),
        ("place", lambda p: str(1 - int(p))),
        ("split", lambda s: str((int(s) + 1) % 3)),
        ("img_id", lambda i: str(int(i) + 10_000)),
    ],
)
def test_one_cell_of_the_metadata_changes_it(root, of, column, value):
    before = of(root)
    edit_first_row(root / "metadata.csv", column, value)
    assert of(root) != before


def test_a_missing_file_changes_it_and_does_not_stop(root, of):
    before = of(root)
    sorted((root / "masks" / "1").glob("*.png"))[0].unlink()
    assert of(root) != before


def test_a_smaller_index_has_another_one(root, tmp_path):
    index, hashes = WaterbirdsCsv().read(root, CARD), FileHashes(tmp_path / "memory.json")
    whole = fingerprint(index, hashes)
    assert fingerprint(index.rows(np.arange(len(index) - 1)), hashes) != whole
    others = [
        replace(index, part_masks=None),
        replace(index, labels=1 - index.labels),
        replace(index, groups=index.groups[::-1]),
        replace(index, classes=index.classes[::-1]),
    ]
    assert whole not in {fingerprint(other, hashes) for other in others}


def test_files_are_hashed_once(root, tmp_path, monkeypatch):
    hashes = FileHashes(tmp_path / "memory.json")
    index = WaterbirdsCsv().read(root, CARD)
    before = fingerprint(index, hashes)
    monkeypatch.setattr("hashlib.file_digest", lambda *a: pytest.fail("a file was read again"))
    assert fingerprint(index, FileHashes(tmp_path / "memory.json")) == before


def test_what_was_hashed_before_an_interruption_is_not_read_again(root, tmp_path, monkeypatch):
    index = WaterbirdsCsv().read(root, CARD)
    whole = fingerprint(index, FileHashes(tmp_path / "other.json"))

    def interrupted(done):
        if done == len(index):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fingerprint(index, FileHashes(tmp_path / "memory.json"), interrupted)
    monkeypatch.setattr("hashlib.file_digest", lambda *a: pytest.fail("a file was read again"))
    assert fingerprint(index, FileHashes(tmp_path / "memory.json")) == whole


@pytest.mark.parametrize("content", ["", '{"a": [1', "[]", "\0"])
def test_a_memory_that_was_cut_short_is_made_anew_and_named(root, tmp_path, of, caplog, content):
    before = of(root)
    memory = tmp_path / "memory.json"
    whole = memory.read_text()
    memory.write_text(content)
    assert of(root) == before
    (line,) = caplog.messages
    assert f"{memory} cannot be read" in line
    assert memory.read_text() == whole


@pytest.mark.parametrize("entry", [None, 1, "text", [], [1], {"a": 1}, "of the file", "no hash"])
def test_an_entry_of_the_memory_that_is_no_hash_is_not_taken_for_one(root, tmp_path, of, entry):
    before = of(root)
    memory = tmp_path / "memory.json"
    known = json.loads(memory.read_text())
    others = {"of the file": lambda stamp: stamp, "no hash": lambda stamp: [*stamp, "0" * 63]}
    for path, told in known.items():
        known[path] = others[entry](told[:2]) if entry in ("of the file", "no hash") else entry
    memory.write_text(json.dumps(known))
    assert of(root) == before


def test_what_the_card_says_of_masks_changes_it_where_it_changes_a_mask(root, tmp_path):
    index, hashes = WaterbirdsCsv().read(root, CARD), FileHashes(tmp_path / "memory.json")
    whole = fingerprint(index, hashes)
    assert fingerprint(replace(index, mask_values="soft"), hashes) == whole
    assert fingerprint(replace(index, left_out=("a note",)), hashes) == whole
    told = [MaskValues(object=(1,)), MaskValues(object=(1,), ignore=(2,)), MaskValues(object=(2,))]
    found = {fingerprint(replace(index, mask_values=values), hashes) for values in told}
    assert len({whole, *found}) == 4


@pytest.mark.parametrize("content", ['{"a": [1, 2', "", "[]", "\x00\x00"])
def test_a_memory_that_a_crash_cut_short_is_made_again(root, tmp_path, content):
    index = WaterbirdsCsv().read(root, CARD)
    whole = fingerprint(index, FileHashes(tmp_path / "memory.json"))
    kept = (tmp_path / "memory.json").read_text()
    (tmp_path / "memory.json").write_text(content)
    assert fingerprint(index, FileHashes(tmp_path / "memory.json")) == whole
    assert (tmp_path / "memory.json").read_text() == kept
