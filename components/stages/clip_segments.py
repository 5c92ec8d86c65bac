"""CLIP embeddings of every segment's crop."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from components.crops import segment_crops, stored_masks
from components.models.clip import Clip
from components.stage import (
    Batch,
    BatchMap,
    ColumnStage,
    Rows,
    Tensors,
    fixed_size_lists,
    ragged_lists,
)
from components.stages.segment_stage import SegmentStage


@dataclass(frozen=True, kw_only=True)
class ClipSegments(ColumnStage):
    """`embedding`: per segment, in the order of `segments`, a unit vector float32 (D,)."""

    clip: Clip
    segments: SegmentStage

    def load(self, tensors: Mapping[str, Tensors], device: str) -> BatchMap:
        model = self.clip.load(device)

        def embed(batch: Batch) -> Rows:
            crops = [
                segment_crops(image, stored_masks(batch.inputs["segments"], row), model.size)
                for row, image in enumerate(batch.images)
            ]
            vectors = model.embed_squares(np.concatenate(crops))
            counts = [len(segments) for segments in crops]
            return Rows({"embedding": ragged_lists(fixed_size_lists(vectors), counts)}, len(vectors))

        return embed
