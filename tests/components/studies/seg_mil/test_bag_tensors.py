"""Bags that a trial holds between its parts, and some of a split's bags."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from components.data.columns import Data
from components.method import Fitted
from components.pixels.bags import Bags
from components.studies.seg_mil import bag_tensors as mil_bags
from components.studies.seg_mil.bag_tensors import BagTensors, chosen_bags, read_bags


def assert_same(found, expected):
    """To the last bits, which depend on how many are multiplied at once."""
    for field in fields(Bags):
        if field.name != "mixtures":
            np.testing.assert_allclose(
                getattr(found.bags, field.name), getattr(expected.bags, field.name), atol=1e-6
            )
    for name in ("labels", "groups", "features", "similarities"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-6)


@pytest.fixture(scope="module")
def fitted(segmented_birds):
    method, data = segmented_birds
    return replace(method, epochs=1).fit(data, 0, lambda step, **metrics: None)


def test_a_split_is_read_once_and_always_given_as_it_is(segmented_birds, fitted, monkeypatch):
    method, data = segmented_birds
    val, test = (data.usable_split(split).ids for split in ("val", "test"))
    fewer = replace(method, bag_size=2)
    other = Data(data.card, data.index, data._columns, data._tensors)
    asked = [
        (method, data, val, 1),
        (method, data, val, 0),
        (method, data, test, 1),
        (method, data, test[[5, 0, 8]], 0),
        (method, data, test[:0], 0),
        (method, data, np.append(test[:2], val[0]), 1),
        (method, data, test, 1),
        (fewer, data, test, 1),
        (fewer, other, test, 1),
        (method, other, test, 1),
    ]
    for of, within, ids, reads in asked:
        counted = []
        with monkeypatch.context() as patched:
            patched.setattr(mil_bags, "read_bags", lambda *a: counted.append(a) or read_bags(*a))  # noqa: B023
            found = of.bags(fitted, within, ids)
        assert len(counted) == reads
        assert_same(found, read_bags(of, within, ids))


def test_after_fitting_the_bags_of_validation_are_held_and_never_more_than_a_split(segmented_birds):
    method, data = segmented_birds
    fitted = replace(method, epochs=1).fit(data, 0, lambda step, **metrics: None)
    val, test = (data.usable_split(split).ids for split in ("val", "test"))
    np.testing.assert_array_equal(fitted.held[2].bags.ids, val)
    replace(method, epochs=1).predict(fitted, data, test)
    np.testing.assert_array_equal(fitted.held[2].bags.ids, test)
    assert replace(fitted, tensors={}).held is None, "they are those of these tensors"


def test_what_was_loaded_holds_nothing_and_predicts_the_same(segmented_birds, fitted):
    method, data = segmented_birds
    ids = data.usable_split("test").ids
    loaded = Fitted(fitted.tensors, fitted.facts)
    np.testing.assert_array_equal(method.predict(loaded, data, ids), method.predict(fitted, data, ids))


def test_chosen_bags_are_those_rows_in_that_order():
    stream, shape = np.random.default_rng(0), (6, 3)
    numbers = {name: stream.integers(0, 9, shape) for name in ("segments", "concepts", "scores", "areas")}
    bags = Bags(np.arange(6) * 2, valid=stream.random(shape) < 0.5, **numbers)
    vectors = torch.from_numpy(stream.random((6, 3, 4)))
    whole = BagTensors(bags, np.arange(6), np.arange(6) + 9, vectors, vectors + 1)
    rows = np.array([4, 1, 1])
    found = chosen_bags(whole, rows)
    for name in (*numbers, "ids", "valid"):
        np.testing.assert_array_equal(getattr(found.bags, name), getattr(bags, name)[rows])
    assert found.labels.tolist() == [4, 1, 1]
    assert found.groups.tolist() == [13, 10, 10]
    np.testing.assert_array_equal(found.features, vectors[rows])
    np.testing.assert_array_equal(found.similarities, vectors[rows] + 1)
