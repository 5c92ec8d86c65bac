"""Against `segment_anything`'s own generator, on a small SAM in the official file format."""

from pathlib import Path

import numpy as np
import pytest
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.modeling import ImageEncoderViT, MaskDecoder

from components.models.segmentation.segmenters.sam_automatic import SamAutomatic
from components.models.weights.checkpoints import MissingWeights
from components.models.weights.loading import WrongWeights
from components.pixels import masks
from components.stage import ImageRecord
from tests import small_sam
from tests.small_sam import boxed_photographs

RECORD = ImageRecord(1, Path("none"))
EVERYTHING = {"pred_iou_thresh": -1e9, "stability_score_thresh": -1.0}  # or random weights leave no mask


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return small_sam.save_sam(tmp_path_factory.mktemp("sam") / "sam.pth")


KNOBS = [
    EVERYTHING | {"points_per_side": 6},
    EVERYTHING | {"points_per_side": 5, "points_per_batch": 7, "box_nms_thresh": 0.95},
    EVERYTHING | {"points_per_side": 3, "crop_n_layers": 1},
    EVERYTHING | {"points_per_side": 4, "min_mask_region_area": 150, "box_nms_thresh": 0.999},
    {"points_per_side": 6, "pred_iou_thresh": -0.5, "stability_score_thresh": 0.001, "box_nms_thresh": 0.999},
]


@pytest.mark.parametrize("knobs", KNOBS, ids=range(len(KNOBS)))
def test_photographs_against_the_generator(checkpoint, test_data, knobs):
    segment = SamAutomatic(checkpoint=checkpoint, **knobs).load("cpu")
    theirs = SamAutomaticMaskGenerator(small_sam.sam(), output_mode="binary_mask", **knobs)
    for image, _ in boxed_photographs(test_data)[1:3]:
        found, expected = segment(image, RECORD), [m for m in theirs.generate(image) if m["area"]]
        assert len(found.counts) == len(expected) >= 1
        assert len(expected) > 4 or knobs.get("box_nms_thresh", 0.7) < 0.99
        decoded = masks.decode(found.counts, *image.shape[:2])
        np.testing.assert_array_equal(decoded, [mask["segmentation"] for mask in expected])
        np.testing.assert_array_equal(found.predicted_iou, np.float32([m["predicted_iou"] for m in expected]))
        np.testing.assert_array_equal(found.stability, np.float32([m["stability_score"] for m in expected]))
        assert found.counts == masks.encode(decoded)


def test_points_and_crops_take_the_passes_that_they_should(checkpoint, monkeypatch):
    encoded, decoded = [], []
    for kind, sizes in ((ImageEncoderViT, encoded), (MaskDecoder, decoded)):
        forward = kind.forward

        def counting(self, *args, forward=forward, sizes=sizes, **kwargs):
            output = forward(self, *args, **kwargs)
            sizes.append(len(output[0] if isinstance(output, tuple) else output))
            return output

        monkeypatch.setattr(kind, "forward", counting)
    knobs = {**EVERYTHING, "points_per_side": 5, "points_per_batch": 7, "crop_n_layers": 1}
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    SamAutomatic(checkpoint=checkpoint, **knobs).load("cpu")(image, RECORD)
    assert encoded == 5 * [1], "the image and its four crops"
    assert decoded == 5 * [7, 7, 7, 4]


def test_no_region_smaller_than_the_least_is_left(checkpoint, test_data):
    """Holes and islands by scikit-image, not by OpenCV; a mask of small islands only keeps its largest."""
    from skimage.measure import label

    least = 150
    image, _ = boxed_photographs(test_data)[0]
    knobs = {**EVERYTHING, "points_per_side": 4, "min_mask_region_area": least, "box_nms_thresh": 1.0}
    found = SamAutomatic(checkpoint=checkpoint, **knobs).load("cpu")(image, RECORD)
    for mask in masks.decode(found.counts, *image.shape[:2]):
        islands = np.bincount(label(mask, connectivity=2).ravel())[1:]
        assert len(islands) == 1 or islands.min() >= least


def test_masks_without_a_pixel_are_left_out(checkpoint, test_data):
    image, _ = boxed_photographs(test_data)[0]
    found = SamAutomatic(checkpoint=checkpoint, points_per_side=4, **EVERYTHING).load("cpu")(image, RECORD)
    assert masks.areas(found.counts, *image.shape[:2]).min() > 0
    assert np.isfinite(found.stability).all()


@pytest.mark.parametrize("size", [(1, 1), (900, 40), (64, 64)])
def test_images_of_any_shape_and_thresholds_that_nothing_meets(checkpoint, size):
    image = np.full((*size, 3), 128, np.uint8)
    image.setflags(write=False)
    every = SamAutomatic(checkpoint=checkpoint, points_per_side=2, **EVERYTHING).load("cpu")(image, RECORD)
    assert masks.decode(every.counts, *size).shape[1:] == size
    strict = SamAutomatic(checkpoint=checkpoint, points_per_side=2, pred_iou_thresh=1e9)
    none = strict.load("cpu")(image, RECORD)
    assert none.counts == []
    assert none.predicted_iou.shape == none.stability.shape == (0,)
    assert none.predicted_iou.dtype == np.float32


def test_half_precision_runs(checkpoint):
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    knobs = {**EVERYTHING, "points_per_side": 3, "box_nms_thresh": 1.0}
    full, half = (
        SamAutomatic(checkpoint=checkpoint, precision=precision, **knobs).load("cpu")(image, RECORD)
        for precision in ("fp32", "bf16")
    )
    assert len(half.counts) == len(full.counts) == 27
    shares = [masks.areas(found.counts, 60, 80).mean() / 4800 for found in (full, half)]
    assert shares[1] == pytest.approx(shares[0], rel=0.15)


def test_missing_and_wrong_weights(monkeypatch, tmp_path):
    monkeypatch.setenv("CONCEPTGRID_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingWeights, match=str(tmp_path / "sam_vit_b_01ec64.pth")):
        SamAutomatic().load("cpu")
    (tmp_path / "sam_vit_b_01ec64.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(WrongWeights):
        SamAutomatic().load("cpu")
