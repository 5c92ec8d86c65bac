"""A backbone's features of every segment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from components.pixels.crops import Outside, stored_masks
from components.stage import (
    Batch,
    BatchMap,
    Preparation,
    Rows,
    Tensors,
    fixed_size_lists,
    ragged_lists,
)
from components.stages.base.network_stage import NetworkStage
from components.stages.base.segment_stage import SegmentStage


@dataclass(frozen=True, kw_only=True)
class BackboneSegments(NetworkStage):
    """`features`: per segment, in the order of `segments`, float32 (F,).

    encode: `crop`, one pass per segment over its crop; `pool`, one pass per image, the mean of the feature
    map under the mask: about S times cheaper (docs/methods/seg_mil.md, "From a segment to a vector").
    image_size, frame: the square that images become for `pool`, its side in pixels; crops are squashed;
    outside: what is beside the segment in its crop.
    """

    segments: SegmentStage
    encode: Literal["crop", "pool"] = "crop"
    outside: Outside = "image_mean"

    def preparation(self) -> Preparation | None:
        """Crops are cut from the image as it is."""
        return None if self.encode == "crop" else super().preparation()

    def load(self, tensors: Mapping[str, Tensors], device: str) -> BatchMap:
        from components.models.networks.segment_features import crop_features, pool_features

        network = self.network(tensors, device)

        def featurise(batch: Batch) -> Rows:
            masks = [stored_masks(batch.inputs["segments"], row) for row in range(len(batch))]
            if self.encode == "crop":
                features, model_inputs = crop_features(
                    network, batch.images, masks, self.image_size, device, self.outside
                )
            else:
                features, model_inputs = pool_features(network, batch.images, masks, self.frame, device)
            per_segment = fixed_size_lists(features)
            counts = [len(segments) for segments in masks]
            return Rows({"features": ragged_lists(per_segment, counts)}, model_inputs)

        return featurise
