"""Explanations as pictures: the image, its regions tinted by weight, and what each says."""

import textwrap

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt
from skimage.segmentation import find_boundaries

from components.method import Explanation
from components.metrics.heatmaps import normalised

SIDE = 224  # pixels of each panel
LARGE = 448  # pixels of the longer side of a picture that stands alone
CAPTION_WIDTH = 300
LINES = 6  # regions that are listed
PANELS = 4  # heatmaps that are drawn
CAPTION_HEIGHT = 44
HOT = np.array([255, 60, 0])
INK, PAPER = (20, 20, 20), (255, 255, 255)


def draw(image: NDArray[np.uint8], explanation: Explanation) -> NDArray[np.uint8]:
    """The photograph, the same with its regions tinted by their share of the weight and numbered, and the
    captions of the heaviest regions: uint8 (SIDE, 2 SIDE + CAPTION_WIDTH, 3)."""
    if explanation.masks.dtype != bool:
        return draw_heatmaps(image, explanation)
    shares = _shares(explanation.weights)
    order = np.argsort(-shares)[:LINES]
    panels = Image.new("RGB", (2 * SIDE + CAPTION_WIDTH, SIDE), PAPER)
    panels.paste(_enlarged(image), (0, 0))
    panels.paste(_tinted(image, explanation.masks.astype(bool), shares, order), (SIDE, 0))
    pen = ImageDraw.Draw(panels)
    for line, region in enumerate(order):
        text = f"{line + 1}  {100 * shares[region]:.0f} %  {explanation.captions[region]}"
        pen.text((2 * SIDE + 10, 14 + 34 * line), _wrapped(text), fill=INK)
    return np.asarray(panels)


def draw_heatmaps(image: NDArray[np.uint8], explanation: Explanation) -> NDArray[np.uint8]:
    """The photograph, and over it in grey the heatmaps of the largest weights by magnitude, each scaled to
    its own range; the captions beneath: uint8 (SIDE + CAPTION_HEIGHT, (1 + PANELS) SIDE, 3) or narrower.

    The explanation's masks are heatmaps, float (S, h, w) of any size, of what the whole image shows.
    """
    order = np.argsort(-np.abs(explanation.weights), kind="stable")[:PANELS]
    panels = Image.new("RGB", ((1 + len(order)) * SIDE, SIDE + CAPTION_HEIGHT), PAPER)
    panels.paste(_enlarged(image), (0, 0))
    pen = ImageDraw.Draw(panels)
    for panel, i in enumerate(order, start=1):
        panels.paste(_heated(image, explanation.masks[i]), (panel * SIDE, 0))
        text = f"{explanation.weights[i]:+.2f}  {explanation.captions[i]}"
        pen.text((panel * SIDE + 6, SIDE + 6), _wrapped(text, 34), fill=INK)
    return np.asarray(panels)


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
    for line, region in enumerate(order):
        _number(pen, large[region], str(line + 1))
    return picture


def _number(pen: ImageDraw.ImageDraw, mask: NDArray[np.bool_], text: str) -> None:
    """Writes the number where the region is widest, so that it lies inside."""
    if mask.any():
        depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        row, column = np.unravel_index(int(depth.argmax()), mask.shape)
        pen.text((int(column) - 4, int(row) - 6), text, fill=PAPER, stroke_width=2, stroke_fill=INK)


def _wrapped(text: str, width: int = 46) -> str:
    return "\n      ".join(textwrap.wrap(text, width, max_lines=2, placeholder=" ..."))
