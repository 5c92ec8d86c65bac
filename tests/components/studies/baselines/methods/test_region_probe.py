"""A probe of one region, on images whose left half has the class and whose right half has the shortcut."""

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from components.data.card import CardError, load_card
from components.data.columns import Data
from components.data.images import ImageIndex
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.segmentation.segmenters.felzenszwalb import Felzenszwalb
from components.models.segmentation.segmenters.grounded_sam import GroundedSam
from components.models.segmentation.segmenters.whole_image import WholeImage
from components.models.training.recipe import Recipe
from components.stage import fixed_size_lists, ragged_lists
from components.studies.baselines.methods.region_probe import RegionProbe
from tests.world import column, run_stages

SIDE = 16
CARD = load_card("toybirds").model_copy(update={"image_size": SIDE})
COUNTS = {"train": (95, 5, 5, 95), "val": (20, 20, 20, 20), "test": (40, 40, 40, 40)}
COMMON = {"backbone": SmallCnn(width=4), "recipe": Recipe(epochs=6, batch_size=32, learning_rate=1e-2)}


def quiet(step, **metrics):
    pass


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """The left half is red or blue by the class; the right half green or not by the place. The first image of
    the test split has no mask."""
    root = tmp_path_factory.mktemp("images")
    (root / "masks").mkdir()
    rows = [
        (split, group) for split, counts in COUNTS.items() for group in range(4) for _ in range(counts[group])
    ]
    stream = np.random.default_rng(0)
    first_tested = [split for split, _ in rows].index("test")
    for i, (_, group) in enumerate(rows):
        label, place = divmod(group, 2)
        image = 128 + stream.normal(0, 10, (SIDE, SIDE, 3))
        image[:, : SIDE // 2] += np.array([1, 0, -1]) * (25 * (2 * label - 1) + stream.normal(0, 18))
        image[:, SIDE // 2 :] += np.array([0, 60 * (2 * place - 1), 0])
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / f"{i}.png")
        if i != first_tested:
            mask = np.broadcast_to(np.arange(SIDE) < SIDE // 2, (SIDE, SIDE))
            Image.fromarray(mask).save(root / f"masks/{i}.png")
    groups = np.array([group for _, group in rows])
    splits = np.array([split for split, _ in rows], object)
    paths = np.array([f"{i}.png" for i in range(len(rows))], object)
    ids, names = np.arange(len(rows)), tuple("abcd")
    return ImageIndex(root, ids, paths, groups // 2, groups, splits, CARD.classes, names, "masks/{stem}.png")


@pytest.fixture(scope="module")
def probed(index, tmp_path_factory):
    """By segmenter: the method, its data, what was fitted, and results on the test split by name."""
    found = {}
    for name, knobs in {"object": {}, "whole": {"segmenter": WholeImage()}}.items():
        method = RegionProbe(**COMMON, **knobs)
        data = run_stages(method.stages(CARD, 0), CARD, index, tmp_path_factory.mktemp(name))
        fitted = method.fit(data, 0, quiet)
        results = {
            m.name: m.value for m in method.evaluate(fitted, data) if m.split == "test" and m.group == "all"
        }
        found[name] = method, data, fitted, results
    return found


def test_a_probe_of_the_object_does_not_see_the_shortcut(probed):
    of_object, of_whole = probed["object"][3], probed["whole"][3]
    assert of_object["worst_group_accuracy"] > 0.8
    assert of_whole["worst_group_accuracy"] < of_object["worst_group_accuracy"] - 0.2
    assert (of_object["region_found"], of_whole["region_found"]) == (159 / 160, 1)


def test_the_probe_is_scikit_learns(probed):
    method, data, fitted, _ = probed["object"]
    train, test = data.split("train"), data.split("test").ids[1:]
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=5000))
    pipeline.fit(
        np.stack(data["features"].read(train.ids, ["features"])["features"].to_pylist())[:, 0], train.labels
    )
    logits = method.predict(fitted, data, test)
    seen = np.stack(data["features"].read(test, ["features"])["features"].to_pylist())[:, 0]
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], pipeline.decision_function(seen), atol=1e-3)


def test_an_image_without_its_region_is_seen_whole(probed):
    method, data, _, _ = probed["object"]
    ids = data.split("test").ids[:2]
    features, found = method.features(data, ids)
    assert found.tolist() == [False, True]
    np.testing.assert_array_equal(features[0], data["images"].array("features", ids)[0])


def test_a_detector_gives_its_best_segment_above_the_threshold(tmp_path, index):
    scores = [[0.3, 0.7, 0.5], [], [0.1, 0.2]]
    counts = [len(one) for one in scores]
    features = np.arange(20, dtype=np.float32).reshape(5, 4)
    ids = index.image_ids[:3]
    columns = {
        "segments": column(tmp_path / "s", [pa.table({"image_id": ids, "score": pa.array(scores)})]),
        "features": column(
            tmp_path / "f",
            [pa.table({"image_id": ids, "features": ragged_lists(fixed_size_lists(features), counts)})],
        ),
        "images": column(
            tmp_path / "i", [pa.table({"image_id": ids, "features": fixed_size_lists(-features[:3] - 1)})]
        ),
    }
    method = RegionProbe(**COMMON, segmenter=GroundedSam(), box_threshold=0.25)
    seen, found = method.features(Data(CARD, index, columns), ids)
    assert found.tolist() == [True, False, False]
    np.testing.assert_array_equal(seen, [features[1], -features[1] - 1, -features[2] - 1])


def test_what_gives_no_region_is_refused():
    with pytest.raises(ValueError, match="one region"):
        RegionProbe(segmenter=Felzenszwalb())
    with pytest.raises(CardError, match="names no masks"):
        RegionProbe(**COMMON).stages(CARD.model_copy(update={"masks": None}), 0)
