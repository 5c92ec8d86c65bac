"""How much of a segment is background, pixel by pixel."""

import numpy as np
import pyarrow as pa
import pytest

from components.data.card import load_card
from components.data.columns import Data
from components.data.images import DataError, ImageIndex
from components.pixels.bags import WHOLE_IMAGE, Bags
from components.studies.seg_mil.background import background_shares
from components.studies.seg_mil.methods.seg_mil_cbm import SegMilCbm
from tests.world import column, segment_columns

CARD = load_card("toybirds")
IDS = np.array([4, 7, 9])
SIZES = [(9, 12), (10, 7), (8, 8)]


@pytest.fixture(scope="module")
def masks():
    stream = np.random.default_rng(0)
    return [stream.random((4, *size)) < [[[0.2]], [[0.5]], [[0.9]], [[0.4]]] for size in SIZES]


@pytest.fixture(scope="module")
def truths():
    """The object, and pixels beside it that count nowhere; in the last image there is neither."""
    stream = np.random.default_rng(1)
    objects = [stream.random((1, *size)) < 0.4 for size in SIZES]
    found = [np.concatenate([mask, ~mask & (stream.random(mask.shape) < 0.3)]) for mask in objects]
    return [*found[:2], np.zeros((0, *SIZES[2]), bool)]


@pytest.fixture(scope="module")
def data(tmp_path_factory, masks, truths):
    folder = tmp_path_factory.mktemp("columns")
    columns = {
        name: column(folder / name, [pa.table({"image_id": IDS, **segment_columns(found)})])
        for name, found in (("segments", masks), ("object_masks", truths))
    }
    names = np.array(["a", "b", "c"], object)
    index = ImageIndex(folder, IDS, names, IDS * 0, IDS * 0, names, CARD.classes, ("a", "b"))
    return Data(CARD, index, columns)


SEGMENTS = np.array([[2, 0, 3], [WHOLE_IMAGE, -1, -1], [1, 3, -1]])
VALID = np.array([[True, True, True], [True, False, False], [True, True, False]])


def bags_of(concepts=None):
    nothing = np.zeros(VALID.shape, np.float32)
    concepts = np.full(VALID.shape, WHOLE_IMAGE) if concepts is None else concepts
    return Bags(IDS, SEGMENTS, concepts, nothing, nothing, VALID)


def test_the_share_outside_the_object(data, masks, truths):
    shares = background_shares(SegMilCbm(background="masks"), data, bags_of())
    for row in range(3):
        for place in range(3):
            if not VALID[row, place] or len(truths[row]) == 0:
                assert shares[row, place] == 0
                continue
            i = SEGMENTS[row, place]
            segment = np.ones(SIZES[row], bool) if i == WHOLE_IMAGE else masks[row][i]
            on_object, nowhere = (truth.ravel() for truth in truths[row])
            counted = [q for p, q, x in zip(segment.ravel(), on_object, nowhere, strict=True) if p and not x]
            assert float(shares[row, place]) == pytest.approx(1 - sum(counted) / len(counted), abs=1e-6)


def test_a_data_set_without_any_mask_is_refused(data):
    last = slice(2, 3)
    alone = Bags(IDS[last], SEGMENTS[last], SEGMENTS[last], *(np.zeros((1, 3)),) * 2, VALID[last])
    with pytest.raises(DataError, match="no training image has a mask"):
        background_shares(SegMilCbm(background="masks"), data, alone)


def test_segments_whose_concept_is_on_the_list(data):
    names = CARD.vocabulary()
    concepts = np.array([[names.index("water"), names.index("crest"), names.index("fog")], [-1] * 3, [0] * 3])
    shares = background_shares(SegMilCbm(), data, bags_of(concepts))
    np.testing.assert_array_equal(shares, [[1, 0, 1], [0, 0, 0], [0, 0, 0]])


def test_padding_is_no_background(data):
    water = np.full(VALID.shape, CARD.vocabulary().index("water"))
    np.testing.assert_array_equal(background_shares(SegMilCbm(), data, bags_of(water)), VALID)


@pytest.mark.parametrize("name", ["toybirds", "waterbirds"])
def test_the_lists_that_ship_are_parts_of_their_vocabularies(name):
    card = load_card(name)
    assert 0 < len(card.vocabulary("background")) < len(card.vocabulary())
    assert set(card.vocabulary("background")) <= set(card.vocabulary())
