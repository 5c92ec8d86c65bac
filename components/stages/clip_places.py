"""CLIP embeddings of the places of a grid, each pointed at by a red circle or another visual prompt."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt

from components.models.clip.clip import IMAGES_AT_ONCE, Clip
from components.pixels.places import Centres, centres, discs, in_pixels, rings, spans
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

if TYPE_CHECKING:
    from torch import Tensor

    View = Callable[[Tensor, Tensor], Tensor]

RED = (255, 0, 0)
BLUR = 10.0  # standard deviation, pixels of the 224 frame


@dataclass(frozen=True, kw_only=True)
class ClipPlaces(ColumnStage):
    """`embedding`: per image G*G unit vectors float16 (D,), row (y) by row. float16 moves a cosine with
    another unit vector by at most 5e-4.

    The prompt is put on the image as CLIP's own preprocessing leaves it, before the normalisation (S
    pixels square). circle: a red outline, the rest of the image untouched (SALF-CBM, section 3.1).
    crop: the circle's bounding square, cut by the border, resized to S by S as the model resizes. blur: all
    outside of the circle blurred by a Gaussian (BLUR).

    grid_size: G places per axis. radius, line_width: pixels of a 224 frame; on the image they are rounded
    to whole pixels, but never to 0. A line_width of 0 draws no circle. centres: where the places are, see
    `components.pixels.places.centres`; ValueError when loaded if they do not fit into S pixels.
    """

    clip: Clip
    grid_size: Annotated[int, Ge(1)] = 7
    prompt: Literal["circle", "crop", "blur"] = "circle"
    radius: Annotated[float, Gt(0)] = 32.0
    line_width: Annotated[float, Ge(0)] = 2.0
    centres: Centres = "stride"

    @property
    def batch_size(self) -> int:
        return 16  # images, of G*G passes each

    def preparation(self) -> Preparation:
        return self.clip.preparation()

    def load(self, tensors: Mapping[str, Tensors], device: str) -> BatchMap:
        import torch

        model = self.clip.load(device)
        places = self.grid_size**2
        prompted = self._prompt(model.size, model.prepare.interpolation, device)

        def views(images: "Tensor") -> Iterator["Tensor"]:
            view = prompted(images)
            pairs = torch.arange(len(images) * places, device=device)
            for part in pairs.tensor_split(math.ceil(len(pairs) / IMAGES_AT_ONCE)):
                yield view(part // places, part % places)

        def embed(batch: Batch) -> Rows:
            vectors = model.embed_blocks(views(model.pixels(batch.images)))
            stored = ragged_lists(fixed_size_lists(vectors.astype(np.float16)), [places] * len(batch))
            return Rows({"embedding": stored}, len(vectors))

        return embed

    def _prompt(self, size: int, interpolation: str, device: str) -> Callable[["Tensor"], "View"]:
        """Given images uint8 (B, 3, S, S): the function of P images' and places' indices that makes the
        views (P, 3, S, S), pixels in 0..255. Masks are drawn here, once."""
        import torch

        middles = centres(self.grid_size, self.radius, size, self.centres)
        if self.prompt == "circle":
            ring = torch.from_numpy(rings(middles, self.radius, self.line_width, size)).to(device)
            red = torch.tensor(RED, dtype=torch.uint8, device=device).view(3, 1, 1)
            return lambda images: lambda image, place: torch.where(ring[place, None], red, images[image])
        if self.prompt == "blur":
            disc = torch.from_numpy(discs(middles, self.radius, size)).to(device)
            return lambda images: _sharp_inside(disc, images, in_pixels(BLUR, size))
        zoom = torch.stack([_zoom(span, size, interpolation) for span in spans(middles, self.radius, size)])
        return lambda images: _zoomed(zoom.to(device), images)


def _sharp_inside(disc: "Tensor", images: "Tensor", sigma: int) -> "View":
    import torch
    from torchvision.transforms.v2.functional import gaussian_blur

    blurred = gaussian_blur(images, [6 * sigma + 1] * 2, [float(sigma)] * 2)
    return lambda image, place: torch.where(disc[place, None], images[image], blurred[image])


def _zoomed(zoom: "Tensor", images: "Tensor") -> "View":
    def view(image: "Tensor", place: "Tensor") -> "Tensor":
        rows, columns = (zoom[i, None] for i in (place // len(zoom), place % len(zoom)))
        crops: Tensor = rows @ images[image].float() @ columns.mT
        return crops.clamp(0, 255)

    return view


def _zoom(span: slice, size: int, interpolation: str) -> "Tensor":
    """The matrix (S, S) that cuts this span out of S pixels and resizes it to S, as Pillow does: resizing
    is linear and works on each axis for itself, so one product makes any number of crops."""
    import torch
    from torch.nn.functional import interpolate

    unit = torch.eye(size)[None, None, span]
    return interpolate(unit, (size, size), mode=interpolation, antialias=True)[0, 0]
