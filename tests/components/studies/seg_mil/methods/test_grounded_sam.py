"""SEG-MIL-CBM on detected and segmented concepts, from photographs to explanations: small random models in the
genuine formats, so what is held is how the parts fit, not what they see."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from components.data.card import load_card
from components.data.columns import ragged
from components.data.images import ImageIndex
from components.models.clip.clip import Clip
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.segmentation.box_segmenters.sam import Sam
from components.models.segmentation.detectors.grounding_dino import GroundingDino
from components.models.segmentation.segmenters.grounded_sam import GroundedSam
from components.models.segmentation.segmenters.phrase_sam import PhraseSam
from components.models.training.recipe import Recipe
from components.pixels import masks
from components.stages.merged_segments import MergedSegments
from components.studies.baselines.methods.region_probe import RegionProbe
from components.studies.guided_fine_tuning.methods.cft import Cft
from components.studies.seg_mil.bag_tensors import read_bags
from components.studies.seg_mil.methods.seg_mil_cbm import SegMilCbm
from tests import reference
from tests.small_sam import sam
from tests.tiny_grounding_dino import write_grounding_dino
from tests.world import run_stages

CARD = load_card("toybirds").model_copy(update={"image_size": 48})
SEED = 0
PHOTOGRAPHS = 12


@pytest.fixture(scope="module")
def method(tiny_clip, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    torch.save(sam().state_dict(), folder / "sam.pth")
    detector = GroundingDino(
        checkpoint=str(write_grounding_dino(folder / "dino")),
        stored_threshold=0.3,
        shortest_edge=64,
        longest_edge=96,
    )
    return SegMilCbm(
        clip=Clip(checkpoint=str(tiny_clip)),
        segmenter=GroundedSam(
            detector=detector, box_segmenter=Sam(checkpoint=str(folder / "sam.pth")), k_top_stored=4
        ),
        k_top=3,
        box_threshold=0.4,
        tau_min_pixels=100,
        tau_iou=0.6,
        backbone=SmallCnn(width=4),
        recipe=Recipe(epochs=1, batch_size=8),
        epochs=3,
        bag_size=6,
    )


@pytest.fixture(scope="module")
def index(test_data):
    root = test_data("seg-mini")
    files = pd.read_csv(root / "labels.csv")["image"].head(PHOTOGRAPHS)
    turn = np.arange(PHOTOGRAPHS)
    return ImageIndex(
        root=root,
        image_ids=turn * 2,
        paths=np.array(list(files), dtype=object),
        labels=turn % 2,
        groups=turn % 2,
        splits=np.array((["train"] * 2 + ["val", "test"]) * (PHOTOGRAPHS // 4), dtype=object),
        classes=CARD.classes,
        group_names=("a", "b"),
    )


@pytest.fixture(scope="module")
def data(method, index, tmp_path_factory):
    return run_stages(method.stages(CARD, SEED), CARD, index, tmp_path_factory.mktemp("columns"))


def found_in(column, image_id):
    """What the stage stored of one image, as the reference takes it."""
    (row,) = column.read(np.array([image_id]), column.fields).to_pylist()
    decoded = masks.decode(row["counts"], row["height"], row["width"])
    rows = zip(decoded, row["concept"], row["rank"], row["score"], strict=True)
    return [reference.Detected(*segment) for segment in rows]


def test_bags_hold_what_the_thresholds_leave_of_what_was_detected(method, data, index):
    column = data["segments"]
    assert not column.failures
    counts = ragged(column.read(index.image_ids, ["area"])["area"])[1]
    assert counts.sum() > 5 * PHOTOGRAPHS, "the thresholds have something to leave out"
    bags = read_bags(method, data, index.image_ids).bags
    sizes = []
    for row, image_id in enumerate(index.image_ids):
        kept = bags.segments[row][bags.valid[row]].tolist()
        overlaps = column.read(np.array([image_id]), ["height", "width", "counts"]).to_pylist()[0]
        iou = masks.iou(overlaps["counts"], overlaps["height"], overlaps["width"])
        found = found_in(column, image_id)
        if bags.fallback[row]:
            continue
        sizes.append(len(kept))
        assert len(kept) <= method.bag_size
        assert all(iou[i, j] <= method.tau_iou for i in kept for j in kept if i != j)
        assert [found[i].score for i in kept] == sorted((found[i].score for i in kept), reverse=True)
        for i in kept:
            assert found[i].rank < method.k_top
            assert found[i].score >= method.box_threshold
            assert 100 / 224**2 <= found[i].mask.mean() <= method.rho_max
        assert bags.concepts[row][bags.valid[row]].tolist() == [found[i].concept for i in kept]
    assert len(sizes) > PHOTOGRAPHS / 2
    assert max(sizes) > 1


def test_thresholds_are_choices_at_read_time_and_a_union_is_not(method, data, index):
    stages = method.stages(CARD, SEED)
    for changes in (
        {"box_threshold": 0.5},
        {"boxes_per_concept": 1},
        {"k_top": 1},
        {"tau_iou": 0.2, "merge": "mean"},
    ):
        changed = replace(method, **changes)
        assert changed.stages(CARD, SEED) == stages
        bags = read_bags(changed, data, index.image_ids)
        assert torch.isfinite(bags.features).all()
        assert bags.bags.valid.sum() <= read_bags(method, data, index.image_ids).bags.valid.sum()
    union = replace(method, merge="union").stages(CARD, SEED)
    assert isinstance(union["segments"], MergedSegments)
    assert union["segments"].segments == stages["segments"]


def test_it_is_fitted_evaluated_and_explained(method, data, index):
    fitted = method.fit(data, SEED, lambda step, **metrics: None)
    values = {(m.name, m.split): m.value for m in method.evaluate(fitted, data)}
    assert 0 <= values["average_accuracy", "test"] <= 1
    explanations = method.explain(fitted, data, index.image_ids[:4].tolist())
    for explanation, image in zip(explanations, data.images(index.image_ids[:4]), strict=True):
        assert explanation.masks.shape[1:] == image.shape[:2]
        assert float(explanation.weights.sum()) == pytest.approx(1, abs=1e-5)


def test_more_concepts_than_stored_are_refused(method):
    with pytest.raises(ValueError, match=r"k_top = 5 is more than segmenter\.k_top_stored = 4"):
        replace(method, k_top=5)


def test_a_threshold_of_which_nothing_would_be_seen_is_refused(method):
    """Below what the detector keeps, two thresholds would be one, and an ablation of them a table of zeros."""
    replace(method, box_threshold=0.3)
    detector, reason = method.segmenter.detector, r"box_threshold = 0\.2 is below .* keeps, 0\.3"
    for refused in (
        lambda: replace(method, box_threshold=0.2),
        lambda: RegionProbe(segmenter=method.segmenter, box_threshold=0.2),
        lambda: Cft(segmenter=method.segmenter, k_top=1, box_threshold=0.2),
        lambda: PhraseSam(phrases=("a",), detector=detector, box_threshold=0.2),
    ):
        with pytest.raises(ValueError, match=reason):
            refused()
