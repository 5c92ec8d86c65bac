"""Pictures of rules and regions, by the colours that must be in them."""

import numpy as np

from components.studies.concept_bottleneck.maps.concept_maps import ConceptHead
from components.studies.concept_bottleneck.maps.pictures import draw_region, draw_rules
from components.studies.concept_bottleneck.maps.regions import explain_region


def pixels_like(picture, colour, tolerance=12):
    return int((np.abs(picture.astype(int) - colour).max(axis=2) <= tolerance).sum())


PAGE = 1016  # pixels of a line of the report: shown at their own size, words of 8 points are 12 pixels high
BLUE, ORANGE = (146, 177, 211), (232, 178, 143)  # half covering white


def test_links_are_as_wide_as_their_weights_and_coloured_by_sign():
    """Alone in a picture of 2 classes and 3 concepts, links of weight 3 and -1 cover areas of 3 to 1."""
    weight = np.array([[3.0, 0, 0], [0, 0, -1]])
    picture, said = draw_rules(weight, ["a", "b", "c"], ["first", "second"])
    assert said == "2 of 2 weights above 0.05 in magnitude"
    assert picture.shape[1] <= PAGE
    assert 2.5 < pixels_like(picture, BLUE) / pixels_like(picture, ORANGE) < 3.5
    assert pixels_like(draw_rules(-weight, ["a", "b", "c"], ["first", "second"])[0], BLUE) < (
        pixels_like(picture, BLUE)
    )


def test_what_is_left_out_of_a_picture_is_said():
    weight = np.random.default_rng(0).uniform(0.1, 1, (30, 50))
    _, said = draw_rules(weight, [f"concept {i}" for i in range(50)], [f"class {i}" for i in range(30)])
    assert said == (
        "40 of 1500 weights above 0.05 in magnitude; 10 of 30 classes, those with the largest weights; "
        "at most 4 for each class"
    )


def test_a_layer_of_zeros_has_a_picture_too():
    picture, said = draw_rules(np.zeros((2, 3)), ["a", "b", "c"], ["first", "second"])
    assert said == "0 of 0 weights above 0.05 in magnitude"
    assert pixels_like(picture, BLUE) == pixels_like(picture, ORANGE) == 0


def test_a_region_is_outlined_where_it_is():
    head = ConceptHead(weight=np.eye(2), bias=np.zeros(2), mean=np.zeros(2), std=np.ones(2))
    maps = np.random.default_rng(0).standard_normal((2, 4, 4))
    pictures = {}
    for side in ("left", "right"):
        region = np.zeros((32, 32), bool)
        region[8:24, 2:12] = True
        region = region if side == "left" else region[:, ::-1]
        explained = explain_region(head, maps, region, label=0)
        image = np.zeros((32, 32, 3), np.uint8)
        picture = draw_region(image, explained, side, ["a", "b"], ["first", "second"])
        assert picture.shape[1] <= PAGE
        black = (picture == 0).all(axis=2).any(axis=0)
        photo = picture[:, : np.flatnonzero(black)[-1] + 1]
        red = np.abs(photo.astype(int) - (209, 0, 31)).max(axis=2) < 40
        pictures[side] = np.nonzero(red)[1].mean()
    assert pictures["left"] < pictures["right"]
