"""A backbone's features of every segment."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from components.models.networks.backbone import Backbone
from components.pixels.crops import Outside, stored_masks
from components.pixels.frames import Frame, framed
from components.stage import (
    Batch,
    BatchMap,
    ColumnStage,
    Preparation,
    Rows,
    Tensors,
    fixed_size_lists,
    ragged_lists,
)
from components.stages.base.segment_stage import SegmentStage
from components.stages.classifier import Classifier, load_network


@dataclass(frozen=True, kw_only=True)
class BackboneSegments(ColumnStage):
    """`features`: per segment, in the order of `segments`, float32 (F,).

    encode: `crop`, one pass per segment over its crop (spec of SEG-MIL-CBM, A4 step 6); `pool`, one pass
    per image, the mean of the feature map under the mask: about S times cheaper.
    image_size, frame: the square that images become for `pool`, its side in pixels; crops are squashed;
    outside: what is beside the segment in its crop.
    """

    backbone: Backbone
    classifier: Classifier | None
    segments: SegmentStage
    image_size: int
    encode: Literal["crop", "pool"] = "crop"
    frame: Frame = "squash"
    outside: Outside = "image_mean"

    def preparation(self) -> Preparation | None:
        """Crops are cut from the image as it is."""
        return None if self.encode == "crop" else partial(framed, size=self.image_size, frame=self.frame)

    def load(self, tensors: Mapping[str, Tensors], device: str) -> BatchMap:
        from components.models.networks.segment_features import crop_features, pool_features

        network = load_network(self.backbone, self.classifier, tensors, self.image_size, device)

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
