"""The methods that use group labels, on images whose shortcut is planted."""

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from components.data.card import load_card
from components.data.columns import Split
from components.data.images import DataError, ImageIndex
from components.identity import rng
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.training.recipe import Recipe
from components.studies.baselines import balanced_regression
from components.studies.baselines.balanced_regression import INVERSE_STRENGTHS, halves, retrain
from components.studies.baselines.methods.group_balanced import GroupBalanced
from components.studies.baselines.methods.group_dro import GroupDro
from components.studies.baselines.methods.last_layer_retraining import LastLayerRetraining
from components.studies.baselines.methods.standard import Standard
from tests.world import run_stages

SIDE = 16
CARD = load_card("toybirds").model_copy(update={"image_size": SIDE})
COMMON = {
    "backbone": SmallCnn(width=4),
    "recipe": Recipe(epochs=10, batch_size=32, learning_rate=1e-2),
}
COUNTS = {"train": (285, 15, 15, 285), "val": (100, 100, 100, 100), "test": (100, 100, 100, 100)}


def planted(root):
    """The left half is red or blue by the class, noisily; the right half green or not by the place, plainly,
    which in training goes with the class in 95 % of the images."""
    rows = [
        (split, group) for split, counts in COUNTS.items() for group in range(4) for _ in range(counts[group])
    ]
    stream = np.random.default_rng(0)
    for i, (_, group) in enumerate(rows):
        label, place = divmod(group, 2)
        core = 25 * (2 * label - 1) + stream.normal(0, 15)
        image = 128 + stream.normal(0, 10, (SIDE, SIDE, 3))
        image[:, : SIDE // 2] += np.array([core, 0, -core])
        image[:, SIDE // 2 :] += np.array([0, 60 * (2 * place - 1), 0])
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / f"{i}.png")
    groups = np.array([group for _, group in rows])
    splits = np.array([split for split, _ in rows], object)
    paths = np.array([f"{i}.png" for i in range(len(rows))], object)
    names = tuple("abcd")
    return ImageIndex(root, np.arange(len(rows)), paths, groups // 2, groups, splits, CARD.classes, names)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """By method: its data, and its results on the test split by name."""
    index = planted(tmp_path_factory.mktemp("images"))
    found = {}
    for method in (
        Standard(**COMMON),
        GroupBalanced(**COMMON),
        GroupDro(**COMMON, group_step=0.1),
        LastLayerRetraining(**COMMON),
    ):
        if type(method) is LastLayerRetraining:  # its stages are those of ERM, as a test below says
            data = found[Standard][1]
        else:
            data = run_stages(method.stages(CARD, 0), CARD, index, tmp_path_factory.mktemp("columns"))
        fitted = method.fit(data, 0, lambda step, **metrics: None)
        found[type(method)] = (method, data, fitted, method.evaluate(fitted, data))
    return found


def test_what_they_report_on_val_is_what_a_search_may_go_by(worlds):
    for method, _, _, metrics in worlds.values():
        reported = {(m.selection, m.name) for m in metrics if (m.split, m.group) == ("val", "all")}
        known = method.validated(CARD)
        assert reported == {(selection, name) for selection, names in known.items() for name in names}


def worst(metrics):
    (value,) = (m.value for m in metrics if (m.name, m.split) == ("worst_group_accuracy", "test"))
    return value


@pytest.mark.parametrize("kind", [GroupBalanced, GroupDro])
def test_the_worst_group_is_better_than_by_erm(worlds, kind):
    assert worst(worlds[Standard][3]) < 0.7
    assert worst(worlds[kind][3]) > worst(worlds[Standard][3]) + 0.2


def test_there_are_no_results_on_images_that_trained_the_last_layer(worlds):
    for kind, splits in ((GroupBalanced, {"val", "test"}), (LastLayerRetraining, {"test"})):
        assert {metric.split for metric in worlds[kind][3]} == splits
    assert LastLayerRetraining(**COMMON, source="train").evaluated == ("val", "test")


def test_the_objective_is_the_stages_and_the_rest_of_the_recipe_the_specs():
    for method, objective in ((GroupBalanced(**COMMON), "group_balanced"), (GroupDro(**COMMON), "group_dro")):
        recipe = method.stages(CARD, 0)["classifier"].recipe
        assert (recipe.objective, recipe.epochs) == (objective, 10)
    dro = GroupDro(**COMMON, group_step=0.1, group_adjustment=3).stages(CARD, 0)["classifier"].recipe
    assert (dro.group_step, dro.group_adjustment) == (0.1, 3)
    erm, retrained = Standard(**COMMON), LastLayerRetraining(**COMMON)
    assert erm.stages(CARD, 0) == retrained.stages(CARD, 0)


@pytest.mark.parametrize("kind", [GroupBalanced, GroupDro, LastLayerRetraining])
def test_a_recipe_with_an_objective_of_its_own_is_refused(kind):
    with pytest.raises(ValueError, match=r"recipe\.objective is the method's own"):
        kind(recipe=Recipe(objective="group_dro"))


def regression(images, inverse_strength):
    """scikit-learn on (features, labels)."""
    return LogisticRegression(C=inverse_strength, l1_ratio=1, solver="liblinear", max_iter=1000).fit(*images)


def test_on_balanced_groups_it_is_scikit_learns_regression(worlds):
    """Every group of the validation split has 100 images, so every balanced subset is the whole."""
    method, data, fitted, _ = worlds[LastLayerRetraining]
    val, test = data.split("val"), data.split("test")
    scaler = StandardScaler().fit(data["logits"].array("features", data.split("train").ids))
    x = scaler.transform(data["logits"].array("features", val.ids))
    model = regression((x, val.labels), fitted.facts["inverse_strength"])
    logits = method.predict(fitted, data, test.ids)
    expected = model.decision_function(scaler.transform(data["logits"].array("features", test.ids)))
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], expected, atol=0.02 * np.abs(expected).max())
    assert (
        logits.argmax(axis=1) == model.predict(scaler.transform(data["logits"].array("features", test.ids)))
    ).mean() > 0.99


def test_the_strength_is_the_best_on_the_half_that_trains_nothing(worlds):
    method, data, _, _ = worlds[LastLayerRetraining]
    reported = {}
    fitted = method.fit(data, 3, lambda step, inverse_strength, **m: reported.update({inverse_strength: m}))
    val = data.split("val")
    x = data["logits"].array("features", val.ids)
    first, second = halves(balanced_regression.Images(x, val.labels, val.groups), rng(3, "last layer halves"))
    scaler = StandardScaler().fit(first.features)
    first, second = first.scaled(scaler), second.scaled(scaler)
    expected = []
    for inverse_strength in INVERSE_STRENGTHS:
        right = (
            regression((first.features, first.labels), inverse_strength).predict(second.features)
            == second.labels
        )
        expected.append(min(right[second.groups == group].mean() for group in range(4)))
    found = [reported[strength]["tuning_worst_group_accuracy"] for strength in INVERSE_STRENGTHS]
    np.testing.assert_allclose(found, expected, atol=0.021)  # one of the 50 images of a group
    assert fitted.facts["inverse_strength"] == INVERSE_STRENGTHS[int(np.argmax(found))]


def part(name, groups, seed=0):
    """A split with these groups, and features in which the label shows."""
    groups = np.array(groups)
    features = np.random.default_rng(seed).normal(size=(len(groups), 3)) + (groups // 2)[:, None]
    return Split(name, np.arange(len(groups)), groups // 2, groups), features.astype(np.float32)


def fit(train, val, source, n_balanced=3, classes=("a", "b"), seed=0):
    parts, features = zip(train, val, strict=True)
    named = dict(zip(("train", "val"), parts, strict=True))
    arrays = dict(zip(("train", "val"), features, strict=True))
    return retrain(arrays, named, source, n_balanced, classes, seed, lambda step, **metrics: None)


@pytest.mark.parametrize("source", ["train", "val"])
def test_on_a_noisy_and_a_spurious_feature_the_worst_group_is_better_than_by_erm(source):
    parts = {}
    for name, counts in {"train": (950, 50, 50, 950), "val": (50,) * 4, "test": (500,) * 4}.items():
        split, _ = part(name, np.repeat(range(4), counts))
        truth = np.stack([split.labels, split.groups % 2], axis=1) * 2 - 1
        noise = rng(0, name).normal(size=truth.shape) * [0.8, 0.3]
        parts[name] = split, (truth + noise).astype(np.float32)
    fitted = fit(parts["train"], parts["val"], source, n_balanced=10)
    test, x = parts["test"]
    dfr = (x @ fitted.tensors["weight"].T + fitted.tensors["bias"]).argmax(axis=1)
    erm = LogisticRegression().fit(parts["train"][1], parts["train"][0].labels).predict(x)
    worst_of = [
        min((found == test.labels)[test.groups == g].mean() for g in range(4)) for found in (erm, dfr)
    ]
    assert worst_of[1] > worst_of[0] + 0.2
    assert worst_of[1] > 0.8  # at best Φ(1 / 0.8) = 0.89


@pytest.mark.parametrize("source", ["train", "val"])
def test_the_layer_is_the_mean_over_balanced_subsets_of_its_source(source, monkeypatch):
    seen = []

    class Spy(LogisticRegression):
        def fit(self, x, y):
            seen.append(super().fit(x, y) and (x, y, self.coef_[0], self.intercept_[0]))
            return self

    monkeypatch.setattr(balanced_regression, "LogisticRegression", Spy)
    train, val = (
        part("train", [0] * 50 + [1] * 7 + [3] * 30, 1),
        part("val", [0] * 9 + [1] * 20 + [2] * 5 + [3] * 8, 2),
    )
    fitted = fit(train, val, source)
    split, features = {"train": train, "val": val}[source]
    scaler = StandardScaler().fit(train[1].astype(float))  # whatever the source
    rows = {
        tuple(np.round(x, 6)): g
        for x, g in zip(scaler.transform(features.astype(float)), split.groups, strict=True)
    }
    final = seen[len(INVERSE_STRENGTHS) :]
    for x, *_ in seen[: len(INVERSE_STRENGTHS)]:  # with halves of val, the subset that is fitted to
        if source == "val":
            np.testing.assert_allclose([x.mean(axis=0), x.std(axis=0)], [[0] * 3, [1] * 3], atol=1e-9)
        else:
            assert {tuple(np.round(row, 6)) for row in x} <= rows.keys()
    subsets = [sorted(tuple(np.round(row, 6)) for row in x) for x, _, _, _ in final]
    for subset in subsets:
        assert len(set(subset)) == len(subset)  # without replacement
        counts = np.unique([rows[row] for row in subset], return_counts=True)[1]
        assert counts.tolist() == ([7, 7, 7] if source == "train" else [5, 5, 5, 5])
    assert subsets[0] != subsets[1]
    weight = np.mean([coef for _, _, coef, _ in final], axis=0)
    bias = np.mean([intercept for _, _, _, intercept in final])
    logits = features @ fitted.tensors["weight"].T + fitted.tensors["bias"]
    np.testing.assert_allclose(
        logits[:, 1] - logits[:, 0], scaler.transform(features) @ weight + bias, atol=1e-4
    )


def test_halves_share_every_group_and_no_image():
    groups = np.repeat([0, 1, 2], [7, 2, 1])
    images = balanced_regression.Images(np.arange(10.0)[:, None], groups % 2, groups)
    first, second = halves(images, np.random.default_rng(0))
    assert sorted([*first.features[:, 0], *second.features[:, 0]]) == list(range(10))
    assert np.bincount(first.groups).tolist() == [4, 1, 1]
    assert np.bincount(second.groups).tolist() == [3, 1]


def test_a_group_of_one_image_makes_subsets_of_one_and_a_missing_class_is_an_error():
    lonely = part("val", [0] * 6 + [2] * 5 + [3])
    assert np.isfinite(fit(lonely, lonely, "val").tensors["weight"]).all()
    one_of_each = part("val", [0, 3])  # nothing is left to tune on
    assert fit(one_of_each, one_of_each, "val").facts["inverse_strength"] == INVERSE_STRENGTHS[0]
    with pytest.raises(DataError, match="no usable image of 'b' in the split 'val'"):
        fit(lonely, part("val", [0, 1, 1]), "val")


def test_three_classes_are_one_against_the_rest():
    images = part("train", [0] * 40 + [2] * 40 + [4] * 40)
    fitted = fit(images, images, "train", n_balanced=1, classes=("a", "b", "c"))
    split, features = images
    x = StandardScaler().fit_transform(features.astype(float))
    logits = features @ fitted.tensors["weight"].T + fitted.tensors["bias"]
    for label in range(3):
        model = regression((x, split.labels == label), fitted.facts["inverse_strength"])
        np.testing.assert_allclose(logits[:, label], model.decision_function(x), atol=0.02)


def test_the_seed_decides_the_layer():
    images = part("val", [0] * 30 + [1] * 9 + [2] * 12 + [3] * 40)
    first, again, other = (fit(images, images, "val", seed=seed).tensors["weight"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
