"""SALF-CBM (Benou and Riklin-Raviv 2025): LF-CBM with a map for each concept, taught by red circles.

Steps and defaults: docs/methods/concept_bottlenecks.md, "salf_cbm"; where the paper is silent, those of the
released model, else our own, which the page names as such.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt
from numpy.typing import NDArray

from components.data.card import Card
from components.data.columns import Data, Ids
from components.method import LAST, Fitted, Metric, Picture
from components.pixels.frames import Frame, framed
from components.pixels.heat import unframed
from components.pixels.places import Centres, centres
from components.stage import Batch, ImageRecord, Size, Stage, Tensors
from components.stages.backbone_maps import BackboneMaps
from components.stages.clip_places import ClipPlaces
from components.studies.concept_bottleneck.concept_bottleneck import final_layer
from components.studies.concept_bottleneck.layer.concept_pooling import Pool, Pooling
from components.studies.concept_bottleneck.maps.concept_maps import ConceptHead, concept_heatmap
from components.studies.concept_bottleneck.maps.localisation import pointing_metrics
from components.studies.concept_bottleneck.maps.regions import explain_region, shown_region
from components.studies.concept_bottleneck.maps.segmentation import concept_segmentation_metrics
from components.studies.concept_bottleneck.stages.concept_layer import LossAxis
from components.studies.concept_bottleneck.trained_concept_bottleneck import TrainedConceptBottleneck


@dataclass(frozen=True, kw_only=True)
class SalfCbm(TrainedConceptBottleneck):
    """A map of grid_size x grid_size cells per concept and image, pooled to one number.

    grid_size, prompt, radius, line_width, centres: where CLIP looks, see the stage `clip_places`; lengths are
    pixels of a 224 frame; the backbone's map is resized to the grid;
    frame: what the backbone sees of an image that is no square; it must be what CLIP sees
    (docs/methods/concept_bottlenecks.md, "Red circles");
    class_token: a transformer's class token is put to every cell; loss_axis: see `concept_layer`;
    pool, pool_temperature, pool_cells: from a map to a number, see `layer.concept_pooling`;
    unit_maps: each concept's maps are scaled to a deviation of 1 before
    (docs/methods/concept_bottlenecks.md, "Pooling").
    """

    grid_size: Annotated[int, Ge(1)] = 7
    prompt: Literal["circle", "crop", "blur"] = "circle"
    radius: Annotated[float, Gt(0)] = 32.0
    line_width: Annotated[float, Ge(0)] = 2.0
    centres: Centres = "stride"
    frame: Frame = "center_crop"
    class_token: bool = False
    loss_axis: LossAxis = "image"
    pool: Pool = "softmax"
    pool_temperature: Annotated[float, Gt(0)] = 1.0
    pool_cells: Annotated[int, Ge(1)] = 5
    unit_maps: bool = False

    @property
    def pooling(self) -> Pooling:
        return Pooling(kind=self.pool, temperature=self.pool_temperature, cells=self.pool_cells)

    @property
    def map_size(self) -> int:
        return self.grid_size

    @property
    def scales_maps(self) -> bool:
        return self.unit_maps

    def stages(self, card: Card, seed: int) -> dict[str, Stage]:
        # the map is stored as the backbone makes it, so that a sweep over grids costs it one pass
        features = BackboneMaps(**vars(self.network(card, seed, self.frame)), class_token=self.class_token)
        places = ClipPlaces(
            clip=self.clip,
            grid_size=self.grid_size,
            prompt=self.prompt,
            radius=self.radius,
            line_width=self.line_width,
            centres=self.centres,
        )
        return self.with_path(features, self.concept_layer(card, seed, features, places, self.loss_axis))

    def maps(self, fitted: Fitted, data: Data, ids: Ids) -> NDArray[np.float32]:
        """Raw concept maps (n, K, G, G) of a few images, as `maps.concept_maps` takes them."""
        flat = self._bottleneck(fitted.tensors).maps(data["features"], ids)
        return flat.reshape(*flat.shape[:2], self.grid_size, self.grid_size)

    def frame_maps(
        self,
        fitted: Fitted,
        frames: Sequence[NDArray[np.uint8]],
        card: Card,
        classifier: Tensors | None,
        device: str = "cpu",
    ) -> NDArray[np.float32]:
        """Raw concept maps (T, K, G, G) of T images that are in no data set, such as the frames of a video:
        uint8 (H, W, 3) each, of any size. They pass the backbone here, each for itself; then
        `maps.concept_maps` explains them as stored images, all at once or one by one.

        card: of the data set that the method was fitted on; classifier: the backbone's weights as the stage
        `classifier` wrote them, None where they are the checkpoint's (`recipe: null`, or `trainable: head`).
        Maps agree with those of stored images within the rounding of features to float16. Raises ValueError
        without a frame, OverflowError for a feature beyond float16.
        """
        if not frames:
            raise ValueError("no frame")
        stage = BackboneMaps(
            **vars(self.network(card, 0, self.frame)),  # the seed named the weights, which are given
            class_token=self.class_token,
            grid_size=self.grid_size,
        )
        featurise = stage.load({} if classifier is None else {"classifier": classifier}, device)
        weight = fitted.tensors["concept_weight"]
        maps = []
        for number, frame in enumerate(frames):
            batch = Batch([ImageRecord(number, Path())], [framed(frame, stage.image_size, stage.frame)], {})
            columns = featurise(batch).columns
            cells = np.asarray(columns["map"].flatten()).reshape(-1, self.grid_size, self.grid_size)
            maps.append(np.einsum("kd,dhw->khw", weight, cells.astype(np.float32)))
        return np.stack(maps)

    def pictures(self, fitted: Fitted, data: Data, image_ids: Sequence[int]) -> list[Picture]:
        """The rules; and of each image what its concepts are in one region, and what an edit there does."""
        from components.studies.concept_bottleneck.maps.pictures import draw_region

        pictures = super().pictures(fitted, data, image_ids)
        ids = np.asarray(image_ids, np.int64)
        ids = ids[data.usable(ids)]
        if len(ids) == 0 or len(data.card.classes) < 2:
            return pictures
        head, side = self.head(fitted), data.card.image_size
        labels = data.index.labels[data.rows(ids)]
        concepts, classes = fitted.facts["concepts"], data.card.classes
        for image_id, label, maps, image in zip(
            ids.tolist(), labels.tolist(), self.maps(fitted, data, ids), data.images(ids), strict=True
        ):
            predicted = int(head.logits(maps).argmax())
            class_map = head.class_map(maps, predicted)
            region, where = shown_region(data, image_id, self.frame, class_map, self.middles(side))
            explained = explain_region(head, maps, region, label, middles=self.middles(side))
            pixels = draw_region(framed(image, side, self.frame), explained, where, concepts, classes)
            after = classes[int(explained.intervention.after.argmax())]
            caption = f"image {image_id}, {classes[label]}: {classes[predicted]}, after the edit {after}"
            pictures.append(Picture(f"region_{image_id}", pixels, caption))
        return pictures

    def middles(self, side: int) -> NDArray[np.float64]:
        """Where a map's cells lie along an axis of the frame, in pixels: at the centres of the circles."""
        return centres(self.grid_size, self.radius, side, self.centres)

    def head(self, fitted: Fitted, selection: str = LAST) -> ConceptHead:
        """What follows the maps."""
        layer = final_layer(fitted, selection)
        return ConceptHead(
            weight=layer.weight,
            bias=layer.bias,
            mean=fitted.tensors["mean"],
            std=fitted.tensors["std"],
            pool=self.pool,
            temperature=self.pool_temperature,
            cells=self.pool_cells,
        )

    def _localisation(self, fitted: Fitted, data: Data) -> list[Metric]:
        def maps(ids: Ids) -> NDArray[np.float32]:
            return self.maps(fitted, data, ids)

        def predicted(ids: Ids) -> NDArray[np.int64]:
            return self.predict(fitted, data, ids).argmax(axis=1)

        shown = self.frame, self.middles(data.card.image_size), self.labelled(LAST)
        head, concepts = self.head(fitted), fitted.facts["concepts"]
        return [
            *pointing_metrics(data, "test", concepts, maps, *shown),
            *concept_segmentation_metrics(data, "test", head, maps, predicted, *shown),
        ]

    def _heatmaps(
        self, maps: NDArray[np.float32], shown: NDArray[np.int64], size: Size, side: int
    ) -> NDArray[np.float32]:
        """The raw maps, up-sampled; outside of the frame they have their least value."""
        heats = [concept_heatmap(maps, int(concept), side, middles=self.middles(side)) for concept in shown]
        return np.stack([unframed(heat, size, self.frame) for heat in heats])
