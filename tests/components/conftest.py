"""Drawn birds with every column that SEG-MIL-CBM reads, for the tests of its parts."""

from pathlib import Path

import numpy as np
import pytest

from components.data.card import load_card
from components.data.columns import Data
from components.data.readers.waterbirds_csv import WaterbirdsCsv
from components.models.clip.clip import Clip
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.segmentation.segmenters.ground_truth import GroundTruth
from components.models.training.recipe import Recipe
from components.studies.seg_mil.methods.seg_mil_cbm import SegMilCbm
from tests.world import draw_waterbirds, run_stages


@pytest.fixture(scope="session")
def segmented_birds(tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[SegMilCbm, Data]:
    """The method and what its stages made of 72 birds, 6 in each group of each split: their own parts are the
    segments. One image of the test split is cut short. A warm-up finds its classifier there too."""
    card = load_card("toybirds").model_copy(update={"image_size": 48})
    index = WaterbirdsCsv().read(draw_waterbirds(tmp_path_factory.mktemp("birds"), per_group=6), card)
    broken = index.path(int(np.flatnonzero(index.splits == "test")[3]))
    broken.write_bytes(broken.read_bytes()[:200])
    method = SegMilCbm(
        clip=Clip(checkpoint=str(tiny_clip)),
        segmenter=GroundTruth(),
        backbone=SmallCnn(width=4),
        recipe=Recipe(epochs=4, batch_size=8, learning_rate=1e-2),
        epochs=20,
        learning_rate=1e-2,
        batch_size=16,
    )
    stages = method.stages(card, 5)
    stages["classifier"] = stages["features"].classifier
    return method, run_stages(stages, card, index, tmp_path_factory.mktemp("columns"))
