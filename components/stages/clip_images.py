"""CLIP embeddings of whole images."""

from collections.abc import Mapping
from dataclasses import dataclass

from components.models.clip.clip import Clip
from components.stage import Batch, BatchMap, ColumnStage, Preparation, Rows, Tensors, fixed_size_lists


@dataclass(frozen=True, kw_only=True)
class ClipImages(ColumnStage):
    """`embedding`: a unit vector, float32 (D,). Not concept scores: a new vocabulary costs no pass."""

    clip: Clip

    def preparation(self) -> Preparation:
        return self.clip.preparation()

    def load(self, tensors: Mapping[str, Tensors], device: str) -> BatchMap:
        model = self.clip.load(device)

        def embed(batch: Batch) -> Rows:
            vectors = model.embed_images(batch.images)
            return Rows({"embedding": fixed_size_lists(vectors)}, len(batch))

        return embed
