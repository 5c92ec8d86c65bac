"""The concept layer: features to concepts, trained to agree with CLIP; no labels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from components.data.columns import Data, Ids
from components.data.images import DataError
from components.identity import rng
from components.stage import TensorStage
from components.stages.backbone_images import BackboneImages
from components.stages.backbone_maps import BackboneMaps
from components.stages.clip_images import ClipImages
from components.stages.clip_places import ClipPlaces
from components.stages.clip_texts import ClipTexts

HELD_OUT = 0.1  # of the training images, where training stops by them
Protocol = Literal["held_out", "lf_original"]
LossAxis = Literal["image", "image_space"]


@dataclass(frozen=True, kw_only=True)
class ConceptLayer(TensorStage):
    """Over all M concepts of the vocabulary: `weight` float32 (M, D), 0 where not trained; `trained` uint8;
    `similarity` float32, the cubed cosine on held-out images, the mean over places, NaN where not trained;
    with cutoff_images, `top_cosine` float32, the mean of the five largest cosines with training images.

    The loss is docs/methods/concept_bottlenecks.md, eq. 9.

    features, targets: what the layer sees and what CLIP sees of an image: one vector each (LF-CBM), or maps
    and the places of a grid, to whose size the maps are resized (SALF-CBM);
    cutoff_images, clip_cutoff: concepts whose `top_cosine` is not above it are not trained
    (docs/methods/concept_bottlenecks.md, eq. 2); without images, all are;
    protocol: what ends the training and what `similarity` is measured on: a tenth of the training images, or
    as LF-CBM published it, the test split, of which every later test result then knows;
    loss_axis: the similarity over images, place by place, or over images and places together (an ablation: an
    average map of the places alone then scores well; it holds a batch's maps in memory).
    learning_rate, batch_size, steps: of Adam. Reads no label.
    """

    features: BackboneImages | BackboneMaps
    targets: ClipImages | ClipPlaces
    texts: ClipTexts
    cutoff_images: ClipImages | None
    clip_cutoff: float
    protocol: Protocol
    loss_axis: LossAxis
    learning_rate: float
    batch_size: int
    steps: int
    seed: int

    @property
    def grid_size(self) -> int | None:
        """Cells of a concept map along an axis; None without maps."""
        return self.targets.grid_size if isinstance(self.targets, ClipPlaces) else None

    def compute(self, data: Data, device: str, report: Callable[..., None]) -> dict[str, NDArray[Any]]:
        import tempfile
        from pathlib import Path

        from components.studies.concept_bottleneck.layer.training import Adam, read_pairs, train_concept_layer

        texts = data.tensors("texts")["embedding"]
        train, held_out = self._parts(data)
        found = self._top_cosines(data, texts)
        trained = np.ones(len(texts), dtype=bool)
        if self.cutoff_images is not None:
            trained = found["top_cosine"] > self.clip_cutoff
        if not trained.any():
            most = found["top_cosine"].max()
            raise DataError(f"clip_cutoff {self.clip_cutoff} leaves no concept: the largest is at {most:.3f}")
        how = Adam(
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            steps=self.steps,
            across_places=self.loss_axis == "image_space",
        )
        with tempfile.TemporaryDirectory(prefix="concept_layer") as folder:
            columns = data["features"], data["targets"]
            pairs = (
                read_pairs(*columns, ids, self.grid_size, Path(folder) / name)
                for name, ids in (("train", train), ("held_out", held_out))
            )
            stream = rng(self.seed, "concept_layer")
            rows, agreement = train_concept_layer(
                next(pairs), next(pairs), texts[trained], how, stream, device, report
            )
        weight = np.zeros((len(texts), rows.shape[1]), np.float32)
        similarity = np.full(len(texts), np.nan, np.float32)
        weight[trained], similarity[trained] = rows, agreement
        return {"weight": weight, "trained": trained.astype(np.uint8), "similarity": similarity, **found}

    def _top_cosines(self, data: Data, texts: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        from components.studies.concept_bottleneck.layer.training import top_cosines

        if self.cutoff_images is None:
            return {}
        return {"top_cosine": top_cosines(data["cutoff_images"], data.usable_split("train").ids, texts)}

    def _parts(self, data: Data) -> tuple[Ids, Ids]:
        """Images that train the layer, and those that it is looked at by; one image alone is both."""
        train = data.usable_split("train").ids
        if len(train) == 0:
            raise DataError("no training image went through every stage")
        if self.protocol == "lf_original":
            return train, data.usable_split("test").ids
        order = rng(self.seed, "concept_layer held out").permutation(len(train))
        n_held_out = max(1, round(HELD_OUT * len(train)))
        rest = order[n_held_out:] if len(train) > 1 else order
        return np.sort(train[rest]), np.sort(train[order[:n_held_out]])
