"""What the small SAM is asked, on a drawing whose masks and boxes are known by hand."""

import numpy as np
import pytest

from components.data.generators.toybirds import PARTS
from components.identity import rng
from components.toybirds.birds import tight_box
from components.toybirds.sam import prompts as module
from components.toybirds.sam.prompts import (
    BACKGROUND,
    BIRD,
    BOXES,
    JITTER,
    KINDS,
    POINTS,
    draw_prompts,
    true_masks,
)

BEAK, BODY = PARTS.index("beak") + 1, PARTS.index("body") + 1


@pytest.fixture
def parts():
    """A body of 20 by 10 pixels with a beak of 4 by 3 at its right."""
    parts = np.zeros((64, 64), np.uint8)
    parts[30:40, 20:40] = BODY
    parts[32:35, 40:44] = BEAK
    return parts


def test_masks_are_those_of_the_parts_in_sight(parts):
    masks = true_masks(parts)
    assert {kind: int(mask.sum()) for kind, mask in masks.items()} == {
        "beak": 12,
        "body": 200,
        BIRD: 212,
        BACKGROUND: 64 * 64 - 212,
    }


def test_a_tight_box_touches_the_outermost_pixels(parts):
    masks = true_masks(parts)
    boxes = {kind: tight_box(mask).tolist() for kind, mask in masks.items()}
    assert boxes == {
        "beak": [40, 32, 44, 35],
        "body": [20, 30, 40, 40],
        BIRD: [20, 30, 44, 40],
        BACKGROUND: [0, 0, 64, 64],
    }


def test_boxes_are_near_those_of_their_masks_and_some_are_exact(parts):
    random = rng(0, "prompts")
    exact = []
    for _ in range(200):
        prompts = draw_prompts(parts, random)
        assert prompts.boxes.shape == (BOXES, 4)
        assert prompts.boxes.dtype == np.float32
        for box, mask in zip(prompts.boxes, prompts.box_masks, strict=True):
            true = tight_box(mask)
            sides = np.tile(true[2:] - true[:2], 2)
            assert (np.abs(box - true) <= 1.5 * JITTER * sides + 1e-4).all()  # the centre's and half a side's
            assert (box[2:] > box[:2]).all()
            assert box.min() >= 0
            assert box.max() <= 64
            exact.append((box == true).all())
    assert abs(np.mean(exact) - module.EXACT) < 0.1


def test_hard_kinds_are_asked_more_often(parts):
    random = rng(1, "prompts")
    asked = [draw_prompts(parts, random).box_masks.sum((1, 2)) for _ in range(300)]
    sizes, counts = np.unique(np.concatenate(asked), return_counts=True)
    of = dict(zip(sizes.tolist(), counts / counts.sum(), strict=True))
    shares = {kind: module.SHARES[kind] for kind in ("beak", "body", BIRD, BACKGROUND)}
    for kind, size in (("beak", 12), ("body", 200), (BIRD, 212), (BACKGROUND, 4096 - 212)):
        assert of[size] == pytest.approx(shares[kind] / sum(shares.values()), abs=0.05)
    assert set(module.SHARES) == set(KINDS)


def test_a_point_lies_in_both_masks_that_it_may_mean(parts):
    random = rng(2, "prompts")
    meant = []
    for _ in range(100):
        prompts = draw_prompts(parts, random)
        assert prompts.points.shape == (POINTS, 2)
        for (x, y), (one, other) in zip(prompts.points, prompts.point_masks, strict=True):
            assert one[int(y), int(x)]
            assert other[int(y), int(x)]
            meant.append((int(one.sum()), int(other.sum())))
    assert set(meant) == {(12, 212), (200, 212), (4096 - 212, 4096 - 212)}
