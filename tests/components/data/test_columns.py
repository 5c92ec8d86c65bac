import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data.card import load_card
from components.data.columns import Column, Data, matrix, ragged_vectors
from components.data.images import decode
from components.data.readers.waterbirds_csv import WaterbirdsCsv
from components.stage import fixed_size_lists, ragged_lists
from tests.world import column, draw_waterbirds

CARD = load_card("toybirds")


def vectors(ids, width=3):
    return np.outer(np.asarray(ids, np.float32), np.arange(1, width + 1, dtype=np.float32))


def tables(ids, part=4):
    return [
        pa.table({"image_id": ids[i : i + part], "v": fixed_size_lists(vectors(ids[i : i + part]))})
        for i in range(0, len(ids), part)
    ]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return WaterbirdsCsv().read(draw_waterbirds(tmp_path_factory.mktemp("data"), per_group=1, side=16), CARD)


@pytest.mark.parametrize("few", [2, 10])
def test_rows_come_in_the_order_asked_for(tmp_path, few):
    stored = np.random.default_rng(0).permutation(11)
    read = column(tmp_path, tables(stored))
    asked = np.random.default_rng(1).permutation(11)[:few]
    np.testing.assert_array_equal(read.array("v", asked), vectors(asked))
    np.testing.assert_array_equal(read.ids, np.arange(11))
    blocks = list(read.blocks(asked, ["v"], 4))
    np.testing.assert_array_equal(np.concatenate([ids for ids, _ in blocks]), asked)
    np.testing.assert_array_equal(np.concatenate([matrix(t["v"]) for _, t in blocks]), vectors(asked))


def test_an_absent_image_is_named(tmp_path):
    with pytest.raises(KeyError, match="image 99 "):
        column(tmp_path, tables(np.arange(5))).read(np.array([1, 99]), ["v"])


def test_no_id_gives_no_row_of_the_right_width(tmp_path):
    assert column(tmp_path, tables(np.arange(5))).array("v", np.array([], np.int64)).shape == (0, 3)


def test_a_column_of_which_every_image_failed(tmp_path):
    read = column(tmp_path, [], {3: "too large", 5: "cut short"})
    assert isinstance(read, Column)
    assert len(read.ids) == 0
    assert read.failures == {3: "too large", 5: "cut short"}


@given(counts=st.lists(st.integers(0, 3), max_size=6), start=st.integers(0, 2))
def test_ragged_vectors_are_what_was_stored(counts, start):
    values = np.random.default_rng(sum(counts)).standard_normal((sum(counts), 4)).astype(np.float32)
    stored = pa.chunked_array([ragged_lists(fixed_size_lists(values), counts)])
    read, read_counts = ragged_vectors(stored.slice(start))
    np.testing.assert_array_equal(read_counts, counts[start:])
    np.testing.assert_array_equal(read, values[sum(counts[:start]) :])
    assert read.shape[1] == 4


def test_failed_images_stay_in_the_split_unless_dropped(tmp_path, index):
    test = index.image_ids[index.splits == "test"]
    good = np.setdiff1d(index.image_ids, test[:1])
    columns = {"v": column(tmp_path, tables(good), {int(test[0]): "cut short"})}
    kept, dropped = Data(CARD, index, columns), Data(CARD, index, columns, on_failed="drop")
    np.testing.assert_array_equal(kept.split("test").ids, test)
    np.testing.assert_array_equal(kept.usable(test), test != test[0])
    np.testing.assert_array_equal(dropped.split("test").ids, test[1:])
    np.testing.assert_array_equal(dropped.split("train").ids, kept.split("train").ids)


def test_images_and_labels_belong_to_their_ids(index):
    data = Data(CARD, index)
    ids = index.image_ids[[5, 0, 7]]
    for image_id, image in zip(ids, data.images(ids), strict=True):
        (path,) = [path for path in index.paths if path.endswith(f"bird.{image_id}.png")]
        np.testing.assert_array_equal(image, decode(index.root / path))
    assert index.labels[data.rows(ids)].tolist() == [int(index.paths[row][0]) for row in (5, 0, 7)]
    assert len(data.split("nowhere").ids) == 0


def test_an_image_that_is_in_no_sample_has_not_failed(tmp_path):
    index = WaterbirdsCsv().read(draw_waterbirds(tmp_path / "data", per_group=1), CARD)
    ids = index.image_ids
    few = column(tmp_path / "few", [pa.table({"image_id": ids[:4], "x": [1.0] * 4})], {int(ids[4]): "broken"})
    data = Data(CARD, index, {"few": few})
    assert data.failed(ids).tolist() == [i == ids[4] for i in ids]
    assert data.usable(ids).tolist() == [i in ids[:4] for i in ids]
    assert not Data(CARD, index).failed(ids).any()


def test_an_image_is_usable_where_every_column_has_it(tmp_path, index):
    ids = index.image_ids
    first = column(tmp_path / "first", tables(ids[1:]), {int(ids[0]): "cut short"})
    second = column(tmp_path / "second", tables(ids[:-1]), {int(ids[-1]): "too large"})
    data = Data(CARD, index, {"first": first, "second": second})
    assert data.usable(ids).tolist() == [False, *[True] * (len(ids) - 2), False]
    assert data.failed(ids).tolist() == [True, *[False] * (len(ids) - 2), True]
