"""SEG-MIL-CBM from drawn images through all its stages, and on columns that are made up."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from components.data.card import load_card
from components.data.columns import Data
from components.data.images import DataError, ImageIndex
from components.models.segmentation.segmenters.felzenszwalb import Felzenszwalb
from components.pixels import masks
from components.pixels.bags import WHOLE_IMAGE
from components.stage import fixed_size_lists, ragged_lists
from components.studies.seg_mil.bag_tensors import read_bags
from components.studies.seg_mil.head import of_class
from components.studies.seg_mil.heads import run_head
from components.studies.seg_mil.methods.seg_mil_cbm import SELECTIONS, SegMilCbm
from tests.world import column, run_stages, segment_columns

CARD = load_card("toybirds").model_copy(update={"image_size": 48})
CONCEPTS = CARD.vocabulary()
SEED = 5
WIDTH = 8


def silent(step, **metrics):
    pass


def values(metrics):
    return {(m.name, m.split, m.group, m.selection): m.value for m in metrics}


def restricted(data, index=None, **changes):
    """The same data set with some of its parts replaced."""
    parts = {"columns": data._columns, "tensors": data._tensors, **changes}
    return Data(data.card, index or data.index, **parts)


@pytest.fixture(scope="module")
def method(segmented_birds):
    return segmented_birds[0]


@pytest.fixture(scope="module")
def drawn(segmented_birds):
    return segmented_birds[1]


@pytest.fixture(scope="module")
def fitted(method, drawn):
    return method.fit(drawn, SEED, silent)


def test_it_learns_what_the_images_show(method, drawn, fitted):
    found = values(method.evaluate(fitted, drawn))
    assert found["average_accuracy", "val", "all", "last"] >= 0.9
    for selection in SELECTIONS:
        assert found["average_accuracy", "test", "all", selection] >= 0.85


def test_attention_lies_on_the_bird_more_than_its_area_does(method, drawn, fitted):
    """Property 9 of docs/methods/seg_mil.md, "Checked properties", by the true masks: over all, and in every group of both splits."""
    found = values(method.evaluate(fitted, drawn))
    for split in ("val", "test"):
        for group in ("all", *drawn.index.group_names):
            assert found["attention_on_object_excess", split, group, "last"] > 0.05, (split, group)


@pytest.mark.parametrize(
    "changes",
    [
        {"encode": "pool"},
        {"target": "zscore"},
        {"segmenter": Felzenszwalb(), "merge": "union", "tau_iou": 0.1},
    ],
    ids=str,
)
def test_every_form_of_segments_and_targets_goes_from_images_to_results(method, drawn, tmp_path, changes):
    """In one piece, with the stages that the form has of its own; the concept loss makes a difference (property 6 of docs/methods/seg_mil.md, "Checked properties")."""
    variant = replace(method, **changes, tau_min_pixels=16, lambda_concept=1.0)
    stages, common = variant.stages(CARD, SEED), method.stages(CARD, SEED)
    own = {name: stage for name, stage in stages.items() if stage != common.get(name)}
    assert set(own) == {
        "encode": {"features"}, "target": set(), "segmenter": {"segments", "clip_segments", "features"},
    }[next(iter(changes))]  # fmt: skip
    made = run_stages(own, CARD, drawn.index, tmp_path)
    data = restricted(drawn, columns=drawn._columns | made._columns)
    if variant.merge == "union":
        ids = data.usable_split("test").ids
        for row in data["segments"].read(ids, ["height", "width", "counts"]).to_pylist():
            iou = masks.iou(row["counts"], row["height"], row["width"])
            assert (iou[~np.eye(len(iou), dtype=bool)] <= 0.1).all()
    found, without = (
        values(m.evaluate(m.fit(data, SEED, silent), data))
        for m in (variant, replace(variant, lambda_concept=0))
    )
    assert found["average_accuracy", "test", "all", "last"] >= 0.75
    key = ("concept_cosine_above_constant", "test", "all", "last")
    assert found[key] > without[key] + 0.02


def test_the_failed_image_is_wrong_and_only_that(method, drawn, fitted):
    test = drawn.split("test")
    usable = drawn.usable(test.ids)
    assert (~usable).sum() == 1
    right = method.predict(fitted, drawn, test.ids[usable]).argmax(axis=1) == test.labels[usable]
    found = values(method.evaluate(fitted, drawn))
    assert found["average_accuracy", "test", "all", "last"] == pytest.approx(right.sum() / len(test.ids))
    dropping = values(method.evaluate(fitted, restricted(drawn, on_failed="drop")))
    assert dropping["average_accuracy", "test", "all", "last"] == pytest.approx(right.mean())


def test_the_seed_decides_the_metrics(method, drawn, fitted):
    again, other = method.fit(drawn, SEED, silent), method.fit(drawn, SEED + 1, silent)
    np.testing.assert_equal(values(method.evaluate(again, drawn)), values(method.evaluate(fitted, drawn)))
    assert all(np.array_equal(fitted.tensors[name], again.tensors[name]) for name in fitted.tensors)
    name = "last/classifier.weight"
    assert not np.array_equal(fitted.tensors[name], other.tensors[name])


def relabelled(data, split, seed=0):
    index, rows = data.index, np.flatnonzero(data.index.splits == split)
    labels, groups = index.labels.copy(), index.groups.copy()
    turned = np.random.default_rng(seed).permutation(rows)
    labels[rows], groups[rows] = labels[turned], groups[turned]
    assert (labels != index.labels).any()
    return restricted(data, replace(index, labels=labels, groups=groups))


def test_labels_of_the_test_split_never_reach_the_fit(method, drawn, fitted):
    blind = method.fit(relabelled(drawn, "test"), SEED, silent)
    assert blind.tensors.keys() == fitted.tensors.keys()
    assert all(np.array_equal(fitted.tensors[name], blind.tensors[name]) for name in fitted.tensors)


def test_labels_of_validation_choose_but_do_not_train(method, drawn, fitted):
    other = method.fit(relabelled(drawn, "val"), SEED, silent)
    last = [name for name in fitted.tensors if name.startswith("last/")]
    assert all(np.array_equal(fitted.tensors[name], other.tensors[name]) for name in last)
    trained = method.fit(relabelled(drawn, "train"), SEED, silent)
    assert not np.array_equal(
        fitted.tensors["last/classifier.weight"], trained.tensors["last/classifier.weight"]
    )


def test_segments_and_bags_are_the_same_whatever_the_labels(method, drawn, tmp_path):
    """Property 8 of docs/methods/seg_mil.md, "Checked properties"."""
    other = drawn
    for split in ("train", "val", "test"):
        other = relabelled(other, split)
    ids = drawn.usable_split("train").ids
    stage = {"segments": method.stages(CARD, SEED)["segments"]}
    again = run_stages(stage, CARD, other.index, tmp_path)["segments"]
    assert again.read(ids, again.fields).equals(drawn["segments"].read(ids, again.fields))
    bags, same = (read_bags(method, data, ids) for data in (drawn, other))
    assert (bags.labels != same.labels).any()
    for name in ("segments", "concepts", "scores", "areas", "valid"):
        np.testing.assert_array_equal(getattr(bags.bags, name), getattr(same.bags, name))
    np.testing.assert_array_equal(bags.features, same.features)


def test_the_bag_rules_are_the_knobs(method, drawn):
    ids = drawn.split("train").ids
    few = read_bags(replace(method, bag_size=2, k_top=1), drawn, ids)
    assert few.features.shape[:2] == (len(ids), 2)
    for row in range(len(ids)):
        assert len(set(few.bags.concepts[row][few.bags.valid[row]])) == 1
    assert read_bags(replace(method, rho_max=1e-9), drawn, ids).bags.fallback.all()


def test_whole_image_bags_have_the_images_features(method, drawn):
    ids = drawn.split("train").ids
    bags = read_bags(replace(method, rho_max=1e-9, bag_size=3), drawn, ids)
    np.testing.assert_array_equal(bags.features[:, 0], drawn["images"].array("features", ids))
    cosines = drawn["clip_images"].array("embedding", ids) @ drawn.tensors("clip_texts")["embedding"].T
    np.testing.assert_allclose(bags.similarities[:, 0], cosines, atol=1e-6)
    assert (bags.features[:, 1:] == 0).all()


def test_explanations_name_regions_of_the_image(method, drawn, fitted):
    test = drawn.split("test").ids
    ids = test[drawn.usable(test)][[4, 0]]
    for image_id, explanation in zip(ids, method.explain(fitted, drawn, ids), strict=True):
        assert explanation.image_id == image_id
        assert explanation.masks.shape == (len(explanation.captions), 48, 48)
        assert explanation.weights.sum() == pytest.approx(1, abs=1e-5)
        for caption, _ in zip(explanation.captions, explanation.weights, strict=True):
            chosen, _, told = caption.partition(" (CLIP: ")[2].partition(")")
            said = {concept.removeprefix("NOT ") for concept in told.removeprefix(": ").split(", ")}
            assert {chosen} | said <= {*CONCEPTS, "unnamed", ""}
        predicted = method.predict(fitted, drawn, np.array([image_id])).argmax()
        assert explanation.title.startswith(CARD.classes[predicted])


def test_explained_masks_are_the_bags_segments(method, drawn, fitted):
    ids = drawn.split("val").ids[:2]
    bags = read_bags(method, drawn, ids).bags
    explanations = method.explain(fitted, drawn, ids)
    assert len(explanations) == len(ids)
    for row, explanation in enumerate(explanations):
        areas = drawn["segments"].read(ids, ["area"])["area"][row].as_py()
        chosen = bags.segments[row][bags.valid[row]]
        expected = [48 * 48 if i == WHOLE_IMAGE else areas[i] for i in chosen]
        assert explanation.masks.sum(axis=(1, 2)).tolist() == expected


def test_nothing_to_explain_and_failed_images_give_no_explanation(method, drawn, fitted):
    test = drawn.split("test").ids
    assert method.explain(fitted, drawn, test[~drawn.usable(test)]) == []


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """Columns without any model: in one segment of each image the label shows, in the others noise; the
    cosines of concepts follow another direction of the features."""
    folder, stream = tmp_path_factory.mktemp("made_up"), np.random.default_rng(0)
    n, counts = 240, np.random.default_rng(1).integers(1, 5, 240)
    labels, ids = stream.integers(0, 2, n), np.arange(n) * 2
    cut = []
    for count in counts:
        whole = np.zeros((count, 8, 8), bool)
        whole[np.arange(count), :, :] = np.arange(8) // 2 == np.arange(count)[:, None, None]
        cut.append(whole)
    features = stream.standard_normal((counts.sum(), WIDTH)).astype(np.float32)
    first = np.cumsum(counts) - counts
    features[first, 0] = 6 * labels - 3
    features[:, 1] = 0
    features[first, 1] = 4
    texts = np.eye(len(CONCEPTS), dtype=np.float32)
    mixing = stream.standard_normal((WIDTH, len(CONCEPTS))).astype(np.float32)
    seen = features @ mixing
    clip = 0.2 + 0.02 * seen
    whole_clip, whole = clip[first], features[first]

    def stored(name, fields):
        return column(folder / name, [pa.table({"image_id": ids, **fields})])

    def ragged(array):
        return ragged_lists(fixed_size_lists(array), counts.tolist())

    columns = {
        "segments": stored("segments", segment_columns(cut)),
        "clip_segments": stored("clip_segments", {"embedding": ragged(clip)}),
        "features": stored("features", {"features": ragged(features)}),
        "clip_images": stored("clip_images", {"embedding": fixed_size_lists(whole_clip)}),
        "images": stored("images", {"features": fixed_size_lists(whole)}),
    }
    splits = np.array(["train"] * 4 + ["val", "test"], object)[np.arange(n) % 6]
    paths = np.array([f"{i}.png" for i in ids], object)
    groups = labels * 2 + stream.integers(0, 2, n)
    names = tuple(f"{y} on {p}" for y in CARD.classes for p in CARD.places)
    index = ImageIndex(folder, ids, paths, labels, groups, splits, CARD.classes, names)
    return Data(CARD, index, columns, {"clip_texts": {"embedding": texts}})


FAST = SegMilCbm(tau_min_pixels=0, rho_max=1, epochs=40, learning_rate=1e-2, batch_size=64, weight_decay=0)


def last(method, data, name, split="test"):
    fitted = method.fit(data, 0, silent)
    return values(method.evaluate(fitted, data))[name, split, "all", "last"]


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_attention_finds_the_segment_that_decides(made_up, kind):
    """Property 9 of docs/methods/seg_mil.md, "Checked properties": it lies on the segment in which the label shows, more than its share of the bag."""
    method = replace(FAST, head=kind)
    fitted = method.fit(made_up, 0, silent)
    bags = read_bags(method, made_up, made_up.split("test").ids)
    attention = run_head(method.fitted_head(fitted), bags)[1].attention
    on_it = of_class(attention, torch.from_numpy(bags.labels)).numpy()[bags.bags.segments == 0]
    several = bags.bags.valid.sum(axis=1) > 1
    assert on_it[several].mean() > 1.5 * (1 / bags.bags.valid.sum(axis=1))[several].mean()
    found = values(method.evaluate(fitted, made_up))
    assert found["average_accuracy", "test", "all", "last"] >= 0.95
    assert found["segments_per_bag", "test", "all", "last"] == pytest.approx(2.5, abs=0.4)
    entropies = [
        last(replace(method, attention_temperature=t), made_up, "attention_entropy") for t in (0.1, 10.0)
    ]
    assert entropies[0] < found["attention_entropy", "test", "all", "last"] < entropies[1]


@pytest.mark.parametrize(
    "changes",
    [
        *({"head": head, "pooling": pooling} for head in ("v1", "v2") for pooling in ("mean", "max")),
        {"feature_scaling": "layer_norm"},
        {"feature_scaling": "none"},
        {"segment_dropout": 0.3},
        {"head": "v1", "segment_dropout": 0.3},
    ],
    ids=str,
)
def test_every_control_learns(made_up, changes):
    method = replace(FAST, **changes, epochs=60)
    assert last(method, made_up, "average_accuracy") >= 0.9


@pytest.mark.parametrize("target", ["softmax", "zscore"])
def test_the_concept_loss_aligns_above_the_best_constant(made_up, target):
    """Property 6 of docs/methods/seg_mil.md, "Checked properties": with and without lambda the runs differ above what a constant vector reaches."""
    without, little, much, shuffled = (
        last(replace(FAST, target=kind, lambda_concept=weight), made_up, "concept_cosine_above_constant")
        for kind, weight in ((target, 0.0), (target, 0.1), (target, 1.0), ("shuffled", 1.0))
    )
    assert max(without, shuffled) < 0.1 < much
    assert without + 0.05 < little < much


def test_diagnostics_lie_in_their_ranges(made_up):
    found = values(FAST.evaluate(FAST.fit(made_up, 0, silent), made_up))
    for split in ("val", "test"):
        value = {name: found[name, split, "all", "last"] for name in (
            "concept_cosine", "attention_entropy", "attention_concentrated", "whole_image_fallback",
        )}  # fmt: skip
        assert -1 <= value["concept_cosine"] <= 1
        assert 0 <= value["attention_entropy"] <= np.log(4)
        assert 0 < value["attention_concentrated"] <= 1
        assert value["whole_image_fallback"] == 0


def test_every_epoch_is_reported_and_a_candidate(made_up):
    steps = []
    fitted = FAST.fit(made_up, 0, lambda step, **metrics: steps.append((step, metrics)))
    assert [step for step, _ in steps] == list(range(FAST.epochs))
    assert steps[-1][1]["train_loss"] < steps[0][1]["train_loss"]
    best = max(metrics["val_average_accuracy"] for _, metrics in steps)
    found = values(FAST.evaluate(fitted, made_up))
    assert found["average_accuracy", "val", "all", "val_average"] == pytest.approx(best)
    worst = max(metrics["val_worst_group_accuracy"] for _, metrics in steps)
    assert found["worst_group_accuracy", "val", "all", "val_worst_group"] == pytest.approx(worst)
    assert found["average_accuracy", "val", "all", "last"] == pytest.approx(
        steps[-1][1]["val_average_accuracy"]
    )


def test_each_number_is_reported_once(made_up):
    metrics = FAST.evaluate(FAST.fit(made_up, 0, silent), made_up)
    counts = Counter((m.name, m.split, m.group, m.selection) for m in metrics)
    assert set(counts.values()) == {1}


def without(data, split):
    index = data.index
    return restricted(data, index.rows(index.splits != split))


@pytest.mark.filterwarnings("error")
def test_a_data_set_without_validation_images(made_up):
    data = without(made_up, "val")
    short = replace(FAST, epochs=2)
    fitted = short.fit(data, 0, silent)
    for name in ("classifier.weight", "concept_layer.weight"):
        np.testing.assert_array_equal(fitted.tensors[f"val_average/{name}"], fitted.tensors[f"last/{name}"])
    found = values(short.evaluate(fitted, data))
    assert np.isnan(found["average_accuracy", "val", "all", "last"])
    assert np.isfinite(found["average_accuracy", "test", "all", "val_average"])


def test_a_data_set_without_training_images(made_up):
    with pytest.raises(DataError, match="no training image"):
        FAST.fit(without(made_up, "train"), 0, silent)


def test_one_training_image_is_enough(made_up):
    """With one segment, of which no deviation can be estimated."""
    index, train = made_up.index, made_up.split("train").ids
    alone = train[read_bags(FAST, made_up, train).bags.valid.sum(axis=1) == 1][0]
    rows = (index.splits != "train") | (index.image_ids == alone)
    data = restricted(made_up, index.rows(rows))
    fitted = replace(FAST, epochs=1, target="zscore").fit(data, 0, silent)
    assert all(np.isfinite(value).all() for value in fitted.tensors.values())


def test_dropped_segments_change_training_and_nothing_else(made_up):
    """The bags of evaluation are whole, and a seed drops the same ones."""
    ids = made_up.split("test").ids
    method = replace(FAST, epochs=2, segment_dropout=0.5)
    fitted, again = (method.fit(made_up, 0, silent) for _ in range(2))
    whole = replace(FAST, epochs=2).fit(made_up, 0, silent)
    weights = [one.tensors["last/classifier.weight"] for one in (fitted, again, whole)]
    np.testing.assert_array_equal(*weights[:2])
    assert not np.array_equal(*weights[1:])
    same = replace(method, segment_dropout=0.0).predict(fitted, made_up, ids)
    np.testing.assert_array_equal(method.predict(fitted, made_up, ids), same)


def test_a_loss_that_is_not_a_number_stops(made_up):
    with pytest.raises(FloatingPointError, match="step"):
        replace(FAST, learning_rate=1e30).fit(made_up, 0, silent)


def test_random_features_are_refused():
    with pytest.raises(ValueError, match="random"):
        SegMilCbm(recipe=None)
