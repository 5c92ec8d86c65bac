from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from components.data.card import load_card
from components.data.images import DataError
from components.data.mask_checks import check_masks
from components.data.mask_files import MaskValues
from components.data.readers.waterbirds_csv import WaterbirdsCsv
from tests.world import draw_waterbirds

CARD = load_card("toybirds")


@pytest.fixture
def index(tmp_path):
    return WaterbirdsCsv().read(draw_waterbirds(tmp_path / "data", per_group=1, side=12), CARD)


def mask(index, row, values):
    """Writes the mask of the object in this row."""
    path = index.beside(index.masks, row)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)
    return path.relative_to(index.root).as_posix()


SQUARE = np.pad(np.ones((4, 4), np.uint8), 4)


def test_masks_that_are_well_have_no_note(index):
    for checks in check_masks(index):
        assert (checks.n, checks.note(), checks.read_otherwise) == (12, "", False)
    assert check_masks(replace(index, masks=None, part_masks=None)) == []


def test_what_is_left_out_is_counted_and_named(index):
    small = mask(index, 3, SQUARE[:5])
    gone = index.beside(index.masks, 5)
    gone.unlink()
    broken = index.beside(index.part_masks, 7)
    broken.write_bytes(b"")
    whole, parts = check_masks(index)
    assert whole.note() == (
        f"masks: 1 missing ({gone.relative_to(index.root)}); 1 cannot be used ({small}: mask (5, 12) does not "
        "fit image (12, 12)); of 12, these are left out of what needs them"
    )
    assert parts.note().startswith("masks of parts: 1 cannot be used (parts/")
    assert whole.read_otherwise
    for row in range(12):
        index.beside(index.masks, row).unlink(missing_ok=True)
    assert check_masks(index)[0].note().startswith("masks: no file of 12 is there, masks/")


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (SQUARE * 7, None, "values 0, 7"),
        (np.where(SQUARE, 1, 255), SQUARE * 255, "has 1 and 255"),  # border there, object here
        (SQUARE * 200, SQUARE * 210, "200, 210"),
    ],
)
def test_values_that_may_mean_several_things_are_refused_with_file_and_values(index, first, second, said):
    name = mask(index, 0, first)
    if second is not None:
        mask(index, 1, second)
    with pytest.raises(DataError, match=said) as stop:
        check_masks(index)
    assert name.rpartition("/")[2] in str(stop.value)
    assert "mask_values" in str(stop.value)
    told = replace(index, mask_values=MaskValues(object=(1, 7, 200, 210)))
    assert [checks.note() for checks in check_masks(told)] == ["", ""]
