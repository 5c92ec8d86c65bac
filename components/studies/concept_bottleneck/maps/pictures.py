"""Pictures of what a concept bottleneck has learned and of what it says in a region, by matplotlib.

M concepts, L classes. All are uint8 (H, W, 3).
"""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from scipy.special import softmax

from components.studies.concept_bottleneck.maps.concept_maps import Rule, global_rules
from components.studies.concept_bottleneck.maps.regions import RegionExplanation

Pixels = NDArray[np.uint8]
DPI = 110
CLASSES, LINKS, LINKS_EACH = 10, 40, 8  # that are drawn: classes, links, links of a class
FOR, AGAINST, INK, MUTED = "#2563a8", "#d1661f", "#1f2933", "#6b7785"
LABEL_HEIGHT = 0.24  # inches that a name needs
BAR = 0.012  # width of a node, of the picture's


def draw_rules(
    weight: NDArray[np.floating], concepts: Sequence[str], classes: Sequence[str], least: float = 0.05
) -> tuple[Pixels, str]:
    """The final layer (L, M) as a Sankey diagram, and what of it is drawn: links as wide as the magnitude of
    a weight above `least`, blue for concepts that speak for the class, orange for those against it. Of many,
    the CLASSES with the largest weights and the strongest links of each; the picture says so."""
    rules = global_rules(weight, least)
    totals = np.abs(weight).sum(axis=1)
    shown = sorted(np.argsort(-totals, kind="stable")[:CLASSES].tolist())
    each = min(LINKS_EACH, LINKS // max(len(shown), 1))
    links = [link for label in shown for link in [rule for rule in rules if rule.label == label][:each]]
    said = f"{len(links)} of {len(rules)} weights above {least:g} in magnitude"
    if len(shown) < len(classes):
        said += f"; {len(shown)} of {len(classes)} classes, those with the largest weights"
    if len(links) < len(rules):
        said += f"; at most {each} for each class"
    left = _order(links, concepts)
    height = 1.0 + 1.6 * LABEL_HEIGHT * max(len(left), len(shown), 3)
    figure = Figure(figsize=(8.5, height), dpi=DPI)
    axes = figure.add_axes((0.01, 0.35 / height, 0.98, 1 - 0.8 / height))
    axes.set(xlim=(0, 1), ylim=(1, 0))
    axes.axis("off")
    title = "concepts  →  classes;  blue: speaks for the class, orange: against it"
    figure.text(0.5, 1 - 0.3 / height, title, color=INK, fontsize=10, ha="center")
    figure.text(0.5, 0.12 / height, said, color=MUTED, fontsize=9, ha="center")
    _sankey(axes, links, left, shown, concepts, classes)
    return _pixels(figure), said


def draw_region(
    image: Pixels, explained: RegionExplanation, where: str, concepts: Sequence[str], classes: Sequence[str]
) -> Pixels:
    """The framed image (S, S, 3) with the region outlined; the strongest concepts in it; and the classes'
    logits and probabilities before and after the intervention, of the largest in either."""
    figure = Figure(figsize=(9.2, 3.1), dpi=DPI, layout="constrained")
    photo, bars, classed = figure.subplots(1, 3, width_ratios=(1, 1.35, 1.35))
    photo.imshow(image)
    photo.contour(explained.region, levels=[0.5], colors=["white"], linewidths=3)
    photo.contour(explained.region, levels=[0.5], colors=["#d1001f"], linewidths=1.5)
    photo.set_title(f"region: {where}", fontsize=10, color=INK)
    photo.axis("off")
    colours = [FOR if value >= 0 else AGAINST for value in explained.activations]
    _bars(bars, [concepts[c] for c in explained.concepts], explained.activations, colours)
    bars.set_title("strongest concepts there", fontsize=10, color=INK)
    bars.set_xlabel("mean activation, in standard deviations", fontsize=8, color=MUTED)
    intervention = explained.intervention
    order = np.argsort(-np.maximum(intervention.before, intervention.after), kind="stable")[:5]
    places = np.arange(len(order))
    low, high = 0.0, 0.0
    for logits, shift, colour, when in (
        (intervention.before, -0.2, MUTED, "before"),
        (intervention.after, 0.2, FOR, "after"),
    ):
        classed.barh(places + shift, logits[order], 0.36, color=colour, label=when)
        low, high = min(low, logits[order].min()), max(high, logits[order].max())
        for place, label in zip(places, order, strict=True):
            text = f" {logits[label]:+.2f}  ({100 * softmax(logits)[label]:.1f} %)"
            classed.text(max(logits[label], 0), place + shift, text, va="center", fontsize=8, color=INK)
    classed.axvline(0, color=MUTED, linewidth=0.8)
    classed.set_yticks(places, [textwrap.shorten(classes[label], 26) for label in order], fontsize=9)
    classed.set(ylim=(len(order) - 0.4, -0.6), xlim=(low, high + 0.55 * max(high - low, 1e-6)))
    verb = "raised" if explained.beta >= 0 else "lowered"
    edited = f"“{concepts[explained.edited]}” {verb} there by {abs(explained.beta):g}"
    if intervention.sign_violations.any():
        edited += ",\nwhich moves it the other way (softmax pooling)"
    classed.set_title(edited, fontsize=10, color=INK)
    classed.set_xlabel("logit (probability)", fontsize=8, color=MUTED)
    classed.legend(frameon=False, fontsize=8, loc="lower right")
    _calm(classed)
    return _pixels(figure)


def _order(links: Sequence[Rule], concepts: Sequence[str]) -> list[int]:
    """The concepts of the links by the mean place of their classes, so that few cross; of equal ones those
    first that speak for the first classes."""
    places: dict[int, list[Rule]] = {}
    for link in links:
        places.setdefault(link.concept, []).append(link)

    def key(concept: int) -> tuple[float, float, str]:
        of = places[concept]
        whole = sum(abs(link.weight) for link in of)
        mean = sum(abs(link.weight) * link.label for link in of) / whole
        return round(mean, 3), sum(link.weight * link.label for link in of) / whole, concepts[concept]

    return sorted(places, key=key)


def _sankey(
    axes: Axes,
    links: Sequence[Rule],
    left: Sequence[int],
    right: Sequence[int],
    concepts: Sequence[str],
    classes: Sequence[str],
) -> None:
    x0, x1 = 0.30, 0.78
    totals = [
        {node: sum(abs(link.weight) for link in links if link[side] == node) for node in nodes}
        for side, nodes in ((0, left), (1, right))
    ]
    whole = max(sum(totals[0].values()), 1e-12)
    per_weight = 0.55 / whole  # of the height; the rest is between the nodes
    starts = [_starts(of, per_weight) for of in totals]
    for side, x, names, align in ((0, x0, concepts, "right"), (1, x1, classes, "left")):
        for node, start in starts[side].items():
            height = totals[side][node] * per_weight
            axes.add_patch(Rectangle((x - BAR * (side == 0), start), BAR, height, color=INK, linewidth=0.5))
            offset = -2 * BAR if side == 0 else 2 * BAR
            name = textwrap.shorten(names[node], 36)
            axes.text(x + offset, start + height / 2, name, ha=align, va="center", fontsize=9, color=INK)
    at = [dict(of) for of in starts]
    t = np.linspace(0, 1, 40)
    for link in sorted(links, key=lambda one: (right.index(one.label), left.index(one.concept))):
        width = abs(link.weight) * per_weight
        y = at[0][link.concept] + (at[1][link.label] - at[0][link.concept]) * t**2 * (3 - 2 * t)
        colour = FOR if link.weight > 0 else AGAINST
        axes.fill_between(x0 + (x1 - x0) * t, y, y + width, color=colour, alpha=0.5, linewidth=0)
        at[0][link.concept] += width
        at[1][link.label] += width


def _starts(totals: dict[int, float], per_weight: float) -> dict[int, float]:
    """Where each node starts, top down, the nodes evenly spread over the height."""
    gap = (1 - sum(totals.values()) * per_weight) / max(len(totals), 1)
    starts, y = {}, gap / 2
    for node, total in totals.items():
        starts[node] = y
        y += total * per_weight + gap
    return starts


def _bars(axes: Axes, names: Sequence[str], values: NDArray[np.floating], colours: Sequence[str]) -> None:
    places = np.arange(len(names))
    axes.barh(places, values, 0.6, color=colours)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.set_yticks(places, [textwrap.shorten(name, 30) for name in names], fontsize=9)
    axes.set_ylim(len(names) - 0.4, -0.6)
    _calm(axes)


def _calm(axes: Axes) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False, labelsize=8, colors=INK)
    axes.tick_params(axis="y", labelsize=9)


def _pixels(figure: Figure) -> Pixels:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
