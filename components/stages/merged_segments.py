"""Segments of which those that overlap have become one: new masks, so they are encoded anew."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.models.segmentation.segmenter import Found
from components.pixels import masks
from components.pixels.bags import BagRules, BoxRules, detected, right_size
from components.stage import Batch, BatchMap, Rows, Tensors
from components.stages.base.segment_stage import SegmentStage, segment_columns

OF_A_DETECTOR = {"concept": pa.int64(), "score": pa.float32(), "rank": pa.int64()}


@dataclass(frozen=True, kw_only=True)
class MergedSegments(SegmentStage):
    """The unions of segments that overlap more than `tau_iou`, best score first; of a detector's segments
    also `concept`, `score`, `rank` of the best one. It is step 4 of
    docs/methods/seg_mil.md, "Which segments are in a bag".

    Segments that the thresholds refuse are left out before. The score is the detector's; of segmenters
    without one the predicted IoU, else the area. A union that would cover more than `rho_max` of the image is
    not made: the better one stays as it is. No two masks that are left overlap more than `tau_iou`.
    """

    DECODES: ClassVar[bool] = False
    PASSES_A_MODEL: ClassVar[bool] = False

    segments: SegmentStage
    tau_min_pixels: float
    rho_max: float
    tau_iou: float
    pixel_frame: Literal["224", "native"]
    boxes: BoxRules | None

    def load(self, tensors: Mapping[str, Tensors], device: str) -> BatchMap:
        rules = BagRules(
            k_top=0,
            tau_min_pixels=self.tau_min_pixels,
            rho_max=self.rho_max,
            tau_iou=self.tau_iou,
            bag_size=0,
            pixel_frame=self.pixel_frame,
            boxes=self.boxes,
        )

        def merge(batch: Batch) -> Rows:
            rows = batch.inputs["segments"].to_pylist()
            merged = [_merged(row, rules) for row in rows]
            sizes = [(row["height"], row["width"]) for row in rows]
            columns = segment_columns([Found(runs) for runs, _ in merged], sizes)
            if rows and "concept" in rows[0]:
                for name, dtype in OF_A_DETECTOR.items():
                    values = [
                        [row[name][i] for i in best] for row, (_, best) in zip(rows, merged, strict=True)
                    ]
                    columns[name] = pa.array(values, pa.list_(dtype))
            return Rows(columns, 0)

        return merge


def _merged(row: Mapping[str, object], rules: BagRules) -> tuple[list[bytes], list[int]]:
    """Run lengths of the unions of one image, and the position of the best segment of each."""
    areas = np.asarray(row["area"], np.int64)
    scores = _scores(row, areas)
    height, width = int(row["height"]), int(row["width"])  # type: ignore[call-overload]
    considered = right_size(areas, height, width, rules)
    if "concept" in row:
        concepts, ranks = (np.asarray(row[name], np.int64) for name in ("concept", "rank"))
        considered &= detected(np.zeros_like(concepts), concepts, scores, ranks, rules.boxes)
    order = [int(i) for i in np.argsort(-scores, kind="stable") if considered[i]]
    runs: list[bytes] = row["counts"]  # type: ignore[assignment]
    unions = [(runs[i], i) for i in order]
    while (fewer := _one_pass(unions, height, width, rules)) != unions:
        unions = fewer
    return [run for run, _ in unions], [best for _, best in unions]


def _scores(row: Mapping[str, object], areas: NDArray[np.int64]) -> NDArray[np.float32]:
    stated = row["score"] if "score" in row else row["predicted_iou"]
    return np.asarray(areas if stated is None else stated, np.float32)


def _one_pass(
    unions: list[tuple[bytes, int]], height: int, width: int, rules: BagRules
) -> list[tuple[bytes, int]]:
    """Each mask, best first, goes into the first better one that it overlaps too much."""
    kept: list[tuple[bytes, int]] = []
    for run, best in unions:
        overlaps = masks.iou_with(run, [other for other, _ in kept], height, width)
        into = next((place for place, iou in enumerate(overlaps) if iou > rules.tau_iou), None)
        if into is None:
            kept.append((run, best))
            continue
        union = masks.union([kept[into][0], run], height, width)
        if masks.areas([union], height, width)[0] / (height * width) <= rules.rho_max:
            kept[into] = (union, kept[into][1])
    return kept
