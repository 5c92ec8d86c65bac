"""What holds of every segmenter, whatever files there are (properties 7 and 8 of
docs/methods/seg_mil.md, "Checked properties").
"""

import dataclasses
import shutil

import numpy as np
import pytest
from PIL import Image

from components.data.images import decode
from components.models.segmentation.box_segmenters.sam import Sam
from components.models.segmentation.detectors.grounding_dino import GroundingDino
from components.models.segmentation.prompted_segmenter import PromptedSegmenter
from components.models.segmentation.segmenter import Segmenter
from components.pixels import masks
from components.stage import ImageRecord
from grid.names import component_class, names
from tests.small_sam import save_sam, save_sam2
from tests.world import draw_bird

PHOTOGRAPHS = 3


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Knobs with which those that need weights load small ones; all that the grid of points gives stays."""
    folder = tmp_path_factory.mktemp("weights")
    everything = {"points_per_side": 3, "pred_iou_thresh": -1e9, "stability_score_thresh": -1.0}
    return {
        "sam_automatic": {"checkpoint": str(save_sam(folder / "sam.pth")), **everything},
        "sam2_automatic": {"checkpoint": str(save_sam2(folder / "sam2")), **everything},
        "phrase_sam": {
            "phrases": ("bird", "head"),
            "detector": GroundingDino(
                checkpoint="datasets/toybirds/grounding_dino",
                shortest_edge=64,
                longest_edge=64,
                stored_threshold=0.001,
            ),
            "box_segmenter": Sam(checkpoint="datasets/toybirds/sam/sam.pth"),
            "box_threshold": 0.001,
        },
    }


@pytest.fixture(params=names(Segmenter.FOLDER))
def segment(request, small):
    """Masks (S, H, W) of (image, record), of one segmenter with its default knobs."""
    segmenter = component_class(Segmenter.FOLDER, request.param)(**small.get(request.param, {}))
    if isinstance(segmenter, PromptedSegmenter):
        pytest.skip("it segments by concepts; its two halves have suites of their own")
    cut = segmenter.load("cpu")

    def run(image, record):
        return masks.decode(cut(image, record).counts, *image.shape[:2])

    run.may_find_nothing = request.param in small
    return run


def drawn(folder, side=60, trim=0):
    image, mask = draw_bird(1, 0, side, 4)
    image, mask = image[: side - trim], mask[: side - trim]
    Image.fromarray(image).save(folder / "image.png")
    Image.fromarray(mask).save(folder / "mask.png")
    return image, ImageRecord(1, folder / "image.png", folder / "mask.png")


def check(masks, image, least=1):
    assert masks.dtype == bool
    assert masks.shape[1:] == image.shape[:2]
    assert len(masks) >= least
    assert masks.any(axis=(1, 2)).all()


@pytest.mark.parametrize(("side", "trim"), [(60, 0), (61, 24), (33, 1)])
def test_masks_fit_the_image(segment, tmp_path, side, trim):
    image, record = drawn(tmp_path, side, trim)
    check(segment(image, record), image)


def test_images_without_colour_or_content(segment, tmp_path):
    image, record = drawn(tmp_path)
    for odd in (image.mean(axis=2, keepdims=True).astype(np.uint8).repeat(3, 2), np.zeros_like(image)):
        check(segment(odd, record), odd, least=0 if segment.may_find_nothing else 1)


def test_real_photographs(segment, test_data):
    root = test_data("seg-mini")
    for path in sorted((root / "images").iterdir())[:PHOTOGRAPHS]:
        image = decode(path)
        check(segment(image, ImageRecord(1, path, root / "masks" / f"{path.stem}.png")), image)


def test_the_same_image_gives_the_same_masks(segment, tmp_path):
    image, record = drawn(tmp_path)
    before = image.copy()
    np.testing.assert_array_equal(segment(image, record), segment(image, record))
    np.testing.assert_array_equal(image, before)
    image.setflags(write=False)
    np.testing.assert_array_equal(segment(image, record), segment(before, record))


def test_the_label_is_not_known(segment, tmp_path):
    """Neither by name nor through the folder that an image lies in."""
    assert {field.name for field in dataclasses.fields(ImageRecord)} == {
        "image_id",
        "path",
        "mask",
        "part_mask",
        "mask_values",
    }
    image, record = drawn(tmp_path)
    elsewhere = shutil.copytree(tmp_path, tmp_path / "another class")
    moved = ImageRecord(99, elsewhere / "image.png", elsewhere / "mask.png")
    np.testing.assert_array_equal(segment(image, moved), segment(image, record))
