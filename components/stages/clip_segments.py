"""CLIP embeddings of every segment's crop."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.models.clip.clip import Clip
from components.pixels.crops import Outside, segment_crops, stored_masks
from components.stage import Batch, BatchMap, ColumnStage, Rows, Tensors, fixed_size_lists, ragged_lists
from components.stages.base.segment_stage import SegmentStage


@dataclass(frozen=True, kw_only=True)
class ClipSegments(ColumnStage):
    """`embedding`: per segment, in the order of `segments`, a unit vector float32 (D,).

    outside: what is beside the segment in its crop.
    """

    clip: Clip
    segments: SegmentStage
    outside: Outside = "image_mean"

    def load(self, tensors: Mapping[str, Tensors], device: str) -> BatchMap:
        model = self.clip.load(device)

        def embed(batch: Batch) -> Rows:
            counts: list[int] = []

            def crops() -> Iterator[NDArray[np.uint8]]:  # of one image at a time: they are large
                for row, image in enumerate(batch.images):
                    masks = stored_masks(batch.inputs["segments"], row)
                    of_image = segment_crops(image, masks, model.size, self.outside)
                    counts.append(len(of_image))
                    yield from of_image

            vectors = model.embed_squares(crops())
            return Rows({"embedding": ragged_lists(fixed_size_lists(vectors), counts)}, len(vectors))

        return embed
