"""Explanations as pictures: the image, and its regions tinted by weight and numbered. What the numbers stand
for is text beside the picture: words drawn into its pixels could be neither read on a small screen nor found.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import distance_transform_edt
from skimage.segmentation import find_boundaries

from components.method import Explanation
from components.metrics.heatmaps import normalised

SIDE = 224  # pixels of each panel
LARGE = 448  # pixels of the longer side of a picture that stands alone
REGIONS = 6  # that are numbered
HEATMAPS = 4  # that are drawn
COLUMNS = 3  # panels side by side
DIGIT = {2: 16, COLUMNS: 24}  # pixels of a number, by columns: 11 or more where the picture is 350 wide
HOT = np.array([255, 60, 0])
INK, PAPER = (20, 20, 20), (255, 255, 255)

Drawn = tuple[NDArray[np.uint8], list[str]]


def draw(image: NDArray[np.uint8], explanation: Explanation) -> Drawn:
    """The photograph, and the same with its regions tinted by their share of the weight and the heaviest of
    them numbered: uint8 (SIDE, 2 SIDE, 3); and a line for each number, the heaviest first.

    If the explanation's masks are heatmaps, float (S, h, w) of any size, of what the whole image shows: the
    photograph, and over it in grey those of the largest weights by magnitude, each scaled to its own range,
    numbered, in rows of at most COLUMNS panels.
    """
    if explanation.masks.dtype != bool:
        return _draw_heatmaps(image, explanation)
    shares = _shares(explanation.weights)
    order = np.argsort(-shares, kind="stable")[:REGIONS]
    panels = Image.new("RGB", (2 * SIDE, SIDE))
    panels.paste(_enlarged(image), (0, 0))
    panels.paste(_tinted(image, explanation.masks.astype(bool), shares, order), (SIDE, 0))
    said = [f"{100 * shares[i]:.0f} %  {explanation.captions[i]}" for i in order]
    return np.asarray(panels), _numbered(said)


def _draw_heatmaps(image: NDArray[np.uint8], explanation: Explanation) -> Drawn:
    order = np.argsort(-np.abs(explanation.weights), kind="stable")[:HEATMAPS]
    columns = min(1 + len(order), COLUMNS)
    panels = Image.new("RGB", (columns * SIDE, -(-(1 + len(order)) // columns) * SIDE), PAPER)
    panels.paste(_enlarged(image), (0, 0))
    pen = ImageDraw.Draw(panels)
    for panel, i in enumerate(order, start=1):
        corner = (panel % columns * SIDE, panel // columns * SIDE)
        panels.paste(_heated(image, explanation.masks[i]), corner)
        _write(pen, (corner[0] + SIDE // 10, corner[1] + SIDE // 10), panel, DIGIT[columns])
    said = [f"{explanation.weights[i]:+.2f}  {explanation.captions[i]}" for i in order]
    return np.asarray(panels), _numbered(said)


def _numbered(lines: list[str]) -> list[str]:
    return [f"{number}: {line}" for number, line in enumerate(lines, start=1)]


def draw_evidence(image: NDArray[np.uint8], explanation: Explanation) -> NDArray[np.uint8]:
    """The photograph in grey, and red over it where the evidence for the decision is: drawn alike for masks
    and heatmaps, nothing written on it, so that it does not tell which method explains. uint8 (h, w, 3) in
    the photograph's own proportions, LARGE pixels at most.

    Each mask by its share of the weight, each heatmap, scaled to its own range, by its share: of masks that
    overlap the larger counts, heatmaps are summed. Weights below 0 are no evidence.
    """
    shares = _shares(explanation.weights)[:, None, None]
    if explanation.masks.dtype == bool:
        heat = np.max(shares * explanation.masks, axis=0)
    else:
        heat = np.sum(shares * np.stack([normalised(one) for one in explanation.masks]), axis=0)
    heat /= max(float(heat.max()), 1e-12)
    large = Image.fromarray(image)
    scale = LARGE / max(large.size)
    size = (max(round(large.width * scale), 1), max(round(large.height * scale), 1))
    return _reddened(large.resize(size, Image.Resampling.BICUBIC), heat)


def _heated(image: NDArray[np.uint8], heatmap: NDArray[np.floating]) -> Image.Image:
    return Image.fromarray(_reddened(_enlarged(image), normalised(heatmap)))


def _reddened(photograph: Image.Image, heat: NDArray[np.floating]) -> NDArray[np.uint8]:
    """The photograph in grey, red by the heat (any size, 0 to 1) in each place."""
    scaled = Image.fromarray(heat.astype(np.float32)).resize(photograph.size, Image.Resampling.BILINEAR)
    grey = np.asarray(photograph).astype(float).mean(axis=2, keepdims=True)
    return (grey + (HOT - grey) * (0.65 * np.asarray(scaled)[..., None])).clip(0, 255).astype(np.uint8)


def _shares(weights: NDArray[np.floating]) -> NDArray[np.floating]:
    positive = np.clip(weights, 0, None)
    return positive / max(float(positive.sum()), 1e-12)


def _enlarged(image: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def _tinted(
    image: NDArray[np.uint8],
    masks: NDArray[np.bool_],
    shares: NDArray[np.floating],
    order: NDArray[np.integer],
) -> Image.Image:
    large = np.stack([np.asarray(Image.fromarray(mask).resize((SIDE, SIDE))) for mask in masks])
    heat = np.max(large * (shares / max(float(shares.max()), 1e-12))[:, None, None], axis=0)
    base = np.asarray(_enlarged(image)).astype(float)
    grey = base.mean(axis=2, keepdims=True)
    mixed = grey + (HOT - grey) * (0.65 * heat)[..., None]
    for region in order:
        mixed[find_boundaries(large[region], mode="inner")] = 255
    picture = Image.fromarray(mixed.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    free = np.ones((SIDE, SIDE), bool)  # of numbers: small regions choose first, as large ones have more room
    for number, region in sorted(enumerate(order, start=1), key=lambda one: int(large[one[1]].sum())):
        inside = large[region] & free if (large[region] & free).any() else large[region]
        if inside.any() and not large[region].all():  # the whole image has no place to point to
            # where the region is widest, so that the number lies inside
            depth = distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
            row, column = np.unravel_index(int(depth.argmax()), depth.shape)
            _write(pen, (int(column), int(row)), number, DIGIT[2])
            down, across = np.ogrid[:SIDE, :SIDE]
            free &= (down - row) ** 2 + (across - column) ** 2 > DIGIT[2] ** 2
    return picture


def _write(pen: ImageDraw.ImageDraw, middle: tuple[int, int], number: int, size: int) -> None:
    font = ImageFont.load_default(size)
    pen.text(middle, str(number), fill=PAPER, font=font, anchor="mm", stroke_width=2, stroke_fill=INK)
