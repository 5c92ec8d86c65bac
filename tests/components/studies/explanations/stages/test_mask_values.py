"""Values of masks, where it is known which mask decides, and on photographs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.metrics import r2_score

from components.data.images import decode
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.networks.backbones.torchvision import Torchvision
from components.models.networks.network import dump_tensors
from components.models.segmentation.segmenters.slic import Slic
from components.models.training.recipe import Recipe
from components.pixels.masks import encode
from components.stage import Batch, ImageRecord
from components.stages.classifier import Classifier
from components.stages.segments import Segments
from components.studies.explanations import surrogate_network as surrogates
from components.studies.explanations.shapley import draw, every_coalition, regression, regression_weights
from components.studies.explanations.stages.coalitions import Coalitions, stored_bits
from components.studies.explanations.stages.mask_values import check_estimator, mask_values
from components.studies.explanations.surrogate import Surrogate
from grid.stages.worker import run_rows
from tests.world import column

SIDE = 32
CNN = SmallCnn(width=4)
SQUEEZENET = "weights/squeezenet1_0_imagenet_fp16.safetensors"
ADAM = Surrogate(optimiser="adam", learning_rate=0.1)
PLANTED = 4  # which mask is red


def coalitions_of(**knobs):
    classifier = Classifier(backbone=CNN, recipe=Recipe(), n_classes=2, image_size=SIDE, seed=0)
    knobs = {"backbone": CNN, "classifier": classifier, "image_size": SIDE, "n_coalitions": 300} | knobs
    return Coalitions(segments=Segments(segmenter=Slic()), **knobs)


@pytest.fixture(scope="module")
def red_counts():
    """A classifier whose class 1 has as its logit how red the image is, and only that; its class 0 has the
    logit 0. The first layers hand the red channel on, less the green."""
    network = CNN.build(2, SIDE, seed=0)
    with torch.no_grad():
        for layer in network.trunk.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.weight.zero_()
                layer.weight[0, 0, 1, 1] = 1
                if layer.in_channels == 3:
                    layer.weight[0, :, 1, 1] = torch.tensor([40.0, -40.0, 0.0])
                if layer.bias is not None:
                    layer.bias.zero_()
        network.head.weight.zero_()
        network.head.weight[1, 0] = 1
        network.head.bias.copy_(torch.tensor([0.0, -4.0]))
    return {"classifier": dump_tensors(network)}


@pytest.fixture(scope="module")
def planted():
    """A noisy grey image of 3 x 3 tiles, one of which is red."""
    tiles = np.arange(SIDE) * 3 // SIDE
    labels = tiles[:, None] * 3 + tiles
    image = np.random.default_rng(0).integers(90, 130, (SIDE, SIDE, 1)).repeat(3, axis=2).astype(np.uint8)
    image[labels == PLANTED] = (220, 20, 20)
    return image, np.array([labels == label for label in range(9)])


def segment_columns(masks):
    """What `coalitions` reads of segment stages."""
    counts = pa.array([encode(of_image) for of_image in masks], pa.list_(pa.binary()))
    height, width = zip(*(of_image.shape[1:] for of_image in masks), strict=True)
    return {"height": height, "width": width, "counts": counts}


def valued(stage, tensors, images, masks):
    """The rows of coalitions and of values."""
    told = [ImageRecord(position, Path("none")) for position in range(len(images))]
    prepare = stage.coalitions.preparation()
    inputs = {"segments": pa.table(segment_columns(masks))}
    sizes = [image.shape[:2] for image in images]
    batch = Batch(told, [prepare(image) for image in images], inputs, sizes)
    table = pa.table(stage.coalitions.load(tensors, "cpu")(batch).columns)
    rows = stage.load(tensors, "cpu")(Batch(told, [], {"coalitions": table}, sizes))
    return table.to_pylist(), pa.table(rows.columns).to_pylist()


ESTIMATORS = [
    ("sobol", "banzhaf", ADAM),
    ("sobol", "shapley", ADAM),
    ("shared", "banzhaf", ADAM),
    ("official", "banzhaf", ADAM),
    ("permutation", "shapley", ADAM),
    ("kernel", "shapley", ADAM),
    ("exact", "shapley", ADAM),
    ("kernel", "banzhaf", None),
    ("kernel", "shapley", None),
    ("gaussian_process", "banzhaf", None),
    ("gaussian_process", "shapley", None),
]


@pytest.mark.parametrize(("estimator", "value", "surrogate"), ESTIMATORS)
def test_the_mask_that_decides_comes_first(estimator, value, surrogate, red_counts, planted):
    image, masks = planted
    sizes = "uniform" if value == "shapley" and surrogate is None else "bernoulli"
    stage = mask_values(
        coalitions_of(sizes=sizes), surrogate=surrogate, value=value, estimator=estimator, n_samples=1024
    )
    (given,), (row,) = valued(stage, red_counts, [image], [masks])
    assert row["label"] == given["label"] == 1
    values = np.array(row["values"])
    assert values.argmax() == PLANTED
    assert values[PLANTED] > 3 * np.abs(np.delete(values, PLANTED)).max()
    gain = given["union"] - given["empty"]
    assert values[PLANTED] == pytest.approx(gain, abs=0.15)
    if surrogate is not None:
        assert 0.5 < row["surrogate_r2"] <= 1


@pytest.mark.parametrize("value", ["banzhaf", "shapley"])
def test_without_surrogate_all_coalitions_give_the_exact_values(value, red_counts, planted):
    image, masks = planted
    stage = mask_values(coalitions_of(exact_up_to=9), surrogate=None, value=value, estimator="kernel")
    (given,), (row,) = valued(stage, red_counts, [image], [masks])
    worth, bits = np.array(given["probabilities"]), every_coalition(9)
    gains = np.array([worth[bits[:, i]] - worth[~bits[:, i]] for i in range(9)])  # the others in one order
    others = bits[~bits[:, 0]].sum(axis=1)
    weight = np.full(256, 1 / 256)
    if value == "shapley":
        weight = 1 / (9 * np.array([1, 8, 28, 56, 70, 56, 28, 8, 1])[others])
    np.testing.assert_allclose(row["values"], gains @ weight, atol=1e-6)
    assert row["surrogate_r2"] is None


def test_edges_of_what_masks_can_be(red_counts, planted):
    """None, one, one that is everything, the same one twice, one in another, and what they are worth."""
    image, masks = planted
    everything = np.ones((1, SIDE, SIDE), bool)
    cases = [
        masks[:0],
        masks[[PLANTED]],
        everything,
        masks[[PLANTED, PLANTED, 0]],
        np.concatenate([masks, everything]),
    ]
    stage = mask_values(coalitions_of(), surrogate=ADAM)
    given, rows = valued(stage, red_counts, [image] * len(cases), cases)
    for row, case, coalitions in zip(rows, cases, given, strict=True):
        assert row["masks"] == list(range(len(case)))
        assert len(row["values"]) == len(case)
        assert np.isfinite(row["values"]).all()
        assert coalitions["label"] == 1
    assert rows[0]["values"] == []
    assert rows[0]["surrogate_r2"] is rows[1]["surrogate_r2"] is None
    for row, coalitions in zip(rows[1:3], given[1:3], strict=True):
        assert row["values"][0] == pytest.approx(coalitions["union"] - coalitions["empty"], abs=0.15)
    first, second, third = rows[3]["values"]
    assert first == pytest.approx(second, abs=0.05)
    assert first > abs(third) + 0.1
    values = np.array(rows[4]["values"])
    assert values[[PLANTED, 9]].min() > np.delete(values, [PLANTED, 9]).max()


def test_the_first_coalitions_are_held_out_and_the_surrogate_is_judged_by_them(
    red_counts, planted, monkeypatch
):
    """What is told of the first 9 of 300 changes no value, but the share of variance, which is scikit-learn's;
    what is told of the tenth changes values."""
    image, masks = planted
    stage = mask_values(coalitions_of(), surrogate=ADAM, n_samples=256)
    (given,), (row,) = valued(stage, red_counts, [image], [masks])
    head = stage.load(red_counts, "cpu")

    def again(changed):
        told = [ImageRecord(0, Path("none"))]
        probabilities = np.array(given["probabilities"])
        probabilities[changed] = 1 - probabilities[changed]
        table = pa.Table.from_pylist([{**given, "probabilities": probabilities.tolist()}])
        rows = head(Batch(told, [], {"coalitions": table}, [image.shape[:2]]))
        return probabilities, pa.table(rows.columns).to_pylist()[0]

    games = []
    fit = surrogates.fit_surrogate
    monkeypatch.setattr(surrogates, "fit_surrogate", lambda *given: games.append(fit(*given)) or games[-1])
    bits = stored_bits(given["bits"], 9)
    for changed in ([], slice(0, 9)):
        probabilities, held_out = again(changed)
        assert held_out["values"] == row["values"]
        expected = r2_score(probabilities[:9], games[-1](bits[:9]))
        assert held_out["surrogate_r2"] == pytest.approx(expected, rel=1e-5)
    assert held_out["surrogate_r2"] < 0 < row["surrogate_r2"]
    assert again(9)[1]["values"] != row["values"]


def test_its_manifest_says_how_well_surrogates_fit(tmp_path):
    def described(*found):
        shares = pa.table({"image_id": range(len(found)), "surrogate_r2": pa.array(found, pa.float32())})
        return mask_values(coalitions_of()).describe(column(tmp_path / str(len(found)), [shares])).numbers

    assert described(0.5, None, 0.75, -90) == {"surrogate_r2": 0.5}, "the median"
    assert described(None) == {}


def test_an_image_whose_values_are_not_finite_fails_alone(red_counts, planted):
    """Of three, the second's probabilities are such that its surrogate never was a number."""
    image, masks = planted
    stage = mask_values(coalitions_of(), surrogate=ADAM, n_samples=64)
    given, rows = valued(stage, red_counts, [image] * 3, [masks] * 3)
    given[1]["probabilities"][20] = float("nan")
    told = [ImageRecord(position, Path("none")) for position in range(3)]
    batch = Batch(told, [], {"coalitions": pa.Table.from_pylist(given)}, [image.shape[:2]] * 3)
    outcome = run_rows(stage.load(red_counts, "cpu"), batch)
    assert outcome.errors == [None, "ValueError: the value of a mask is not finite", None]
    assert outcome.columns["values"].to_pylist() == [rows[0]["values"], rows[2]["values"]]


def test_a_constant_classifier_values_no_mask(red_counts, planted):
    tensors = {"classifier": {**red_counts["classifier"]}}
    tensors["classifier"]["head.weight"] = np.zeros_like(tensors["classifier"]["head.weight"])
    image, masks = planted
    for surrogate, estimator in ((Surrogate(), "sobol"), (None, "kernel")):
        stage = mask_values(coalitions_of(), surrogate=surrogate, estimator=estimator)
        _, (row,) = valued(stage, tensors, [image], [masks])
        np.testing.assert_allclose(row["values"], 0, atol=1e-6)
        assert row["surrogate_r2"] is None


def test_four_hundred_masks(red_counts, planted):
    image, masks = planted
    tiles = np.arange(SIDE) * 20 // SIDE
    labels = tiles[:, None] * 20 + tiles
    small = np.array([labels == label for label in range(400)])
    coalitions = coalitions_of(n_coalitions=900, sizes="uniform")
    stage = mask_values(coalitions, surrogate=None, value="shapley", estimator="kernel")
    (given,), (row,) = valued(stage, red_counts, [image], [small])
    values = np.array(row["values"])
    assert values.sum() == pytest.approx(given["union"] - given["empty"], abs=1e-3)
    inside = np.array([(mask & masks[PLANTED]).sum() > mask.sum() / 2 for mask in small])
    assert values[inside].mean() > 3 * abs(values[~inside].mean())
    _, (row,) = valued(mask_values(coalitions, n_samples=64), red_counts, [image], [small])
    assert np.isfinite(row["values"]).all()
    assert len(row["values"]) == 400


def test_too_few_coalitions_are_refused(red_counts, planted):
    image, masks = planted
    stage = mask_values(coalitions_of(n_coalitions=9))
    with pytest.raises(ValueError, match="9 coalitions of 9 masks, of which the first 9 are held out"):
        valued(stage, red_counts, [image], [masks])


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match="must be kernel or gaussian_process, not sobol"):
        mask_values(coalitions_of(), surrogate=None)
    with pytest.raises(ValueError, match="surrogate must be null"):
        check_estimator(Surrogate(), "banzhaf", "gaussian_process")
    with pytest.raises(ValueError, match="value must be shapley"):
        check_estimator(Surrogate(), "banzhaf", "permutation")
    with pytest.raises(ValueError, match="all_classes"):
        mask_values(coalitions_of(), surrogate=Surrogate(loss="all_classes"))


def test_shapley_values_of_coalitions_that_say_nothing_of_them_are_refused():
    direct = {"surrogate": None, "value": "shapley", "estimator": "kernel"}
    with pytest.raises(ValueError, match=r"^without surrogate, value: shapley needs sizes: uniform[^\n]*$"):
        mask_values(coalitions_of(), **direct)
    for knobs in ({"sizes": "uniform"}, {"exact_up_to": 9}):
        mask_values(coalitions_of(**knobs), **direct)
    mask_values(coalitions_of(), **{**direct, "value": "banzhaf"})
    mask_values(coalitions_of(), value="shapley")


def test_why_they_are_refused():
    """The airport game, where a coalition costs what its dearest player does: the players share each part of
    the cost that they need (Littlechild and Owen 1973). Errors are larger than values themselves."""
    n, errors = 20, {"bernoulli": [], "uniform": []}
    for seed in range(3):
        stream = np.random.default_rng(seed)
        cost = np.sort(stream.random(n))
        truth = np.cumsum(np.diff(cost, prepend=0) / np.arange(n, 0, -1))
        for sizes, found in errors.items():
            bits = draw(n, 2500, sizes, stream)
            weight = regression_weights(bits, "shapley", sizes)
            ends = np.array([0, cost[-1]])
            values = regression(bits, (bits * cost).max(axis=1), weight, ends, "shapley")
            found.append(np.abs(values - truth).mean() / truth.mean())
    assert min(errors["bernoulli"]) > 1
    assert max(errors["uniform"]) < 0.5


def test_all_classes_can_be_fitted(red_counts, planted):
    image, masks = planted
    surrogate = replace(ADAM, loss="all_classes")
    stage = mask_values(coalitions_of(all_classes=True), surrogate=surrogate)
    _, (row,) = valued(stage, red_counts, [image], [masks])
    assert np.argmax(row["values"]) == PLANTED


def test_values_are_the_same_in_other_batches_and_again(red_counts, planted):
    image, masks = planted
    stage = mask_values(coalitions_of(), surrogate=Surrogate(epochs=2), n_samples=256)
    _, together = valued(stage, red_counts, [image] * 3, [masks[:5], masks, masks[:0]])
    _, again = valued(stage, red_counts, [image] * 2, [masks[:5], masks])
    assert together[:2] == again


def test_the_real_squeezenet_on_photographs(test_data):
    """Its own head. With every coalition the values without surrogate are exact; the surrogate agrees on the
    mask that counts most."""
    told = sorted((test_data("imagenet-mini") / "images").iterdir())[:2]
    images = [decode(path) for path in told]
    coalitions = Coalitions(
        backbone=Torchvision(architecture="squeezenet1_0", checkpoint=str(test_data(SQUEEZENET))),
        classifier=None,
        image_size=128,
        frame="center_crop",
        segments=Segments(segmenter=Slic(n_segments=9)),
        max_masks=6,
        exact_up_to=6,
    )
    records = [ImageRecord(position, path) for position, path in enumerate(told)]
    table = pa.table(coalitions.segments.load({}, "cpu")(Batch(records, images, {})).columns)
    prepare = coalitions.preparation()
    batch = Batch(records, [prepare(image) for image in images], {"segments": table})
    given = pa.table(coalitions.load({}, "cpu")(batch).columns)

    def values(**knobs):
        stage = mask_values(coalitions, **knobs)
        rows = stage.load({}, "cpu")(Batch(records, [], {"coalitions": given}, [(1, 1)] * 2))
        return np.array(rows.columns["values"].to_pylist())

    exact = values(surrogate=None, estimator="kernel")
    fitted = values(surrogate=Surrogate(optimiser="adam", learning_rate=0.02, epochs=500))
    assert exact.shape == fitted.shape == (2, 6)
    np.testing.assert_array_equal(exact.argmax(axis=1), fitted.argmax(axis=1))
    assert exact.max() > 0.01
