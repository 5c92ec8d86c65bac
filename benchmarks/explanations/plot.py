"""Error against cost, as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

Point = tuple[float, float]  # cost, error


def save(curves: Mapping[str, Sequence[Point]], title: str, cost: str, error: str, file: Path) -> None:
    """Writes a PNG, both axes logarithmic: a line for each name, a point for each budget."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot()
    for place, (name, points) in enumerate(curves.items()):
        x, y = zip(*sorted(points), strict=True)
        axes.loglog(x, y, marker="os^Dv"[place % 5], markersize=4, label=name)
    axes.grid(which="both", color="0.9")
    axes.set(title=title, xlabel=cost, ylabel=error)
    axes.legend(frameon=False, fontsize=8)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
