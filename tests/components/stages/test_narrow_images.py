"""Images of one pixel's width through every model: processed, or a failure of their own with a reason."""

import numpy as np
import pytest
import torch
from PIL import Image

from components.data.card import load_card
from components.data.images import ImageIndex
from components.models.clip.clip import Clip
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.networks.backbones.small_vit import SmallVit
from components.models.segmentation.box_segmenters.sam import Sam
from components.models.segmentation.box_segmenters.sam2 import Sam2
from components.models.segmentation.detectors.grounding_dino import GroundingDino
from components.models.segmentation.segmenters.sam2_automatic import Sam2Automatic
from components.models.segmentation.segmenters.sam_automatic import SamAutomatic
from components.stages.backbone_images import BackboneImages
from components.stages.backbone_maps import BackboneMaps
from components.stages.backbone_segments import BackboneSegments
from components.stages.box_segments import BoxSegments
from components.stages.boxes import Boxes
from components.stages.clip_images import ClipImages
from components.stages.clip_places import ClipPlaces
from components.stages.clip_segments import ClipSegments
from components.stages.clip_texts import ClipTexts
from components.stages.segments import Segments
from tests import small_sam
from tests.tiny_grounding_dino import write_grounding_dino
from tests.world import run_stages

SHAPES = ((1, 1), (1, 30), (30, 1), (1, 3), (3, 1), (2, 2), (3, 30), (40, 40), (1, 2000), (2000, 1))
EXTREME = {8, 9}  # a side that SAM's own resizing, or CLIP's, cuts to nothing
EVERYTHING = {"pred_iou_thresh": -1e9, "stability_score_thresh": -1.0, "points_per_side": 2}


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    root = tmp_path_factory.mktemp("narrow")
    stream = np.random.default_rng(0)
    for number, shape in enumerate(SHAPES):
        pixels = stream.integers(0, 256, (*shape, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{number}.png")
    n = len(SHAPES)
    zeros = np.zeros(n, np.int64)
    paths, splits = ([f"{i}.png" for i in range(n)], ["test"] * n)
    names = (np.array(values, dtype=object) for values in (paths, splits))
    return ImageIndex(root, np.arange(n), next(names), zeros, zeros, next(names), ("a",), ("a",))


@pytest.fixture(scope="module")
def stages(tiny_clip, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    sam, sam2 = small_sam.save_sam(folder / "sam.pth"), small_sam.save_sam2(folder / "sam2")
    detector = GroundingDino(
        checkpoint=str(write_grounding_dino(folder / "dino")),
        stored_threshold=0.0,
        shortest_edge=64,
        longest_edge=96,
    )
    clip = Clip(checkpoint=str(tiny_clip))
    images, texts = ClipImages(clip=clip), ClipTexts(clip=clip, texts=("beak", "wing"))
    boxes = Boxes(detector=detector, images=images, texts=texts, k_top_stored=1)
    prompted = BoxSegments(boxes=boxes, segmenter=Sam(checkpoint=sam))
    network = {"backbone": SmallCnn(width=4), "classifier": None, "image_size": 32}
    vit = {**network, "backbone": SmallVit(width=48, depth=1, patch_size=4)}
    return {
        "clip_images": images,
        "clip_places": ClipPlaces(clip=clip, grid_size=2),
        "boxes": boxes,
        "sam": prompted,
        "sam2": BoxSegments(boxes=boxes, segmenter=Sam2(checkpoint=sam2)),
        "sam_automatic": Segments(segmenter=SamAutomatic(checkpoint=sam, **EVERYTHING)),
        "sam2_automatic": Segments(segmenter=Sam2Automatic(checkpoint=sam2, **EVERYTHING)),
        "clip_segments": ClipSegments(clip=clip, segments=prompted),
        "crops": BackboneSegments(**network, segments=prompted),
        "pooled": BackboneSegments(**network, segments=prompted, encode="pool"),
        "cnn": BackboneImages(**network),
        "cropped": BackboneImages(**{**network, "frame": "center_crop"}),
        "vit": BackboneImages(**vit),
        "maps": BackboneMaps(**network),
    }


def numbers(values):
    """All numbers of a column's value, however deep its lists."""
    if isinstance(values, list):
        return [number for value in values for number in numbers(value)]
    return [values] if isinstance(values, int | float) else []


def test_only_extreme_shapes_fail_and_what_is_stored_is_finite(stages, index, tmp_path):
    torch.manual_seed(0)
    data = run_stages(stages, load_card("toybirds"), index, tmp_path)
    for name in stages:
        column = data[name]
        assert set(column.failures) <= EXTREME, (name, column.failures)
        assert sorted([*column.ids, *column.failures]) == list(range(len(SHAPES))), name
        table = column.read(column.ids, column.fields)
        for field in column.fields:
            assert np.isfinite(numbers(table[field].to_pylist())).all(), (name, field)
        if "height" in column.fields:
            shapes = zip(table["height"].to_pylist(), table["width"].to_pylist(), strict=True)
            assert list(shapes) == [SHAPES[i] for i in column.ids], name
