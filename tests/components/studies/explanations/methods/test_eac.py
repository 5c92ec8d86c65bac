"""EAC on birds that are drawn: their own masks, halves of them and the ground."""

import statistics
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from torch import nn

from components.data.card import load_card
from components.data.columns import Data
from components.data.readers.waterbirds_csv import WaterbirdsCsv
from components.models.networks.backbone import Backbone
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.networks.network import Network, load_tensors
from components.models.networks.statistics import CENTRED
from components.models.segmentation.segmenters.grid import Grid
from components.models.segmentation.segmenters.ground_truth import GroundTruth
from components.models.training.recipe import Recipe
from components.stage import sampled
from components.studies.explanations.methods.eac import Eac
from components.studies.explanations.surrogate import Surrogate
from tests.world import draw_waterbirds, run_stages

SIDE = 48
CARD = load_card("toybirds").model_copy(update={"image_size": SIDE})
METHOD = Eac(
    backbone=SmallCnn(width=8),
    recipe=Recipe(epochs=40, learning_rate=1e-2),
    segmenter=GroundTruth(),
    fill="mean",
    n_coalitions=100,
    surrogate=Surrogate(optimiser="adam", learning_rate=0.02, epochs=200),
    n_samples=256,
)
# the values without surrogate, from all coalitions
DIRECT = replace(METHOD, surrogate=None, estimator="kernel", exact_up_to=4)
OBJECT, GROUND = 0, 3  # positions among the ground-truth segments


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eac")
    index = WaterbirdsCsv().read(draw_waterbirds(folder / "data", per_group=4), CARD)
    stages = METHOD.stages(CARD, 0)
    stages |= {"classifier": METHOD.target(CARD, 0).classifier, "direct": DIRECT.ranking(CARD, 0)}
    stages["direct"] = sampled(stages["direct"], METHOD.sample)
    data = run_stages(stages, CARD, index, folder)
    return data, METHOD.fit(data, 0, lambda step, **metrics: None)


@pytest.fixture(scope="module")
def exact(explained):
    """Banzhaf values of the four masks of each test image, from pictures painted here and passed one by one."""
    data, _ = explained
    network = METHOD.backbone.build(2, SIDE, seed=0)
    load_tensors(network, data.tensors("classifier"))
    values = []
    for image, masks in painted(data):
        shown = {z: masks[np.array(z, bool)].any(axis=0)[..., None] for z in product((0, 1), repeat=4)}
        pictures = [image, *(np.where(mask, image, 128) for mask in shown.values())]  # 128: the mean colour
        pictures = np.stack(pictures).astype(np.uint8)
        with torch.inference_mode():
            found = network.eval()(torch.from_numpy(pictures).permute(0, 3, 1, 2)).softmax(1).numpy()
        worth = dict(zip(shown, found[1:, found[0].argmax()].astype(float), strict=True))
        gains = [
            np.mean([worth[(*z[:i], 1, *z[i + 1 :])] - worth[z] for z in shown if not z[i]]) for i in range(4)
        ]
        values.append(gains)
    return np.array(values)


def painted(data):
    """Of each test image its pixels, and the masks that it was drawn with: bird, its halves, ground."""
    ids = data.usable_split("test").ids
    for image, row in zip(data.images(ids), data.rows(ids), strict=True):
        parts = np.asarray(Image.open(data.index.beside(data.index.part_masks, int(row))))
        yield image, np.stack([parts > 0, parts == 1, parts == 2, parts == 0])


def values_of(data, name):
    rows = data[name].read(data.usable_split("test").ids, ["masks", "values"]).to_pylist()
    assert len(rows) == 16
    assert all(row["masks"] == [0, 1, 2, 3] for row in rows)
    return np.array([row["values"] for row in rows])


def test_without_surrogate_values_are_those_of_painted_pictures(explained, exact):
    np.testing.assert_allclose(values_of(explained[0], "direct"), exact, atol=1e-5)
    assert np.ptp(exact, axis=1).min() > 0.05


def test_the_surrogates_values_are_near_the_exact_ones(explained, exact):
    """Exact values of so few masks are the oracle: the chosen mask is the best one, or as good."""
    found = values_of(explained[0], "ranking")
    assert np.abs(found - exact).max() < 0.08
    assert np.abs(found - exact).mean() < 0.015
    chosen = exact[np.arange(16), found.argmax(axis=1)]
    np.testing.assert_allclose(chosen, exact.max(axis=1), atol=0.02)
    assert np.median(np.ptp(exact, axis=1)) > 0.1


def test_the_bird_decides_and_comes_before_the_ground(explained):
    values = values_of(explained[0], "ranking")
    assert (values[:, OBJECT] > values[:, GROUND]).all()


@pytest.mark.parametrize(
    ("knobs", "count"),
    [
        ({}, 1),
        ({"explanation": "top_k", "top_k": 2}, 2),
        ({"explanation": "above_share", "share": 1e-9}, None),
    ],
)
def test_an_explanation_is_the_masks_with_the_largest_values(explained, knobs, count):
    data, fitted = explained
    one = data["ranking"].ids[:1]
    (row,) = data["ranking"].read(one, ["masks", "values"]).to_pylist()
    values = np.sort(row["values"])[::-1]
    count = count or max(1, int((values > 0).sum()))
    (explanation,) = replace(METHOD, **knobs).explain(fitted, data, one.tolist())
    np.testing.assert_allclose(explanation.weights, values[:count], atol=1e-6)
    assert explanation.masks.shape == (count, SIDE, SIDE)
    assert len(explanation.captions) == count


def test_its_order_beats_chance_and_area_by_every_rule(explained):
    data, fitted = explained
    metrics = {metric.name: metric.value for metric in METHOD.evaluate(fitted, data)}
    assert metrics["n_images"] == 16
    for rule in ("eac_official", "eac_repro"):
        for control in ("random", "area"):
            insertion, deletion = (f"{kind}_auc_{rule}" for kind in ("insertion", "deletion"))
            assert metrics[insertion] > metrics[f"{insertion}_{control}_order"] + 0.02
            assert metrics[deletion] < metrics[f"{deletion}_{control}_order"] - 0.05


def test_the_surrogates_fit_is_reported_where_there_is_a_surrogate(explained):
    data, fitted = explained
    (metric,) = (m for m in METHOD.evaluate(fitted, data) if m.name == "surrogate_r2")
    ids = data.usable_split("test").ids
    shares = data["ranking"].read(ids, ["surrogate_r2"])["surrogate_r2"].to_pylist()
    # the mean of the two middle ones is rounded to float32, as which they are stored
    assert metric.value == pytest.approx(statistics.median(shares), rel=2**-24)
    assert metric.split == "test"
    assert 0 < metric.value < 1
    direct = Data(data.card, data.index, {**data._columns, "ranking": data["direct"]})
    assert "surrogate_r2" not in {m.name for m in DIRECT.evaluate(fitted, direct)}


def test_knobs_that_do_not_go_together_are_refused_when_planning():
    with pytest.raises(ValidationError, match="must be kernel"):
        TypeAdapter(Eac).validate_python({"surrogate": None})
    with pytest.raises(ValidationError, match="value must be shapley"):
        TypeAdapter(Eac).validate_python({"estimator": "permutation"})
    direct = {"surrogate": None, "estimator": "kernel"}
    with pytest.raises(ValidationError, match="value: shapley needs sizes: uniform"):
        TypeAdapter(Eac).validate_python({**direct, "value": "shapley"})
    for knobs in ({}, {"value": "shapley", "sizes": "uniform"}, {"value": "shapley", "exact_up_to": 9}):
        Eac(**direct, **knobs)


def test_value_and_estimator_share_the_coalitions():
    """A sweep over what masks count for costs no forward pass."""
    shapley = replace(METHOD, value="shapley", estimator="shared", explanation="top_k")
    assert METHOD.ranking(CARD, 0).coalitions == shapley.ranking(CARD, 0).coalitions
    assert METHOD.ranking(CARD, 0) != shapley.ranking(CARD, 0)
    whole = replace(METHOD, surrogate=Surrogate(loss="all_classes")).ranking(CARD, 0)
    assert whole.coalitions.all_classes


PARTS = ("beak", "tail", "wing")  # red, blue and grey
COLOURS = ((200, 60, 60), (60, 60, 200), (190, 190, 190))


@dataclass(frozen=True, kw_only=True)
class RedOrBlue(Backbone):
    """Class 0 by how much red there is, class 1 by how much blue, and nothing else."""

    def build(self, n_classes, image_size, seed):
        head = nn.Linear(3, 2)
        with torch.no_grad():
            head.weight.copy_(torch.tensor([[200.0, -200.0, 0.0], [0.0, -200.0, 200.0]]))
            head.bias.zero_()
        return Network(nn.Identity(), head, 3, CENTRED)


@pytest.mark.parametrize("value", ["banzhaf", "shapley"])
def test_the_first_mask_is_the_part_that_decides_more_often_than_chance(value, tmp_path):
    """Birds of three parts, each in one of 16 cells, and the background noise. Half of the birds have a larger
    red part, the others a larger blue one; the grey part never decides. By chance a part is covered in 1 of 16
    images."""
    card = CARD.model_copy(update={"parts": PARTS})
    index = WaterbirdsCsv().read(draw_waterbirds(tmp_path / "data", per_group=3), card)
    stream = np.random.default_rng(0)
    decisive = {}
    for row in np.flatnonzero(index.splits == "test"):
        image = stream.integers(100, 156, (SIDE, SIDE, 1)).repeat(3, axis=2).astype(np.uint8)
        parts = np.zeros((SIDE, SIDE), np.uint8)
        winner = decisive[int(index.image_ids[row])] = int(row) % 2
        for part, cell in enumerate(stream.choice(16, 3, replace=False)):
            y, x = 12 * (cell // 4), 12 * (cell % 4)
            side = 12 if part in (winner, 2) else 6
            image[y : y + side, x : x + side] = COLOURS[part]
            parts[y : y + side, x : x + side] = part + 1
        Image.fromarray(image).save(index.path(row))
        Image.fromarray(parts).save(index.beside(index.part_masks, int(row)))
        Image.fromarray((parts > 0).astype(np.uint8)).save(index.beside(index.masks, int(row)))
    method = Eac(
        backbone=RedOrBlue(checkpoint="planted"),
        recipe=None,
        segmenter=Grid(cells=4),
        fill="mean",
        n_coalitions=400,
        surrogate=Surrogate(optimiser="adam", learning_rate=0.05),
        n_samples=512,
        value=value,
    )
    data = run_stages(method.stages(card, 0), card, index, tmp_path / "columns")
    fitted = method.fit(data, 0, lambda step, **metrics: None)
    found = {(m.name, m.group): m.value for m in method.evaluate(fitted, data)}
    for part, name in enumerate(PARTS):
        covered, by_chance = (found[f"top_mask_coverage{end}", name] for end in ("", "_random_order"))
        share = np.mean([winner == part for winner in decisive.values()])
        assert covered == pytest.approx(share), "wherever it decides, and nowhere else"
        assert covered > 2 * by_chance if part < 2 else covered == 0
