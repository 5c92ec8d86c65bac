"""What a classifier sees of images whose pixels are put in, or taken away, in the order of a heatmap."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Gt
from numpy.typing import NDArray

from components.identity import rng
from components.pixels.heat import Heat, heat_of
from components.pixels.masks import in_image_pixels
from components.stage import Batch, BatchMap, ColumnStage, Rows, Tensors
from components.stages.base.network_stage import NetworkStage
from components.stages.base.segment_stage import SegmentStage
from components.studies.explanations.fill import Substrate
from components.studies.explanations.stages.mask_curves import curve_columns


@dataclass(frozen=True, kw_only=True)
class PixelCurves(NetworkStage):
    """As RISE (Petsiuk et al., BMVC 2018; docs/methods/explanations.md, "By pixels, as in RISE"). Of the
    class that the classifier gives the whole image, `label` int32, with the `probability` float32; and for n
    steps lists of n + 1 float32, before the first and after each: `insertion`, the class's probability when
    the hottest pixels so far are put into the blurred image; `deletion`, when they are put to the mean
    colour.

    ranking: `heatmaps`, and no segments; or `mask_values` of `segments`, see `heat_of`; equal pixels come in
    random order, the same in both curves and wherever the stage runs;
    substrate: how the image is blurred, see `Fill`;
    pixels_per_step: of a 224 frame, at least one of the image; the last step has what is left.

    An image with a probability that is not finite fails.
    """

    VERSION: ClassVar[int] = 2

    segments: SegmentStage | None
    ranking: ColumnStage
    substrate: Substrate = "rise_blur"
    pixels_per_step: Annotated[float, Gt(0)] = 224.0

    @property
    def batch_size(self) -> int:
        return 16  # each is dozens to hundreds of pictures

    def load(self, tensors: Mapping[str, Tensors], device: str) -> BatchMap:
        from components.studies.explanations.masked_images import MaskedImage, filling, probabilities

        network = self.target(tensors, device)

        def curves(batch: Batch) -> Rows:
            pictures = []
            for row, image in enumerate(batch.images):
                ranking, segments = batch.inputs["ranking"], batch.inputs.get("segments")
                heat = heat_of(ranking, segments, row, self.image_size, self.frame)
                step = self._steps(heat, batch.records[row].image_id)
                n = int(step.max()) + 1
                put = np.tri(n + 1, n, -1, dtype=bool)  # after k steps, those before the k-th
                pictures.append(MaskedImage(image, filling(network, image, self.substrate), step, put))
                pictures.append(MaskedImage(image, filling(network, image, "mean"), step, ~put))
            found = list(probabilities(network, pictures, device))
            both = [np.concatenate(pair) for pair in zip(found[::2], found[1::2], strict=True)]
            return Rows(curve_columns(both), sum(len(picture.shown) for picture in pictures))

        return curves

    def _steps(self, heat: Heat, image_id: int) -> NDArray[np.int64]:
        """In which step each pixel (S, S) comes."""
        a_step = max(1, round(in_image_pixels(self.pixels_per_step, self.image_size, self.image_size, "224")))
        ties = rng(0, "ties of pixels", image_id).random(heat.size)
        rank = np.empty(heat.size, np.int64)
        rank[np.lexsort((ties, -heat.reshape(-1)))] = np.arange(heat.size)
        return (rank // a_step).reshape(heat.shape)
