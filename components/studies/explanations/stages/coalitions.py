"""Coalitions of an image's masks, and how probable the classifier finds its class under each of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import pyarrow as pa
from annotated_types import Ge, Le
from numpy.typing import NDArray

from components.identity import rng
from components.pixels.framed_segments import framed_segments, kept_masks
from components.stage import Batch, BatchMap, Rows, Tensors
from components.stages.base.network_stage import NetworkStage
from components.stages.base.segment_stage import SegmentStage
from components.studies.explanations.fill import Fill
from components.studies.explanations.shapley import MAX_PLAYERS, Draw, Sizes, draw, every_coalition

Bits = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Coalitions(NetworkStage):
    """`label` int32: the class that the classifier gives the image; `probability`, `empty`, `union` float32:
    of this class, of the image as it is, with every pixel hidden, and with all its masks shown. `masks`:
    int32 (n,), which of the image's segments take part. `bits`: m coalitions of n masks (see `stored_bits`);
    `probabilities`: float32 (m,), of this class where only these masks are shown. With `all_classes`,
    `class_probabilities`: float16 (m, C) as bytes.

    image_size, frame: the square that images become, its side in pixels, and their masks with them;
    n_coalitions: m; sizes: `bernoulli`, each mask is in with chance 1/2, as in EAC's code; `uniform`, with a
    chance that is drawn for each coalition, so that all sizes are equally likely, for Shapley values
    (docs/methods/explanations.md, "Coalitions");
    draw: see `shapley.Draw`;
    exact_up_to: an image with at most so many masks gets all 2^n coalitions, once each;
    fill: what hidden pixels show; min_pixels, max_masks: see `components.pixels.framed_segments.kept_masks`.

    Masks may overlap; pixels in none of them are hidden in every coalition. Coalitions that show the same
    pixels are passed once. An image with a probability that is not finite fails.
    """

    VERSION: ClassVar[int] = 2

    segments: SegmentStage
    n_coalitions: Annotated[int, Ge(1)] = 2500
    sizes: Sizes = "bernoulli"
    draw: Draw = "independent"
    exact_up_to: Annotated[int, Ge(0), Le(MAX_PLAYERS)] = 0
    fill: Fill = "black"
    min_pixels: Annotated[float, Ge(0)] = 0.0
    max_masks: Annotated[int, Ge(1)] | None = None
    all_classes: bool = False
    seed: int = 0

    @property
    def batch_size(self) -> int:
        """An image is thousands of passes."""
        return 8

    def complete(self, n: int) -> bool:
        """Whether an image with n masks gets all coalitions."""
        return n <= self.exact_up_to

    def drawn(self, n: int, image_id: int) -> Bits:
        """The coalitions (m, n) of an image with n masks; of none, m is 0."""
        if n == 0:
            return np.zeros((0, 0), bool)
        if self.complete(n):
            return every_coalition(n)
        stream = rng(self.seed, "coalitions", image_id)
        return draw(n, self.n_coalitions, self.sizes, stream, self.draw)

    def load(self, tensors: Mapping[str, Tensors], device: str) -> BatchMap:
        import torch

        from components.studies.explanations.batch_norm_folding import folded
        from components.studies.explanations.masked_images import (
            MaskedImage,
            filling,
            probabilities,
            regions,
            shown_regions,
        )

        network = self.target(tensors, device)
        if network.dtype == torch.float32:
            network = folded(network, self.image_size)

        def evaluate(batch: Batch) -> Rows:
            kept: list[NDArray[np.int64]] = []
            bits: list[Bits] = []
            pictures: list[MaskedImage] = []
            places: list[NDArray[np.int64]] = []
            for row, (image, record) in enumerate(zip(batch.images, batch.records, strict=True)):
                masks = framed_segments(batch.inputs["segments"], row, self.image_size, self.frame)
                kept.append(kept_masks(masks, self.min_pixels, self.max_masks))
                bits.append(self.drawn(len(kept[-1]), record.image_id))
                region, members = regions(masks[kept[-1]])
                ends = np.stack([np.zeros(len(members), bool), members.any(axis=1)])
                shown = np.concatenate([ends, shown_regions(bits[-1], members)])
                distinct, place = _distinct(shown)
                whole = np.ones((1, len(members)), bool)
                pictures.append(
                    MaskedImage(image, filling(network, image, self.fill), region, np.r_[whole, distinct])
                )
                places.append(np.r_[0, place + 1])
            found = probabilities(network, pictures, device)
            columns = self._columns(kept, bits, [p[place] for p, place in zip(found, places, strict=True)])
            return Rows(columns, sum(len(picture.shown) for picture in pictures))

        return evaluate

    def _columns(
        self,
        kept: Sequence[NDArray[np.int64]],
        bits: Sequence[Bits],
        found: Sequence[NDArray[np.float32]],
    ) -> dict[str, pa.Array]:
        """found: per image (3 + m, C): of the image, of nothing, of all masks, of the coalitions."""
        labels = [int(p[0].argmax()) for p in found]
        own = [p[:, label] for p, label in zip(found, labels, strict=True)]
        columns = {"label": pa.array(labels, pa.int32())}
        for position, name in enumerate(("probability", "empty", "union")):
            columns[name] = pa.array([p[position] for p in own], pa.float32())
        columns["masks"] = pa.array([positions.tolist() for positions in kept], pa.list_(pa.int32()))
        columns["bits"] = pa.array([np.packbits(b, axis=1).tobytes() for b in bits], pa.binary())
        columns["probabilities"] = pa.array([p[3:] for p in own], pa.list_(pa.float32()))
        if self.all_classes:
            halves = [p[3:].astype(np.float16).tobytes() for p in found]
            columns["class_probabilities"] = pa.array(halves, pa.large_binary())
        return columns


def _distinct(rows: Bits) -> tuple[Bits, NDArray[np.int64]]:
    """The distinct rows, and which of them each row is."""
    codes = np.packbits(rows, axis=1)
    _, first, place = np.unique(
        codes.view(f"V{codes.shape[1]}").reshape(-1), return_index=True, return_inverse=True
    )
    return rows[first], place


def stored_bits(packed: bytes, n: int) -> Bits:
    """The coalitions (m, n) of a row of `bits`, with n masks."""
    if n == 0:
        return np.zeros((0, 0), bool)
    codes = np.frombuffer(packed, np.uint8).reshape(-1, -(-n // 8))
    return np.unpackbits(codes, axis=1, count=n).astype(bool)
