"""A backbone's spatial features of whole images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge

from components.stage import Batch, BatchMap, Rows, Tensors, fixed_size_lists
from components.stages.base.network_stage import NetworkStage


@dataclass(frozen=True, kw_only=True)
class BackboneMaps(NetworkStage):
    """`map` float16 (D h w,), the feature map before any pooling; `shape` int32 (3,): D, h, w, the same for
    all images. `data[name].array("map", ids).reshape(len(ids), *shape)` is the maps.

    image_size, frame: the square that images become, its side in pixels;
    class_token: a transformer's class token is put to every cell, as D channels more;
    grid_size: the map is resized to so many cells a side, bilinearly, as SALF-CBM does; null: as it is.

    An image with a value beyond float16 fails.
    """

    class_token: bool = False
    grid_size: Annotated[int, Ge(1)] | None = None

    def load(self, tensors: Mapping[str, Tensors], device: str) -> BatchMap:
        import torch
        from torch.nn.functional import interpolate

        from components.models.networks.network import to_pixels

        network = self.network(tensors, device)

        def featurise(batch: Batch) -> Rows:
            with torch.inference_mode():
                maps = network.spatial(to_pixels(np.stack(batch.images), device), self.class_token)
                if self.grid_size is not None:
                    maps = interpolate(maps, (self.grid_size, self.grid_size), mode="bilinear")
                stored = maps.half().cpu().numpy()
            if not np.isfinite(stored).all():
                raise OverflowError("a feature does not fit into float16")
            shape = np.tile(np.array(stored.shape[1:], np.int32), (len(batch), 1))
            columns = {"map": stored.reshape(len(batch), -1), "shape": shape}
            return Rows({name: fixed_size_lists(value) for name, value in columns.items()}, len(batch))

        return featurise
