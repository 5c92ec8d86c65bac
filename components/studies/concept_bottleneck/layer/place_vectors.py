"""What column stages wrote of images, as vectors of places (n, P, D): of one place where there is no grid."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from components.data.columns import Column, Ids, matrix, ragged_vectors
from components.data.images import blocks

FIELDS = ("map", "features", "embedding")  # of backbone_maps, backbone_images, clip_images and clip_places
BLOCK_BYTES = 2**26


def place_vectors(
    column: Column, ids: Ids, grid_size: int | None = None
) -> Iterator[tuple[slice, NDArray[np.floating]]]:
    """The images' vectors in blocks of about BLOCK_BYTES: which rows of `ids`, and (n, P, D) of them.

    P is 1 for `features` and for one `embedding` an image; G*G, row (y) by row, for `embedding`s of places;
    h*w for a `map`, which is first resized to `grid_size` cells a side, bilinearly, if it has another size.
    """
    field = next(name for name in FIELDS if name in column.fields)
    if len(ids) == 0:
        return
    bytes_each = _vectors(column, ids[:1], field, grid_size).nbytes
    for rows in blocks(len(ids), max(1, BLOCK_BYTES // bytes_each)):
        yield rows, _vectors(column, ids[rows], field, grid_size)


def _vectors(column: Column, ids: Ids, field: str, grid_size: int | None) -> NDArray[np.floating]:
    if field == "map":
        return _cells(column.read(ids, ["map", "shape"]), grid_size)
    stored = column.read(ids, [field])[field]
    if pa.types.is_fixed_size_list(stored.type):
        return matrix(stored)[:, None]
    vectors, counts = ragged_vectors(stored)
    return vectors.reshape(len(ids), counts[0], -1)


def _cells(table: pa.Table, grid_size: int | None) -> NDArray[np.floating]:
    shape = matrix(table["shape"])[0]
    maps = matrix(table["map"]).reshape(-1, *shape)
    if grid_size is not None and (grid_size, grid_size) != tuple(shape[1:]):
        resized = interpolate(
            torch.from_numpy(maps.astype(np.float32)), (grid_size, grid_size), mode="bilinear"
        )
        maps = resized.numpy().astype(maps.dtype)
    return np.ascontiguousarray(maps.reshape(*maps.shape[:2], -1).transpose(0, 2, 1))
