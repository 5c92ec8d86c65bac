"""Regions that pictures ask about, and the edit that they show, against hand-made maps and masks."""

from dataclasses import replace

import numpy as np
import pytest

from components.data.columns import Data
from components.data.readers.waterbirds_csv import WaterbirdsCsv
from components.studies.concept_bottleneck.maps.concept_maps import ConceptHead
from components.studies.concept_bottleneck.maps.regions import (
    BETA,
    decisive,
    explain_region,
    in_frame,
    shown_region,
)
from tests.planted_concepts import CARD
from tests.world import draw_waterbirds

L, M, G, S = 3, 5, 4, 48
MIDDLES = (np.arange(G) + 0.5) * S / G


def head_of(pool="mean", seed=0):
    stream = np.random.default_rng(seed)
    return ConceptHead(
        weight=stream.standard_normal((L, M)),
        bias=stream.standard_normal(L),
        mean=stream.standard_normal(M),
        std=stream.uniform(0.5, 2, M),
        pool=pool,
    )


def maps_of(seed=1):
    return np.random.default_rng(seed).standard_normal((M, G, G))


@pytest.mark.parametrize("pool", ["mean", "softmax", "max", "topk"])
def test_evidence_of_all_cells_is_the_contributions(pool):
    head, maps = head_of(pool), maps_of()
    half = np.arange(G * G).reshape(G, G) % 3 == 0
    whole = head.evidence(maps, half) + head.evidence(maps, ~half)
    for label in range(L):
        np.testing.assert_allclose(whole[label], head.contributions(maps, label), atol=1e-12)
    np.testing.assert_allclose(whole.sum(axis=1) + head.bias, head.logits(maps), atol=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_the_decisive_concept_is_moved_against_the_prediction(seed):
    """Mean pooling, where an edit's effect is its share of cells: the margin shrinks by the weights' own."""
    head, maps = head_of(seed=seed), maps_of(seed)
    predicted, second = np.argsort(-head.logits(maps))[:2]
    cells = np.zeros((G, G), bool)
    cells[1:3, :2] = True
    concept, beta = decisive(head, maps, cells, label=int(predicted))
    margin = head.weight[predicted] - head.weight[second]
    values = ((maps - head.mean[:, None, None]) / head.std[:, None, None])[:, cells].sum(axis=1) / G**2
    assert concept == np.argmax(margin * values)
    assert abs(beta) == BETA
    region = np.kron(cells, np.ones((S // G, S // G), bool))
    edit = (concept, beta)
    found = explain_region(head, maps, region, int(predicted), middles=MIDDLES, edit=edit).intervention
    changed = (found.after - found.before)[predicted] - (found.after - found.before)[second]
    assert changed < 0


def test_the_rival_is_the_true_class_where_the_prediction_is_wrong():
    weight = np.zeros((L, M))
    weight[0, 1], weight[0, 2], weight[1, 1] = 1.0, 0.9, 0.9
    ones = np.ones(M)
    head = ConceptHead(weight=weight, bias=np.array([0.0, 0, -9]), mean=0 * ones, std=ones)
    everywhere = np.ones((G, G), bool)
    assert decisive(head, np.ones((M, G, G)), everywhere, label=1) == (2, -BETA)
    assert decisive(head, np.ones((M, G, G)), everywhere, label=2) == (1, -BETA)


@pytest.fixture
def data(tmp_path):
    card = CARD.model_copy(update={"image_size": S})
    return Data(card, WaterbirdsCsv().read(draw_waterbirds(tmp_path, per_group=1), card))


def test_the_part_with_the_largest_evidence_is_shown(data):
    """The drawn birds' parts 1 and 2 are their left and right halves."""
    image_id = int(data.index.image_ids[0])
    left = np.zeros((G, G))
    left[:, : G // 2] = 1
    names = data.card.parts
    region, name = shown_region(data, image_id, "squash", left, MIDDLES)
    assert name == names[0]
    assert region[:, : S // 2].any()
    assert not region[:, S // 2 :].any()
    assert shown_region(data, image_id, "squash", -left, MIDDLES)[1] == names[1]


def test_without_parts_the_object_and_without_it_the_strongest_cell(data):
    image_id = int(data.index.image_ids[0])
    card = data.card.model_copy(update={"parts": ()})
    _, name = shown_region(Data(card, data.index), image_id, "squash", np.zeros((G, G)), MIDDLES)
    assert name == "the object"
    bare = Data(card, replace(data.index, masks=None, part_masks=None))
    strongest = np.zeros((G, G))
    strongest[3, 1] = 1
    region, name = shown_region(bare, image_id, "squash", strongest, MIDDLES)
    rows, columns = np.nonzero(region)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (36, 47, 12, 23)


def test_a_box_of_the_image_in_the_frame():
    assert in_frame((10, 20, 30, 40), (100, 200), 50, "squash") == (2.5, 10, 7.5, 20)
    assert in_frame((50, 0, 150, 100), (100, 200), 50, "center_crop") == (0, 0, 50, 50)
    left, _, right, _ = in_frame((0, 0, 40, 100), (100, 200), 50, "center_crop")
    assert left >= right, "nothing of it is in the frame"
