"""The warm-up: the backbone learns on the crops of the bags, then it is frozen. On drawn images."""

from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
import torch

from components.data.columns import Data
from components.method import Fitted
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.networks.network import dump_tensors, to_pixels
from components.models.segmentation.segmenters.felzenszwalb import Felzenszwalb
from components.pixels.crops import segment_crops, stored_masks
from components.studies.seg_mil import warm_up as mil_warm_up
from components.studies.seg_mil.bag_tensors import read_bags
from components.studies.seg_mil.heads import new_head
from components.studies.seg_mil.warm_up import encoded, warm_up, warmed
from tests.world import run_stages

SEED = 5  # that of the columns' classifier
PREFIX = "backbone/"


@pytest.fixture(scope="module")
def method(segmented_birds):
    return replace(
        segmented_birds[0], warmup_epochs=3, warmup_learning_rate=1e-2, warmup_batch_size=8, epochs=3
    )


@pytest.fixture(scope="module")
def data(segmented_birds):
    return segmented_birds[1]


@pytest.fixture(scope="module")
def run(method, data):
    """What was fitted, and what was reported on the way."""
    reported = []
    fitted = method.fit(data, SEED, lambda step, **metrics: reported.append((step, metrics)))
    return fitted, reported


def backbone_of(fitted):
    return {n.removeprefix(PREFIX): value for n, value in fitted.tensors.items() if n.startswith(PREFIX)}


def test_it_learns(run, method):
    losses = [metrics["train_warmup_loss"] for _, metrics in run[1] if "train_warmup_loss" in metrics]
    assert len(losses) == method.warmup_epochs
    assert losses[-1] < losses[0] - 0.1
    assert [step for step, metrics in run[1] if "train_loss" in metrics] == list(range(method.epochs))
    for name in method.at_steps():
        epochs = method.warmup_epochs if name == "train_warmup_loss" else method.epochs
        assert [step for step, metrics in run[1] if name in metrics] == list(range(epochs)), name


def test_the_backbone_changes_in_the_warm_up_and_not_after(run, method, data):
    """Training goes on for `epochs` after it; the classifier's own head has no part in any of it."""
    before, after = data.tensors("classifier"), backbone_of(run[0])
    assert before.keys() == after.keys()
    for name, value in after.items():
        assert np.array_equal(value, before[name]) == name.startswith("head."), name
    bags = read_bags(method, data, data.split("train").ids)
    head = new_head(method, data, bags, SEED)
    network = warm_up(method, data, head, bags, SEED, lambda step, **metrics: None)
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not network.training
    for name, value in dump_tensors(network).items():
        np.testing.assert_array_equal(value, after[name])
    assert any(
        not np.array_equal(value, run[0].tensors[f"last/{name}"])
        for name, value in dump_tensors(head).items()
    )


def test_the_head_learns_in_the_warm_up_too(method, data):
    bags = read_bags(method, data, data.split("train").ids)
    head = new_head(method, data, bags, SEED)
    before = dump_tensors(head)
    warm_up(replace(method, warmup_epochs=1), data, head, bags, SEED, lambda step, **metrics: None)
    after = dump_tensors(head)
    for name in ("concept_layer.weight", "attention_score.weight", "classifier.weight"):
        assert not np.array_equal(before[name], after[name])
    np.testing.assert_array_equal(before["mean"], after["mean"])


def test_features_are_standardised_as_the_warm_up_left_them(run, method, data):
    """By docs/methods/seg_mil.md, eq. 1, over the training segments, in float64, from each crop alone."""
    bags = read_bags(method, data, data.split("train").ids)
    crops = crops_of(data, bags.bags)
    with torch.inference_mode():
        h = warmed(method, data, backbone_of(run[0])).features(to_pixels(np.stack(crops), "cpu")).double()
    stored = bags.features[bags.valid].double()
    for selection in ("last", "val_average"):
        mean, std = (run[0].tensors[f"{selection}/{name}"] for name in ("mean", "std"))
        np.testing.assert_allclose(mean, h.mean(dim=0), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(std, h.std(dim=0, correction=0), rtol=1e-3, atol=1e-4)
        assert np.abs(stored.mean(dim=0).numpy() - mean).max() > 0.01, "they are not those before it"


def crops_of(data, bags):
    """Of all segments of the bags, bag after bag."""
    found = []
    table = data["segments"].read(bags.ids, ["height", "width", "counts"])
    for row, image in enumerate(data.images(bags.ids)):
        masks = stored_masks(table, row)
        found += [segment_crops(image, masks[i][None], 48)[0] for i in bags.segments[row, bags.valid[row]]]
    return found


def test_a_trial_encodes_each_segment_once(method, data, monkeypatch):
    """And in each epoch of the warm-up: what a trial asks for after fitting are the same two splits."""
    passed = []
    monkeypatch.setattr(
        mil_warm_up, "to_pixels", lambda crops, device: passed.append(len(crops)) or to_pixels(crops, device)
    )
    fitted = method.fit(data, SEED, lambda step, **metrics: None)
    method.evaluate(fitted, data)
    ids = data.usable_split("test").ids
    method.predict(fitted, data, ids)
    assert len(method.explain(fitted, data, ids[[7, 2]])) == 2
    method.pictures(fitted, data, ids[:2])
    counts = {
        split: read_bags(method, data, data.usable_split(split).ids).bags.valid.sum()
        for split in ("train", "val", "test")
    }
    assert sum(passed) == method.warmup_epochs * counts["train"] + sum(counts.values())


def test_features_are_those_of_each_crop_alone(run, method, data):
    ids = data.usable_split("test").ids
    bags = method.bags(run[0], data, ids)
    network = warmed(method, data, backbone_of(run[0])).cpu()
    table = data["segments"].read(ids, ["height", "width", "counts"])
    for row, image in enumerate(data.images(ids)):
        masks = stored_masks(table, row)
        for place in range(bags.bags.valid.shape[1]):
            feature = bags.features[row, place]
            if not bags.bags.valid[row, place]:
                assert (feature == 0).all()
                continue
            mask = masks[bags.bags.segments[row, place]]
            with torch.inference_mode():
                alone = network.features(to_pixels(segment_crops(image, mask[None], 48), "cpu"))[0]
            torch.testing.assert_close(feature, alone, atol=1e-4, rtol=1e-4)


def test_with_the_weights_it_starts_from_they_are_the_stages_features(method, data):
    ids = data.split("val").ids
    for changes in ({}, {"rho_max": 1e-9}):
        changed = replace(method, **changes)
        stored = read_bags(changed, data, ids)
        same_features(changed, data, stored)
        assert bool(stored.bags.fallback.all()) == bool(changes)


def same_features(method, data, stored):
    network = warmed(method, data, data.tensors("classifier"))
    again = encoded(network, data, replace(stored, features=torch.zeros(1)))
    torch.testing.assert_close(again.features, stored.features, atol=1e-4, rtol=1e-4)


def test_crops_of_merged_segments_are_those_of_the_unions(method, data, tmp_path):
    united = replace(
        method, segmenter=Felzenszwalb(), merge="union", tau_iou=0.1, tau_min_pixels=16, rho_max=1.0
    )
    stages = united.stages(data.card, SEED)
    own = {name: stages[name] for name in ("segments", "clip_segments", "features")}
    made = run_stages(own, data.card, data.index, tmp_path)
    merged = Data(data.card, data.index, data._columns | made._columns, data._tensors)
    stored = read_bags(united, merged, merged.split("val").ids)
    assert not stored.bags.fallback.any()
    same_features(united, merged, stored)


def test_what_was_fitted_predicts_when_it_is_loaded(run, method, data):
    fitted = run[0]
    loaded = Fitted(safetensors.numpy.load(safetensors.numpy.save(fitted.tensors)), fitted.facts)
    ids = data.usable_split("test").ids
    logits = method.predict(fitted, data, ids)
    np.testing.assert_array_equal(method.predict(loaded, data, ids), logits)
    np.testing.assert_allclose(method.predict(loaded, data, ids[5:9]), logits[5:9], atol=1e-4)
    cold = replace(method, warmup_epochs=0)
    assert not np.allclose(cold.predict(loaded, data, ids), logits, atol=1e-2)
    right = (logits.argmax(axis=1) == data.usable_split("test").labels).sum() / len(data.split("test").ids)
    (value,) = [
        m.value
        for m in method.evaluate(loaded, data)
        if (m.name, m.split, m.group, m.selection) == ("average_accuracy", "test", "all", "last")
    ]
    assert value == pytest.approx(right)


def test_a_mirrored_crop_is_the_crop_of_the_mirrored_image_and_mask(data):
    """So images, masks and crops are mirrored together; to one level of 255, by rounding."""
    ids = data.split("train").ids[:6]
    table = data["segments"].read(ids, ["height", "width", "counts"])
    for row, image in enumerate(data.images(ids)):
        masks = stored_masks(table, row)
        crops = segment_crops(image, masks, 48)
        other = segment_crops(image[:, ::-1], masks[:, :, ::-1], 48)
        assert np.abs(crops[:, :, ::-1].astype(int) - other).max() <= 1
        assert np.abs(crops.astype(int) - other).max() > 20, "it shows which way round it is"


def test_the_seed_decides(run, method, data):
    again = method.fit(data, SEED, lambda step, **metrics: None)
    for name, value in run[0].tensors.items():
        np.testing.assert_array_equal(again.tensors[name], value)


def test_a_loss_that_is_not_a_number_stops(method, data):
    with pytest.raises(FloatingPointError, match=r"step \d+ of the warm-up"):
        replace(method, warmup_learning_rate=1e30).fit(data, SEED, lambda step, **metrics: None)


def test_segments_drop_out_in_the_warm_up(run, method, data):
    dropping = replace(method, segment_dropout=0.5).fit(data, SEED, lambda step, **metrics: None)
    name = f"{PREFIX}trunk.0.weight"
    assert not np.array_equal(dropping.tensors[name], run[0].tensors[name])


def test_the_classifier_it_starts_from_is_a_stage(method, data):
    stages = method.stages(data.card, SEED)
    assert stages["classifier"] == stages["features"].classifier
    assert "classifier" not in replace(method, warmup_epochs=0).stages(data.card, SEED)
    frozen = replace(method, recipe=None, backbone=SmallCnn(checkpoint="somewhere"))
    assert "classifier" not in frozen.stages(data.card, SEED)


def test_what_is_no_crop_of_its_own_cannot_be_warmed_up(method):
    for changes in ({"encode": "pool"}, {"merge": "mean"}):
        with pytest.raises(ValueError, match="warmup_epochs needs encode: crop, and merge: keep or union"):
            replace(method, **changes)
