"""Insertion and deletion on photographs, with a real network: what a trial reads off its columns."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import spearmanr

from components.data.images import decode
from components.models.networks.backbones.torchvision import Torchvision
from components.models.segmentation.segmenters.slic import Slic
from components.pixels.frames import framed
from components.stage import Batch, ImageRecord
from components.stages.segments import Segments
from components.studies.explanations.curve_scores import mask_scores, top_masks
from components.studies.explanations.stages.coalitions import Coalitions
from components.studies.explanations.stages.mask_curves import MaskCurves
from components.studies.explanations.stages.mask_values import mask_values
from tests.world import column

SQUEEZENET = "weights/squeezenet1_0_imagenet_fp16.safetensors"
SIDE, IMAGES = 160, 8


@pytest.fixture(scope="module")
def scores(test_data, tmp_path_factory):
    """Of photographs of ImageNet and about a dozen superpixels each, by ranking: their values, by regression on
    eighty coalitions, and in random order."""
    files = sorted((test_data("imagenet-mini") / "images").rglob("*.*"))[:: 100 // IMAGES]
    told = [ImageRecord(number, Path(file)) for number, file in enumerate(files)]
    photographs = [decode(record.path) for record in told]
    sizes = [photograph.shape[:2] for photograph in photographs]
    squares = [framed(photograph, SIDE, "squash") for photograph in photographs]
    backbone = Torchvision(architecture="squeezenet1_0", checkpoint=str(test_data(SQUEEZENET)))
    target = {"backbone": backbone, "classifier": None, "image_size": SIDE}
    segments = Segments(segmenter=Slic())
    coalitions = Coalitions(**target, segments=segments, n_coalitions=80)
    values = mask_values(coalitions, surrogate=None, estimator="kernel", n_samples=80)

    def rows(stage, images, **inputs):
        return pa.table(stage.load({}, "cpu")(Batch(told, images, inputs, sizes)).columns)

    cut = rows(segments, photographs)
    ranking = rows(values, squares, coalitions=rows(coalitions, squares, segments=cut))
    found, ids = {}, np.arange(len(files))
    for name, knobs in (
        ("values", {"ranking": values}),
        ("random", {"ranking": None, "control": "random"}),
    ):
        curves = rows(
            MaskCurves(**target, segments=segments, **knobs), squares, segments=cut, ranking=ranking
        )
        folder = tmp_path_factory.mktemp("columns") / name
        stored = column(folder, [curves.append_column("image_id", pa.array(ids))])
        found[name] = mask_scores(stored, ids) | {"top": top_masks(stored, ids)}
        if name == "values":
            found["first"] = [row["masks"][int(np.argmax(row["values"]))] for row in ranking.to_pylist()]
    return found


def test_the_axis_explains_the_gap_of_the_reproduction(scores):
    """On the same rankings insertion is lower and deletion higher on the area axis
    (docs/methods/explanations.md, "Why published numbers differ")."""
    own = {name: value.mean() for name, value in scores["values"].items()}
    assert own["insertion_auc_eac_official"] > own["insertion_auc_eac_repro"]
    assert own["deletion_auc_eac_official"] < own["deletion_auc_eac_repro"]
    both = [scores["values"][f"insertion_auc_{name}"] for name in ("eac_official", "eac_repro")]
    assert spearmanr(*both).statistic > 0.5, "and the images keep much of their order"


def test_values_rank_better_than_chance(scores):
    for preset in ("eac_official", "eac_repro"):
        for kind, sign in (("insertion", 1), ("deletion", -1)):
            name = f"{kind}_auc_{preset}"
            assert np.mean(sign * (scores["values"][name] - scores["random"][name])) > 0.05


def test_the_top_mask_is_the_one_of_the_largest_value(scores):
    assert scores["values"]["top"].tolist() == scores["first"]
    assert scores["random"]["top"].tolist() != scores["first"]


def test_superpixels_cover_the_square_so_both_area_rules_agree(scores):
    for found in (scores["values"], scores["random"]):
        np.testing.assert_allclose(found["union_coverage"], 1)
        np.testing.assert_allclose(found["insertion_auc_full_area"], found["insertion_auc_eac_repro"])


def test_where_masks_leave_pixels_over_the_curves_end_at_the_whole_and_at_nothing(tmp_path):
    """By hand: masks of a fifth and three tenths of the square, of an image of probability 0.8, of which 0.1 is
    left when all is hidden. The last half of the square is a trapezium from the last value to the end."""
    curves = pa.table(
        {
            "image_id": [7],
            "probability": [0.8],
            "areas": [[0.0, 0.2, 0.5]],
            "insertion": [[0.1, 0.5, 0.6]],
            "deletion": [[0.8, 0.4, 0.2]],
        }
    )
    found = mask_scores(column(tmp_path, [curves]), np.array([7]))
    inserted = 0.2 * (0.1 + 0.5) / 2 + 0.3 * (0.5 + 0.6) / 2
    deleted = 0.2 * (0.8 + 0.4) / 2 + 0.3 * (0.4 + 0.2) / 2
    assert found["insertion_auc_eac_repro"] == pytest.approx(inserted / 0.8)
    assert found["deletion_auc_eac_repro"] == pytest.approx(deleted / 0.8)
    assert found["insertion_auc_full_area"] == pytest.approx((inserted + 0.5 * (0.6 + 0.8) / 2) / 0.8)
    assert found["deletion_auc_full_area"] == pytest.approx((deleted + 0.5 * (0.2 + 0.1) / 2) / 0.8)
    assert (found["n_masks"], found["union_coverage"]) == (2, 0.5)
