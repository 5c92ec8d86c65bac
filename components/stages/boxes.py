"""Boxes of concepts: what a detector finds of the concepts that CLIP ranks first in an image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pyarrow as pa
from annotated_types import Ge

from components.data.columns import Column, matrix, ragged
from components.models.segmentation.detector import Detector, Question
from components.pixels.bags import top_concepts
from components.stage import (
    Batch,
    BatchMap,
    ColumnStage,
    Rows,
    Tensors,
    Yield,
    fixed_size_lists,
    ragged_lists,
)
from components.stages.base.finds import finds
from components.stages.clip_images import ClipImages
from components.stages.clip_texts import ClipTexts


@dataclass(frozen=True, kw_only=True)
class Boxes(ColumnStage):
    """`height`, `width` int32: of the image. Per box, best concept first, best score first within it: `box`
    float32 (4,), x0 y0 x1 y1 in pixels; `score` float32 in [0, 1]; `concept` int64, index in the
    vocabulary; `rank` int64, the concept's place among the image's concepts by CLIP, 0 the first.

    Every box above the detector's own low threshold is kept, of the `k_top_stored` concepts that CLIP
    ranks first: thresholds and a smaller k_top are choices at read time, see
    docs/methods/seg_mil.md, "Which segments are in a bag".
    """

    detector: Detector
    images: ClipImages
    texts: ClipTexts
    k_top_stored: Annotated[int, Ge(1)] = 15

    @property
    def batch_size(self) -> int:
        return self.detector.BATCH_SIZE

    def describe(self, column: Column) -> Yield:
        """What `finds` says of the boxes; the detector's own low threshold decides, not a method's."""
        return finds("boxes", ragged(column.read(column.ids, ["score"])["score"])[1])

    def load(self, tensors: Mapping[str, Tensors], device: str) -> BatchMap:
        detect = self.detector.load(device)
        texts = np.asarray(tensors["texts"]["embedding"], np.float32)

        def find(batch: Batch) -> Rows:
            similarities = matrix(batch.inputs["images"]["embedding"]) @ texts.T
            ranked = top_concepts(similarities, self.k_top_stored)
            questions = [
                Question(image, tuple(self.texts.texts[concept] for concept in concepts))
                for image, concepts in zip(batch.images, ranked, strict=True)
            ]
            answers = detect(questions)
            found = answers.detections
            per_image = [len(detections.scores) for detections in found]
            ranks = np.concatenate([detections.concepts for detections in found])
            concepts = np.concatenate([r[d.concepts] for r, d in zip(ranked, found, strict=True)])
            columns = {
                "height": pa.array([size[0] for size in batch.sizes], pa.int32()),
                "width": pa.array([size[1] for size in batch.sizes], pa.int32()),
                "box": ragged_lists(fixed_size_lists(np.concatenate([d.boxes for d in found])), per_image),
                "score": ragged_lists(pa.array(np.concatenate([d.scores for d in found])), per_image),
                "concept": ragged_lists(pa.array(concepts), per_image),
                "rank": ragged_lists(pa.array(ranks), per_image),
            }
            return Rows(columns, answers.model_inputs)

        return find
