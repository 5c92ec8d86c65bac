import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation

from components.data.card import load_card
from components.data.columns import Data
from components.data.images import ImageIndex
from components.identity import rng
from components.studies.guided_fine_tuning.concept_masks import ConceptRules
from components.studies.guided_fine_tuning.training_masks import (
    GuidedImages,
    control,
    cropped,
    dilated,
    guided_images,
    random_box,
)

CARD = load_card("toybirds")
SIDE = 40
NO_RULES = ConceptRules(k_top=1, box_threshold=0.0)


def blob(stream, height, width):
    y, x = np.mgrid[:height, :width]
    cy, cx = stream.integers(height), stream.integers(width)
    return np.hypot(y - cy, x - cx) < min(height, width) / 3


@pytest.fixture
def world(tmp_path):
    """Images whose red channel is their mask; the fourth mask is empty, the fifth everything, the sixth file is
    not there, and of the seventh 90 % are masked and of the eighth one pixel more."""
    stream = np.random.default_rng(0)
    masks = [blob(stream, *size) for size in ((60, 80), (40, 40), (91, 33))]
    masks += [np.zeros((30, 30), bool), np.ones((30, 30), bool), blob(stream, 30, 30)]
    for covered in (360, 361):
        masks.append(np.arange(400).reshape(20, 20) < covered)
    for i, mask in enumerate(masks):
        image = np.zeros((*mask.shape, 3), np.uint8)
        image[..., 0] = 255 * mask
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        if i != 5:
            (tmp_path / "masks").mkdir(exist_ok=True)
            Image.fromarray(mask).save(tmp_path / f"masks/{i}.png")
    n = len(masks)
    paths, splits = np.array([f"{i}.png" for i in range(n)], object), np.full(n, "train", object)
    zeros, names = np.zeros(n, np.int64), ("a", "b")
    index = ImageIndex(
        tmp_path, np.arange(n), paths, zeros, zeros, splits, CARD.classes, names, "masks/{stem}.png"
    )
    return masks, Data(CARD, index)


def guided_by_objects(data, side=SIDE, dilation=0):
    ids = data.index.image_ids
    kept = np.zeros((2, 0), bool)
    return guided_images(data, ids, data.index.labels, "object", kept, NO_RULES, side, dilation, seed=0)


def test_images_with_empty_and_too_large_masks_are_dropped_and_counted(world):
    _, data = world
    guided = guided_by_objects(data, side=20)
    assert guided.ids.tolist() == [0, 1, 2, 6]
    assert (guided.masks_empty, guided.masks_too_large) == (2, 2)
    assert guided.labels.shape == (4,)
    none = guided_images(
        data, np.array([3]), np.array([0]), "object", np.zeros((2, 0), bool), NO_RULES, SIDE, 0, 0
    )
    assert (len(none.ids), none.images.shape, none.masks.shape) == (0, (0, SIDE, SIDE, 3), (0, SIDE, SIDE))


def test_a_mask_is_that_of_the_nearest_pixel_of_its_image(world):
    masks, data = world
    guided = guided_by_objects(data)
    for image_id, mask in zip(guided.ids[:3], guided.masks[:3], strict=True):
        true = masks[image_id]
        rows, columns = (((np.arange(SIDE) + 0.5) * side / SIDE).astype(int) for side in true.shape)
        np.testing.assert_array_equal(mask, true[np.ix_(rows, columns)])
    assert guided.masks.dtype == np.uint8


def test_what_a_mask_leaves_open_is_neither_inside_nor_beside(world, tmp_path):
    """Pixels that the data set says to ignore, as the border of an object; nor does the object grow over them."""
    _, data = world
    labelled = np.zeros((40, 40), np.uint8)
    labelled[10:20], labelled[20:25] = 1, 255
    Image.fromarray(labelled).save(tmp_path / "masks/1.png")
    guided = guided_by_objects(data)
    np.testing.assert_array_equal(guided.masks[guided.ids.tolist().index(1)], labelled)
    grown = guided_by_objects(data, dilation=2)
    labelled[8:10] = 1
    np.testing.assert_array_equal(grown.masks[grown.ids.tolist().index(1)], labelled)


def test_a_mask_that_is_all_of_what_counts_is_too_large(world, tmp_path):
    _, data = world
    before = guided_by_objects(data)
    labelled = np.full((40, 40), 255, np.uint8)
    labelled[10:20] = 1
    Image.fromarray(labelled).save(tmp_path / "masks/1.png")
    after = guided_by_objects(data)
    assert 1 in before.ids
    assert 1 not in after.ids
    assert after.masks_too_large == before.masks_too_large + 1


def test_an_image_and_its_mask_are_cut_and_mirrored_together():
    """The red channel is the mask, whatever is drawn."""
    stream = np.random.default_rng(1)
    masks = np.stack([blob(stream, SIDE, SIDE) for _ in range(20)])
    images = np.stack([255 * masks.astype(np.uint8)] * 3, axis=-1)
    guided = GuidedImages(np.arange(20), np.zeros(20, np.int64), images, masks, 0, 0)
    size, seen = 32, set()
    for draw in range(30):
        cut, mask = cropped(guided, np.arange(20), size, rng(draw, "test"))
        np.testing.assert_array_equal(cut[..., 0] == 255, mask)
        assert (cut.shape, mask.shape, mask.dtype) == ((20, size, size, 3), (20, size, size), np.uint8)
        windows = {
            (top, left, step): masks[0][top : top + size, left : left + size][:, ::step]
            for top in range(9)
            for left in range(9)
            for step in (1, -1)
        }
        seen |= {place for place, window in windows.items() if (window == mask[0]).all()}
    assert {step for *_, step in seen} == {1, -1}
    assert len({place[:2] for place in seen}) > 10
    middle, mask = cropped(guided, np.array([3]), size, None)
    np.testing.assert_array_equal(middle[0], images[3, 4:36, 4:36])
    np.testing.assert_array_equal(mask[0], masks[3, 4:36, 4:36])


@pytest.mark.parametrize("area", [1, 2, 7, 100, 351, 799, 1440, 1600])
def test_a_random_box_has_the_area_in_at_most_one_incomplete_row(area):
    places = set()
    for seed in range(30):
        box = random_box(area, SIDE, rng(seed, "box"))
        assert box.sum() == area
        rows, columns = np.flatnonzero(box.any(1)), np.flatnonzero(box.any(0))
        within = box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert within[:-1].all()
        assert 0 <= within.size - area < within.shape[1]
        places.add((rows[0], columns[0]))
    assert len(places) > 5 or area > 0.8 * SIDE**2


def test_controls_are_made_of_the_mask():
    mask = blob(np.random.default_rng(2), SIDE, SIDE)
    np.testing.assert_array_equal(control(mask, "inverted", 0, 1), ~mask)
    assert control(mask, "whole_image", 0, 1).all()
    assert control(mask, "concepts", 0, 1) is mask
    boxes = [control(mask, "random", seed, image) for seed in (0, 1) for image in (0, 1, 2)]
    assert {int(box.sum()) for box in boxes} == {int(mask.sum())}
    assert len({box.tobytes() for box in boxes}) > 3
    np.testing.assert_array_equal(boxes[1], control(mask, "random", 0, 1))


@pytest.mark.parametrize("pixels", [0, 1, 3])
def test_dilation_is_by_a_disc(pixels):
    mask = np.zeros((SIDE, SIDE), bool)
    mask[5:9, 0:3] = mask[30, 20] = True
    y, x = np.mgrid[-pixels : pixels + 1, -pixels : pixels + 1]
    disc = np.hypot(y, x) <= pixels
    np.testing.assert_array_equal(dilated(mask, pixels), binary_dilation(mask, disc))
    assert not dilated(np.zeros_like(mask), pixels).any()


@pytest.mark.parametrize("bad", ["another size", "broken"])
def test_a_mask_that_cannot_be_used_drops_its_image_counted_and_named(world, tmp_path, bad):
    _, data = world
    before = guided_by_objects(data)
    if bad == "broken":
        (tmp_path / "masks/1.png").write_bytes(b"no picture")
    else:
        Image.fromarray(np.ones((5, 5), bool)).save(tmp_path / "masks/1.png")
    after = guided_by_objects(data)
    assert after.ids.tolist() == [i for i in before.ids.tolist() if i != 1]
    assert after.masks_empty == before.masks_empty + 1
    assert set(data.masks_left_out) == {"masks/1.png", "masks/5.png"}
