"""Coalitions of masks through their stage: what is stored, and the edges of what an image's masks can be."""

import math
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.networks.network import dump_tensors, to_pixels
from components.models.segmentation.segmenters.slic import Slic
from components.models.training.recipe import Recipe
from components.pixels.framed_segments import framed_segments, kept_masks
from components.pixels.frames import framed, framed_mask
from components.pixels.masks import encode
from components.stage import Batch, ImageRecord
from components.stages.classifier import Classifier
from components.stages.segments import Segments
from components.studies.explanations.stages.coalitions import Coalitions, stored_bits
from grid.stages.worker import run_rows
from tests.planted_classifier import Overflowing

SIDE = 32
CNN = SmallCnn(width=4)
CLASSIFIER = Classifier(backbone=CNN, recipe=Recipe(), n_classes=3, image_size=SIDE, seed=0)


def classifier():
    """With logits that tell coalitions apart."""
    network = CNN.build(3, SIDE, seed=1).eval()
    with torch.no_grad():
        network.head.weight *= 50
    return network


TENSORS = {"classifier": dump_tensors(classifier())}
STAGE = Coalitions(
    backbone=CNN,
    classifier=CLASSIFIER,
    image_size=SIDE,
    segments=Segments(segmenter=Slic()),
    n_coalitions=40,
)
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


def grid(rows, columns, shape=IMAGE.shape[:2]):
    """Disjoint rectangles that cover the image."""
    y, x = (np.arange(side) * parts // side for side, parts in zip(shape, (rows, columns), strict=True))
    labels = y[:, None] * columns + x
    return np.array([labels == label for label in range(rows * columns)])


def segment_columns(masks):
    """What `framed_segments` reads of segment stages."""
    counts = pa.array([encode(of_image) for of_image in masks], pa.list_(pa.binary()))
    height, width = zip(*(of_image.shape[1:] for of_image in masks), strict=True)
    return {"height": height, "width": width, "counts": counts}


def run(stage, masks, images=None, tensors=TENSORS):
    """Rows of images (one and the same, where none are given) with these masks each."""
    images = images or [IMAGE] * len(masks)
    prepare = stage.preparation()
    told = [ImageRecord(position, Path("none")) for position in range(len(masks))]
    inputs = {"segments": pa.table(segment_columns(masks))}
    batch = Batch(told, [prepare(image) for image in images], inputs, [x.shape[:2] for x in images])
    rows = stage.load(tensors, "cpu")(batch)
    return pa.table(rows.columns).to_pylist(), rows.model_inputs


def plainly(masks, bits, hidden=0, frame="squash"):
    """By painting: label and probability of the image, and of each coalition."""
    network = classifier()
    square = framed(IMAGE, SIDE, frame)
    inside = [framed_mask(mask, SIDE, frame) > 0 for mask in masks]
    painted = [square]
    for coalition in bits:
        shown = np.zeros((SIDE, SIDE), bool)
        for mask, there in zip(inside, coalition, strict=True):
            shown |= mask & bool(there)
        painted.append(np.where(shown[..., None], square, np.uint8(hidden)))
    with torch.inference_mode():
        found = network(to_pixels(np.stack(painted), "cpu")).softmax(1).numpy()
    label = int(found[0].argmax())
    return label, found[:, label]


@pytest.mark.parametrize(
    "masks",
    {
        "none": grid(1, 1)[:0],
        "one": grid(2, 2)[:1],
        "everything": grid(1, 1),
        "overlapping": np.concatenate([grid(1, 3), grid(2, 1)]),
        "twice the same": grid(2, 2)[[0, 0, 3]],
    }.items(),
    ids=lambda item: item[0],
)
def test_probabilities_are_those_of_painted_images(masks):
    ((row,), _) = run(STAGE, [masks[1]])
    n = len(masks[1])
    bits = stored_bits(row["bits"], n)
    assert bits.shape == ((40, n) if n else (0, 0))
    ends = np.array([[False] * n, [True] * n]) if n else np.zeros((2, 0), bool)
    label, expected = plainly(masks[1], np.concatenate([ends, bits]))
    found = [row["probability"], row["empty"], row["union"], *row["probabilities"]]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert row["label"] == label
    assert row["masks"] == list(range(n))


def test_a_mask_without_a_pixel_in_the_square_is_no_player():
    """Of seven columns of a wide image the middle five lie in its square; of a squashed one all do, but not
    one that is empty."""
    masks = np.concatenate([grid(1, 7), np.zeros((1, 40, 56), bool)])
    (row,), _ = run(replace(STAGE, frame="center_crop"), [masks])
    assert row["masks"] == [1, 2, 3, 4, 5]
    bits = stored_bits(row["bits"], 5)
    _, expected = plainly(masks[1:6], bits, frame="center_crop")
    np.testing.assert_allclose([row["probability"], *row["probabilities"]], expected, atol=1e-6)
    (row,), _ = run(STAGE, [masks])
    assert row["masks"] == list(range(7))
    (row,), passed = run(replace(STAGE, frame="center_crop"), [masks[[0, 6]]])
    assert (row["masks"], row["probabilities"], passed) == ([], [], 2)


def test_hidden_pixels_have_the_mean_colour_on_request():
    (row,), _ = run(replace(STAGE, fill="mean"), [grid(2, 3)])
    bits = stored_bits(row["bits"], 6)
    _, expected = plainly(grid(2, 3), np.concatenate([np.zeros((1, 6), bool), bits]), hidden=128)
    found = [row["probability"], row["empty"], *row["probabilities"]]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert abs(row["empty"] - plainly(grid(2, 3), np.zeros((1, 6), bool))[1][1]) > 1e-3


@pytest.mark.parametrize("sizes", ["bernoulli", "uniform"])
def test_coalitions_have_the_sizes_that_were_asked_for_and_are_an_images_own(sizes):
    """Of 10 masks: binomial with chance 1/2, or each of the 11 sizes alike."""
    stage = replace(STAGE, sizes=sizes, n_coalitions=20_000)
    drawn = stage.drawn(10, image_id=3)
    share = np.bincount(drawn.sum(axis=1), minlength=11) / len(drawn)
    binomial = np.array([math.comb(10, size) for size in range(11)]) / 2**10
    expected = binomial if sizes == "bernoulli" else np.full(11, 1 / 11)
    np.testing.assert_allclose(share, expected, atol=0.015)
    np.testing.assert_allclose(drawn.mean(axis=0), 0.5, atol=0.015)
    np.testing.assert_array_equal(drawn, stage.drawn(10, image_id=3))
    for other in (stage.drawn(10, image_id=4), replace(stage, seed=1).drawn(10, image_id=3)):
        assert abs(np.corrcoef(drawn.ravel(), other.ravel())[0, 1]) < (0.01 if sizes == "bernoulli" else 0.02)


def test_an_image_with_a_probability_that_is_not_finite_fails_alone():
    """White overflows its logit, other colours do not."""
    stage = replace(STAGE, backbone=Overflowing(), classifier=None)
    white, grey = np.full_like(IMAGE, 255), np.full_like(IMAGE, 90)
    prepare = stage.preparation()
    told = [ImageRecord(position, Path("none")) for position in range(3)]
    inputs = {"segments": pa.table(segment_columns([grid(2, 2)] * 3))}
    batch = Batch(told, [prepare(x) for x in (grey, white, grey)], inputs, [IMAGE.shape[:2]] * 3)
    outcome = run_rows(stage.load({}, "cpu"), batch)
    assert outcome.errors == [None, "ValueError: a probability is not finite", None]
    assert len(outcome.columns["probabilities"]) == 2


def test_coalitions_that_show_the_same_are_passed_once():
    """One mask: the image, nothing, the mask; two masks that are one: the same."""
    for masks in (grid(2, 2)[:1], grid(2, 2)[[0, 0]]):
        _, passed = run(STAGE, [masks])
        assert passed == 3
    _, passed = run(STAGE, [grid(1, 2), grid(1, 1)[:0]])
    assert passed == (1 + 4) + (1 + 1)


def test_an_image_with_few_masks_gets_every_coalition():
    stage = replace(STAGE, exact_up_to=4)
    (few, many), _ = run(stage, [grid(2, 2), grid(1, 5)])
    codes = stored_bits(few["bits"], 4) @ (1 << np.arange(4))
    assert codes.tolist() == list(range(16))
    assert len(many["probabilities"]) == 40


def test_a_constant_classifier_finds_all_coalitions_alike():
    tensors = {"classifier": {**TENSORS["classifier"]}}
    tensors["classifier"]["head.weight"] = np.zeros_like(tensors["classifier"]["head.weight"])
    (row,), _ = run(STAGE, [grid(2, 3)], tensors=tensors)
    assert np.ptp([row["probability"], row["empty"], *row["probabilities"]]) < 1e-7


def test_four_hundred_masks():
    (row,), _ = run(replace(STAGE, n_coalitions=9), [grid(20, 20)])
    bits = stored_bits(row["bits"], 400)
    _, expected = plainly(grid(20, 20), bits)
    np.testing.assert_allclose(row["probabilities"], expected[1:], atol=1e-6)


def test_masks_that_are_too_small_or_too_many_take_no_part():
    masks = np.concatenate([grid(1, 2), grid(10, 14)[:3], grid(2, 2)[:1]])
    framed_areas = [int((framed_mask(m, SIDE, "squash") > 0).sum()) for m in masks]
    large = 60 * (224 / SIDE) ** 2
    (row,), _ = run(replace(STAGE, min_pixels=large), [masks])
    assert row["masks"] == [i for i, area in enumerate(framed_areas) if area >= 60] == [0, 1, 5]
    (row,), _ = run(replace(STAGE, max_masks=2), [masks])
    assert row["masks"] == [0, 1]
    assert len(stored_bits(row["bits"], 2)) == 40


def test_framing_keeps_the_masks_of_the_square():
    masks = grid(1, 7)
    table = pa.table(segment_columns([masks]))
    inside = framed_segments(table, 0, SIDE, "center_crop")
    assert not inside[0].any()
    assert inside.sum(axis=0).max() == 1
    assert inside.any(axis=0).all()
    assert kept_masks(inside, 1.0, None).tolist() == [1, 2, 3, 4, 5]
    assert kept_masks(inside, 0.0, None).tolist() == [1, 2, 3, 4, 5]
    assert kept_masks(inside, 0.0, 1).tolist() == [int(inside.sum(axis=(1, 2)).argmax())]


def test_many_masks_of_a_large_image_are_never_in_memory_as_a_whole():
    """400 masks of 480 x 640 pixels are 117 MB; in the square, 1.6 MB."""
    tiles = [np.zeros((1, 480, 640), bool) for _ in range(400)]
    for number, tile in enumerate(tiles):
        tile[
            0, 24 * (number // 20) : 24 * (number // 20 + 1), 32 * (number % 20) : 32 * (number % 20 + 1)
        ] = 1
    counts = [encode(tile)[0] for tile in tiles]
    table = pa.table({"height": [480], "width": [640], "counts": pa.array([counts], pa.list_(pa.binary()))})
    tracemalloc.start()
    try:
        found = framed_segments(table, 0, 64, "squash")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8e6
    expected = np.stack([framed_mask(tile[0], 64, "squash") for tile in tiles])
    np.testing.assert_array_equal(found, expected)


def test_batches_do_not_matter():
    masks = [grid(2, 3), grid(1, 1)[:0], grid(3, 3)]
    together, _ = run(STAGE, masks)
    prepare = STAGE.preparation()
    inputs = {"segments": pa.table(segment_columns(masks))}
    whole = Batch(
        [ImageRecord(i, Path("none")) for i in range(3)], [prepare(IMAGE)] * 3, inputs, [(40, 56)] * 3
    )
    one_by_one = STAGE.load(TENSORS, "cpu")
    for position, row in enumerate(together):
        (alone,) = pa.table(one_by_one(whole.part(slice(position, position + 1))).columns).to_pylist()
        assert alone["bits"] == row["bits"]
        np.testing.assert_allclose(alone["probabilities"], row["probabilities"], atol=1e-6)


def test_probabilities_of_all_classes_are_kept_on_request():
    (row,), _ = run(replace(STAGE, all_classes=True), [grid(2, 2)])
    found = np.frombuffer(row["class_probabilities"], np.float16).reshape(40, 3)
    np.testing.assert_allclose(found[:, row["label"]], row["probabilities"], atol=1e-3)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=2e-3)
