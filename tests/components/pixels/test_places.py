import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from components.pixels.places import centres, discs, in_pixels, rings, spans

RADIUS = 32.0


def test_the_papers_stride_in_its_own_frame():
    assert centres(7, RADIUS, 224, "stride").tolist() == [28, 56, 84, 112, 140, 168, 196]
    assert centres(7, RADIUS, 336, "stride").tolist() == [42, 84, 126, 168, 210, 252, 294]
    assert centres(5, RADIUS, 224, "stride").tolist() == [37, 74, 111, 148, 185]  # floor(224 / 6) = 37


def test_circles_that_fit_and_cells_of_a_feature_map():
    assert centres(7, RADIUS, 224, "fit").tolist() == [32, 58.5, 85, 111.5, 138, 164.5, 191]
    assert centres(7, RADIUS, 224, "cell").tolist() == [16, 48, 80, 112, 144, 176, 208]


@pytest.mark.parametrize(("kind", "middle"), [("stride", 112), ("fit", 111.5), ("cell", 112)])
def test_a_grid_of_one_place_is_the_middle(kind, middle):
    assert centres(1, RADIUS, 224, kind).tolist() == [middle]


KINDS = st.sampled_from(["stride", "fit", "cell"])


@given(st.integers(1, 40), st.floats(1, 110), st.integers(16, 512), KINDS)
def test_there_are_always_g_places_in_order_inside_the_image(grid_size, radius, size, kind):
    r = in_pixels(radius, size)
    assume(grid_size < size and (kind != "fit" or 2 * r < size - 1))
    found = centres(grid_size, radius, size, kind)
    assert found.shape == (grid_size,)
    assert (np.diff(found) > 0).all()
    assert found[0] >= 0
    assert found[-1] <= size - 1
    if kind == "fit":
        np.testing.assert_allclose(found + found[::-1], size - 1)
        assert (found[0], found[-1]) == (r, size - 1 - r) or grid_size == 1
        covered = spans(found, radius, size)
        assert {span.stop - span.start for span in covered} == {2 * r + 1}  # no circle is cut
    elif kind == "cell":
        np.testing.assert_allclose(found + found[::-1], size)
        np.testing.assert_allclose(np.diff(found), size / grid_size)
    else:
        assert (np.diff(found, prepend=0) == size // (grid_size + 1)).all()


@pytest.mark.parametrize("kind", ["stride", "fit", "cell"])
def test_a_grid_with_less_than_a_pixel_per_place_is_refused(kind):
    assert len(centres(31, 1, 32, kind)) == 31
    with pytest.raises(ValueError, match="grid_size 32 is too large for an image of 32 pixels"):
        centres(32, 1, 32, kind)


def test_a_circle_that_cannot_fit_is_refused():
    with pytest.raises(ValueError, match="radius 112"):
        centres(7, 112, 224, "fit")
    assert centres(1, 111, 223, "fit").tolist() == [111]


@pytest.mark.parametrize(
    ("radius", "x", "y", "pixels"),
    [(27, 112, 112, 308), (32, 112, 112, 364), (37, 112, 112, 428), (32, 28, 28, 256), (32, 196, 196, 240)],
)
def test_a_ring_has_the_pixels_that_pillow_draws(radius, x, y, pixels):
    """The table of docs/methods/concept_bottlenecks.md, "Red circles"."""
    rows, columns = (
        centres(7, radius, 224, "stride").tolist().index(y),
        [28, 56, 84, 112, 140, 168, 196].index(x),
    )
    ring = rings(centres(7, radius, 224, "stride"), radius, 2, 224)[7 * rows + columns]
    assert ring.sum() == pixels


@pytest.mark.parametrize("kind", ["stride", "fit", "cell"])
def test_a_mask_is_what_pillow_draws_on_an_image(kind):
    middles = centres(3, 20, 100, kind)
    outlines, filled = rings(middles, 20, 3, 100), discs(middles, 20, 100)
    r, width = 9, 1  # 20 * 100 / 224 = 8.9, 3 * 100 / 224 = 1.3
    for place in range(9):
        y, x = (int(middles[i] + 0.5) for i in divmod(place, 3))
        for mask, style in (
            (outlines, {"outline": (9, 9, 9), "width": width}),
            (filled, {"fill": (9, 9, 9)}),
        ):
            image = Image.new("RGB", (100, 100))
            ImageDraw.Draw(image).ellipse((x - r, y - r, x + r, y + r), **style)
            np.testing.assert_array_equal(mask[place], np.asarray(image)[..., 0] == 9)


def test_lengths_are_rounded_but_never_to_nothing():
    assert [in_pixels(length, 112) for length in (0, 0.2, 1, 3, 32, 33)] == [0, 1, 1, 2, 16, 17]
    assert not rings([10.0], 32, 0, 64).any()


def test_spans_are_cut_by_the_border():
    assert spans([28, 112, 196], 32, 224) == [slice(0, 61), slice(80, 145), slice(164, 224)]
    inside = discs([28, 112, 196], 32, 224)
    for place, mask in enumerate(inside):
        rows, columns = (spans([28, 112, 196], 32, 224)[i] for i in divmod(place, 3))
        ys, xs = np.nonzero(mask)
        assert (ys.min(), ys.max() + 1, xs.min(), xs.max() + 1) == (
            rows.start,
            rows.stop,
            columns.start,
            columns.stop,
        )
