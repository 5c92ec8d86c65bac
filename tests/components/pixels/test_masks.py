import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from components.pixels import masks
from tests import reference

sizes = st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))
some_masks = sizes.flatmap(lambda shape: arrays(bool, shape))


@given(some_masks)
def test_decoding_gives_back_what_was_encoded(m):
    decoded = masks.decode(masks.encode(m), *m.shape[1:])
    assert decoded.dtype == bool
    np.testing.assert_array_equal(decoded, m)


@given(some_masks)
def test_areas_are_counted_pixels(m):
    np.testing.assert_array_equal(masks.areas(masks.encode(m), *m.shape[1:]), m.sum(axis=(1, 2)))


@given(some_masks.filter(lambda m: m.any(axis=(1, 2)).all()))
def test_overlaps_and_boxes_against_pixels(m):
    counts, size = masks.encode(m), m.shape[1:]
    pairs = [[reference.iou(a, b) for b in m] for a in m]
    np.testing.assert_allclose(masks.iou(counts, *size), pairs, atol=1e-12)
    np.testing.assert_array_equal(masks.boxes(counts, *size), [reference.box(a) for a in m])


def test_no_mask_at_all():
    nothing = np.zeros((0, 4, 5), bool)
    counts = masks.encode(nothing)
    assert masks.decode(counts, 4, 5).shape == (0, 4, 5)
    assert masks.iou(counts, 4, 5).shape == (0, 0)
    assert masks.areas(counts, 4, 5).shape == (0,)
    assert masks.boxes(counts, 4, 5).shape == (0, 4)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(224, 224, 256), (448, 448, 1024), (112, 224, 128), (160, 160, 6400 / 49)],
)
def test_an_area_scales_with_the_image(height, width, expected):
    assert masks.in_image_pixels(256, height, width, "224") == pytest.approx(expected)
    assert masks.in_image_pixels(256, height, width, "native") == 256


@given(some_masks.filter(lambda m: m.any(axis=(1, 2)).all()))
def test_unions_and_one_against_many(m):
    counts, size = masks.encode(m), m.shape[1:]
    np.testing.assert_array_equal(masks.decode([masks.union(counts, *size)], *size)[0], m.any(axis=0))
    expected = [reference.iou(m[0], other) for other in m[1:]]
    np.testing.assert_allclose(masks.iou_with(counts[0], counts[1:], *size), expected, atol=1e-12)


def test_an_image_may_have_hundreds_of_masks():
    found = np.random.default_rng(0).random((400, 9, 7)) < 0.3
    counts = masks.encode(found)
    np.testing.assert_array_equal(masks.areas(counts, 9, 7), found.sum(axis=(1, 2)))
    np.testing.assert_array_equal(masks.decode(counts, 9, 7), found)
    assert masks.boxes(counts, 9, 7).shape == (400, 4)
    assert masks.iou(counts, 9, 7).shape == (400, 400)
