"""Columns without any model, in which it is known which concept is where.

Of the vocabulary's concepts the first four are planted, one in each quadrant of the image: in half of the images
concept k is present, and then the features in its quadrant move along a direction of its own, and so do CLIP's
cosines there. CLIP sees the other concepts nowhere: their cosines are noise. The class is whether concepts 0
and 1 together, and a little noise, are strong.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.data.card import load_card
from components.data.columns import Column, Data
from components.data.images import ImageIndex
from components.method import Method
from components.stage import TensorStage, fixed_size_lists, ragged_lists
from components.stages.clip_texts import ClipTexts
from tests.world import column

CARD = load_card("toybirds").model_copy(update={"image_size": 32})
NAMES = CARD.vocabulary()
N, G, D, PLANTED = 720, 4, 12, 4  # images, cells an axis, features, planted concepts
E = len(NAMES) + 1
QUADRANTS = np.add.outer(np.arange(G) // 2 * 2, np.arange(G) // 2)  # of each cell: 0 to 3, row by row
SPLITS = np.array(["train"] * 4 + ["val", "test"], object)


def silent(step: int, **metrics: float) -> None:
    """Reports nothing."""


@dataclass(frozen=True)
class Planted:
    """columns: maps, places, pooled, images; texts (M, E); present bool (N, 4)."""

    index: ImageIndex
    columns: dict[str, Column]
    texts: NDArray[np.float32]
    present: NDArray[np.bool_]

    def rows(self, selected: NDArray[Any]) -> "Planted":
        """Of some images only."""
        return replace(self, index=self.index.rows(selected), present=self.present[selected])

    def data(self, features: str, targets: str) -> Data:
        """As a concept layer on these features and targets sees it."""
        columns = {"features": self.columns[features], "targets": self.columns[targets]}
        columns["cutoff_images"] = self.columns["images"]
        return Data(CARD, self.index, columns, {"texts": {"embedding": self.texts}})

    def run(self, method: Method, features: str, targets: str, seed: int = 0) -> Data:
        """What a trial of the method reads, its stages computed from these columns."""
        stages = method.stages(CARD, seed)
        layer_stage = stages["concept_layer"]
        assert isinstance(layer_stage, TensorStage)
        if isinstance(layer_stage, ClipTexts):
            layer: Any = {"embedding": self.texts}
        else:
            layer = layer_stage.compute(self.data(features, targets), "cpu", silent)
        tensors = {"concept_layer": layer}
        own = {"features": self.columns[features]}
        if "path" in stages:
            path = stages["path"]
            assert isinstance(path, TensorStage)
            tensors["path"] = path.compute(Data(CARD, self.index, own, {"layer": layer}), "cpu", silent)
        return Data(CARD, self.index, own, tensors)


def plant(folder: Path) -> Planted:
    """Draws the columns, with a fixed seed; the photographs are grey."""
    from PIL import Image

    stream = np.random.default_rng(0)
    present = stream.integers(0, 2, (N, PLANTED))
    strength = present * (0.7 + 0.3 * stream.random((N, PLANTED)))
    here = (np.arange(PLANTED)[:, None, None] == QUADRANTS).astype(float)
    cells = np.einsum("nk,khw->nhwk", strength, here)
    directions = np.linalg.qr(stream.standard_normal((D, D)))[0][:PLANTED]
    maps = cells @ directions + 0.1 * stream.standard_normal((N, G, G, D))
    clip = 0.15 + 0.005 * stream.standard_normal((N, G, G, E))
    clip[..., :PLANTED] += 0.1 * cells
    clip[..., -1] = np.sqrt(1 - (clip[..., :-1] ** 2).sum(axis=-1))
    ids = np.arange(N) * 2 + 1
    whole = clip.mean(axis=(1, 2))
    fields = {
        "maps": {
            "map": fixed_size_lists(maps.transpose(0, 3, 1, 2).reshape(N, -1).astype(np.float16)),
            "shape": fixed_size_lists(np.tile(np.array([D, G, G], np.int32), (N, 1))),
        },
        "places": {
            "embedding": ragged_lists(fixed_size_lists(clip.reshape(-1, E).astype(np.float16)), [G * G] * N)
        },
        "pooled": {"features": fixed_size_lists(maps.mean(axis=(1, 2)).astype(np.float32))},
        "images": {
            "embedding": fixed_size_lists(
                (whole / np.linalg.norm(whole, axis=1, keepdims=True)).astype(np.float32)
            )
        },
    }
    columns = {n: column(folder / n, [pa.table({"image_id": ids, **of})]) for n, of in fields.items()}
    for i in ids:
        Image.new("RGB", (32, 32), (128, 128, 128)).save(folder / f"{i}.png")
    score = strength[:, 0] + 0.6 * strength[:, 1] + 0.15 * stream.standard_normal(N)
    labels = (score > 0.75).astype(np.int64)
    index = ImageIndex(
        root=folder,
        image_ids=ids,
        paths=np.array([f"{i}.png" for i in ids], object),
        labels=labels,
        groups=labels,
        splits=SPLITS[np.arange(N) % len(SPLITS)],
        classes=CARD.classes,
        group_names=CARD.classes,
    )
    return Planted(index, columns, np.eye(E, dtype=np.float32)[:-1], present.astype(bool))
