"""Insertion and deletion by pixels, on a classifier that counts red."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.ndimage import gaussian_filter1d
from torchvision.transforms.functional import gaussian_blur

from components.models.segmentation.segmenters.slic import Slic
from components.stage import Batch, ColumnStage, ImageRecord, fixed_size_lists
from components.stages.segments import Segments
from components.studies.explanations.stages.pixel_curves import PixelCurves
from tests.planted_classifier import Red
from tests.world import segment_columns

SIDE = 48  # in which the blur reaches one pixel
A_PIXEL = 224**2 / SIDE**2  # of the 224 frame
OBJECT = np.zeros((SIDE, SIDE), bool)
OBJECT[6:18, 8:20] = True
IMAGE = np.where(OBJECT[..., None], (255, 0, 0), (0, 200, 0)).astype(np.uint8)


class Ranking(ColumnStage):
    """Stands for the stage whose columns a test gives."""


def run(heat, steps_of=1, image=IMAGE, image_id=3, segments=None, **knobs):
    stage = PixelCurves(
        backbone=Red(),
        classifier=None,
        image_size=len(image),
        segments=None if segments is None else Segments(segmenter=Slic()),
        ranking=Ranking(),
        pixels_per_step=steps_of * A_PIXEL,
        **knobs,
    )
    ranking = heat if isinstance(heat, dict) else {"heatmap": fixed_size_lists(heat.reshape(1, -1))}
    inputs = {"ranking": pa.table(ranking)}
    if segments is not None:
        inputs["segments"] = pa.table(segment_columns([segments]))
    rows = stage.load({}, "cpu")(Batch([ImageRecord(image_id, Path("none"))], [image], inputs))
    (row,) = pa.table(rows.columns).to_pylist()
    return row, rows.model_inputs


def probability(picture):
    network = Red().build(None, SIDE, 0).eval()
    with torch.inference_mode():
        return network(torch.from_numpy(picture).permute(2, 0, 1)[None]).softmax(1)[0, 1].item()


def test_a_perfect_heatmap_deletes_the_evidence_in_the_objects_area():
    row, _ = run(OBJECT.astype(np.float16), steps_of=6)
    steps = int(OBJECT.sum()) // 6
    least = min(row["deletion"])
    assert np.flatnonzero(np.isclose(row["deletion"], least, atol=1e-6))[0] == steps
    assert row["deletion"][steps] == pytest.approx(1 / (1 + np.exp(0.8)), abs=1e-5), "gain x threshold"
    assert len(row["deletion"]) == SIDE**2 // 6 + 1
    inverse, _ = run((~OBJECT).astype(np.float16), steps_of=6)
    assert np.mean(inverse["deletion"]) > np.mean(row["deletion"]) + 0.3
    assert np.mean(inverse["insertion"]) < np.mean(row["insertion"])


def test_deletion_is_the_image_with_the_mean_colour_put_to_its_hottest_pixels():
    heat = np.random.default_rng(0).permutation(SIDE**2).reshape(SIDE, SIDE).astype(np.float32)
    row, passes = run(heat, steps_of=350)
    assert passes == 2 * 8, "seven steps, the last one of 204 pixels"
    order = np.argsort(-heat.reshape(-1))
    for k in range(8):
        picture = IMAGE.reshape(-1, 3).copy()
        picture[order[: 350 * k]] = (0, 0, 64)
        assert row["deletion"][k] == pytest.approx(probability(picture.reshape(IMAGE.shape)), abs=1e-5)
    assert row["deletion"][0] == row["probability"] == pytest.approx(probability(IMAGE), abs=1e-6)


def test_insertion_starts_with_a_blurred_image_and_ends_with_the_image():
    """The plain one, kernel 11 and sigma 5 of 224 pixels, by torchvision."""
    row, _ = run(OBJECT.astype(np.float16), steps_of=72, substrate="blur")
    pixels = torch.from_numpy(IMAGE).permute(2, 0, 1).float()
    blurred = gaussian_blur(pixels, [3, 3], [5 * SIDE / 224] * 2).round().byte().permute(1, 2, 0).numpy()
    assert row["insertion"][0] == pytest.approx(probability(blurred), abs=1e-4)
    object_in = np.where(OBJECT[..., None], IMAGE, blurred)
    assert row["insertion"][2] == pytest.approx(probability(object_in), abs=1e-4), "its 144 pixels"
    assert row["insertion"][-1] == pytest.approx(row["probability"], abs=1e-6)
    assert row["insertion"][2] > row["insertion"][0] + 0.01, "the sharp object beside its own blur"


def test_insertion_starts_with_the_blur_of_rises_code_unless_told_otherwise():
    """Of 48 pixels its kernel has 3 by 3, [w, 1 - 2 w, w] in each direction, w = 0.306. Beyond the border is the
    mean colour, whose red is 0: a red column at the border loses a share w there and w of its first and last
    pixel. The mirrored blur loses nothing."""
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[:, 0, 0] = 255
    w = gaussian_filter1d([0.0, 1.0, 0.0], 5 * SIDE / 224)[0]
    heat = OBJECT.astype(np.float16)
    for knobs, red in (({}, (1 - w) * (SIDE - 2 * w)), ({"substrate": "blur"}, SIDE)):
        row, _ = run(heat, steps_of=72, image=image, **knobs)
        expected = 1 / (1 + np.exp(-40 * (red / SIDE**2 - 0.02)))
        assert row["insertion"][0] == pytest.approx(expected, abs=2e-3)
    assert w == pytest.approx(0.306, abs=5e-4)


def test_equal_pixels_come_in_an_order_that_depends_on_the_image_alone():
    flat = np.zeros((SIDE, SIDE), np.float16)
    first, again, other = (run(flat, 240, image_id=number)[0]["deletion"] for number in (1, 1, 2))
    assert first == again != other
    share = OBJECT.mean()
    for k, value in enumerate(first):
        red = share * max(1 - k / 9.6, 0)
        assert value == pytest.approx(1 / (1 + np.exp(-40 * (red - 0.02))), abs=0.1), "spread over the image"


def test_mask_values_are_painted_as_sums():
    """Two masks that overlap: their common pixels first, then those of the better one, then the other's, then
    those in none, and those of a mask with a negative value last."""
    masks = np.zeros((3, SIDE, SIDE), bool)
    masks[0, :, :16], masks[1, :, 8:24], masks[2, :, 40:] = True, True, True
    ranking = {
        "masks": pa.array([[0, 1, 2]], pa.list_(pa.int32())),
        "values": pa.array([[0.2, 0.5, -0.1]], pa.list_(pa.float32())),
    }
    red = np.zeros((SIDE, SIDE, 3), np.uint8)
    sums = 0.2 * masks[0] + 0.5 * masks[1] - 0.1 * masks[2]
    for level, count in ((0.7, 8), (0.5, 8), (0.2, 8), (0.0, 16), (-0.1, 8)):
        assert np.isclose(sums, level).all(axis=0).sum() == count
    red[np.isclose(sums, 0.5)] = (255, 0, 0)
    row, _ = run(ranking, steps_of=8 * SIDE, image=red, segments=masks)
    assert row["label"] == 1
    assert row["deletion"][1] == pytest.approx(row["deletion"][0], abs=1e-6), "the common pixels are not red"
    assert row["deletion"][2] < 0.4, "the better mask's are"
    assert row["deletion"][2:] == pytest.approx([row["deletion"][2]] * 5, abs=1e-6)


def test_a_step_has_at_least_a_pixel():
    image = np.ascontiguousarray(IMAGE[:8, :8])
    row, _ = run(OBJECT[:8, :8].astype(np.float16), steps_of=0.01, image=image)
    assert len(row["insertion"]) == 8**2 + 1
