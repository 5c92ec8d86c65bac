"""Against transformers' pipeline where it is right, and the processor and model point by point."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Sam2Model, Sam2Processor, pipeline

from components.models.segmentation.segmenters.sam2_automatic import Sam2Automatic
from components.models.weights.checkpoints import MissingWeights
from components.pixels import masks
from components.stage import ImageRecord
from tests import small_sam
from tests.half_precision import require_attention
from tests.small_sam import boxed_photographs

RECORD = ImageRecord(1, Path("none"))
EVERYTHING = {"pred_iou_thresh": -1.0, "stability_score_thresh": -1.0}  # or random weights leave no mask
SIDE = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_sam.save_sam2(tmp_path_factory.mktemp("sam2"))


@pytest.mark.parametrize(
    "thresholds",
    [
        EVERYTHING,
        {"pred_iou_thresh": 0.5, "stability_score_thresh": -1.0},
        EVERYTHING | {"stability_score_thresh": 0.95},
    ],
)
def test_square_photographs_against_the_pipeline(folder, test_data, thresholds):
    segment = Sam2Automatic(
        checkpoint=folder, points_per_side=SIDE, points_per_batch=5, box_nms_thresh=0.98, **thresholds
    ).load("cpu")
    generate = pipeline(
        "mask-generation",
        model=Sam2Model.from_pretrained(folder),
        image_processor=Sam2Processor.from_pretrained(folder).image_processor,
    )
    for image, _ in boxed_photographs(test_data)[:3]:
        square = np.ascontiguousarray(image[:200, :200])
        expected = generate(
            Image.fromarray(square),
            points_per_crop=SIDE,
            points_per_batch=5,
            crops_nms_thresh=0.98,
            **thresholds,
        )
        pairs = zip(expected["masks"], expected["scores"], strict=True)
        seen = [(mask.numpy(), score.item()) for mask, score in pairs if mask.any()]
        found = segment(square, RECORD)
        np.testing.assert_array_equal(masks.decode(found.counts, 200, 200), [mask for mask, _ in seen])
        np.testing.assert_allclose(found.predicted_iou, [score for _, score in seen], atol=1e-6)
        assert len(seen) > 1


def test_points_of_any_photograph_against_the_model(folder, test_data):
    """One point of the grid after the other, through the processor: nothing is filtered."""
    model, processor = Sam2Model.from_pretrained(folder).eval(), Sam2Processor.from_pretrained(folder)
    knobs = {**EVERYTHING, "points_per_side": 3, "box_nms_thresh": 1.0}
    segment = Sam2Automatic(checkpoint=folder, **knobs).load("cpu")
    for image, _ in boxed_photographs(test_data)[1:3]:
        height, width = image.shape[:2]
        assert height != width
        logits, ious = [], []
        for y in (1 / 6, 1 / 2, 5 / 6):
            for x in (1 / 6, 1 / 2, 5 / 6):
                told = processor(
                    images=image.copy(),
                    input_points=[[[[x * width, y * height]]]],
                    input_labels=[[[1]]],
                    return_tensors="pt",
                )
                sizes = told.pop("original_sizes")
                with torch.inference_mode():
                    output = model(**told)
                logits.append(processor.post_process_masks(output.pred_masks, sizes, binarize=False)[0][0])
                ious.append(output.iou_scores[0, 0])
        expected = torch.cat(logits).numpy() > 0
        order = np.argsort(-torch.cat(ious).numpy(), kind="stable")
        expected = expected[order][expected[order].any(axis=(1, 2))]
        found = segment(image, RECORD)
        assert len(found.counts) == len(expected) > 9
        decoded = masks.decode(found.counts, height, width)
        assert (decoded != expected).mean() < 1e-4
        assert np.isfinite(found.stability).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (900, 40)])
def test_images_of_any_shape(folder, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    image.setflags(write=False)
    knobs = {"points_per_side": 2, "crop_n_layers": 0, **EVERYTHING}
    found = Sam2Automatic(checkpoint=folder, **knobs).load("cpu")(image, RECORD)
    assert masks.areas(found.counts, *size).min() > 0
    assert found.predicted_iou.shape == found.stability.shape == (len(found.counts),)


def test_half_precision_and_crops_run(folder):
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    knobs = {**EVERYTHING, "points_per_side": 3, "crop_n_layers": 1}
    require_attention(torch.bfloat16)
    for precision in ("fp32", "bf16"):
        found = Sam2Automatic(checkpoint=folder, precision=precision, **knobs).load("cpu")(image, RECORD)
        assert masks.decode(found.counts, 60, 80).any(axis=(1, 2)).all()


def test_missing_weights_say_where_they_were_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("CONCEPTGRID_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingWeights, match=str(tmp_path / "facebook/sam2.1-hiera-large")):
        Sam2Automatic().load("cpu")
