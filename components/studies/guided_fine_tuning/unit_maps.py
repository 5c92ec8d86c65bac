"""Raw relevance made a map in [0, 1] (docs/methods/guided_fine_tuning.md, eq. 14).

B images, g cells and S pixels a side.
"""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

SMALLEST_RANGE = 1e-8


def unit_maps(raw: Tensor, side: int | None, signed: bool = False) -> Tensor:
    """Maps (B, S, S) of raw relevance (B, g, g): negative relevance, which speaks against the class, is set
    to 0, or kept with `signed`; bilinear to `side` pixels, or with None on the grid itself; then scaled to
    each image's own range, so that 0 and 1 are both attained.

    A range below 1e-8 is divided by that instead: a constant map is 0 everywhere, and has gradients. (The
    official code divides by the range, and has NaN there.)
    """
    maps = raw if signed else raw.clamp(min=0)
    least, most = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    # rounding by which pixels of a constant map differ is no range: on some processors it is above 1e-8
    maps = maps - torch.where(most - least < SMALLEST_RANGE, least, 0.0)
    if side is not None:
        maps = interpolate(maps[:, None], size=(side, side), mode="bilinear", align_corners=False)[:, 0]
    maps = maps - maps.amin(dim=(1, 2), keepdim=True)
    return maps / maps.amax(dim=(1, 2), keepdim=True).clamp(min=SMALLEST_RANGE)
