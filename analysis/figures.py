"""One function per figure, `(DataFrame, Axes) -> None`, and how a figure becomes a picture."""

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, GRID = "#1f2933", "#55606c", "#e3e7ec"
Draw = Callable[[pd.DataFrame, Axes], None]
# Okabe and Ito, "Color Universal Design" (2008): told apart with any colour vision. Without their yellow,
# which is too light for points on white
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = "osD^vPX*"  # one more than colours, so that the first 56 pairs of both differ
LONG, ACROSS = 24, 60  # letters of a value, and of all values side by side
MANY = 30  # values: more than these (a random search) are dots, with neither line nor labels


def worst_group_against_average(table: pd.DataFrame, axes: Axes) -> None:
    """Each row of the leaderboard as a point, with its 95 % intervals; one colour per method."""
    for number, (method, rows) in enumerate(table.groupby("method", sort=True)):
        x, y = rows["average_accuracy"], rows["worst_group_accuracy"]
        axes.errorbar(
            x, y,
            xerr=_lengths(rows, "average_accuracy", *_interval("average_accuracy")),
            yerr=_lengths(rows, "worst_group_accuracy", *_interval("worst_group_accuracy")),
            fmt=MARKERS[number % len(MARKERS)], color=COLOURS[number % len(COLOURS)],
            markersize=8, markeredgecolor="white", markeredgewidth=0.6, elinewidth=1,
            ecolor=(*_rgb(COLOURS[number % len(COLOURS)]), 0.35), label=str(method),
        )  # fmt: skip
    _show_fractions(axes)
    limits = axes.get_xlim(), axes.get_ylim()
    axes.axline((0, 0), slope=1, color=MUTED, linewidth=0.8, linestyle=(0, (4, 4)), zorder=0)
    axes.set(xlim=limits[0], ylim=limits[1])
    axes.set(xlabel="average accuracy", ylabel="worst-group accuracy")
    axes.legend(frameon=False, fontsize=9, loc="best")


def ablation_curve(table: pd.DataFrame, axes: Axes) -> None:
    """One knob's rows of the ablation view, one line per metric, with 95 % bands.

    Numbers lie at their place in order, at equal distances, as do texts, which get error bars.
    """
    for number, (metric, rows) in enumerate(table.groupby("metric", sort=False)):
        rows = rows.sort_values("place")
        colour, x = COLOURS[number % len(COLOURS)], rows["place"]
        ordered = _are_numbers(rows["value"]) and len(rows) <= MANY
        if ordered:
            band = rows[["ci_low", "ci_high"]].astype(float)  # all NULL where every n is 1
            axes.fill_between(x, band["ci_low"], band["ci_high"], color=colour, alpha=0.14, lw=0)
        axes.errorbar(
            x, rows["mean"],
            yerr=None if ordered else _lengths(rows, "mean", "ci_low", "ci_high"),
            color=colour, marker=MARKERS[number], markersize=5, linewidth=1.6 if ordered else 0,
            elinewidth=1, label=str(metric).replace("_", " "),
        )  # fmt: skip
    first = table.drop_duplicates("value").sort_values("place")
    if len(first) <= MANY:
        said = [_shortened(str(value)) for value in first["value"]]
        axes.set_xticks(first["place"], said, fontsize=9)
        if sum(map(len, said)) > ACROSS:
            axes.tick_params(axis="x", labelrotation=90)
    axes.margins(x=0.08)
    _show_fractions(axes)
    axes.set(xlabel=str(first["parameter"].iloc[0]))
    axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)


def effects_of_knobs(table: pd.DataFrame, axes: Axes) -> None:
    """Differences of rows of the ablation table with their 95 % intervals, the first row on top."""
    rows = table[table["difference"].notna()].reset_index(drop=True)
    places = range(len(rows), 0, -1)
    axes.axvline(0, color=MUTED, linewidth=0.8, linestyle=(0, (4, 4)))
    axes.errorbar(
        rows["difference"], places,
        xerr=_lengths(rows, "difference", "difference_ci_low", "difference_ci_high"),
        fmt="o", color=COLOURS[0], markersize=5, elinewidth=1,
    )  # fmt: skip
    told = [f"{row.method}: {row.parameter} {row.value} against {row.reference}" for row in rows.itertuples()]
    axes.set_yticks(list(places), told, fontsize=8)
    axes.set(xlabel="difference, paired by seed")


def trade_off(numbers: Sequence[str]) -> Draw:
    """Draws configurations by the first two of these numbers; those that no other beats are filled."""
    if len(numbers) < 2:
        raise LookupError(f"a picture needs two numbers, and {', '.join(numbers)} is one")

    def draw(table: pd.DataFrame, axes: Axes) -> None:
        for number, (method, rows) in enumerate(table.groupby("method", sort=True)):
            for filled, some in rows.groupby("unbeaten"):
                axes.plot(
                    some[numbers[0]], some[numbers[1]], MARKERS[number % len(MARKERS)],
                    color=COLOURS[number % len(COLOURS)], fillstyle="full" if filled else "none",
                    label=str(method) if filled or rows["unbeaten"].nunique() == 1 else None,
                )  # fmt: skip
        axes.set(xlabel=numbers[0].replace("_", " "), ylabel=numbers[1].replace("_", " "))
        axes.legend(frameon=False, fontsize=9, loc="best")

    return draw


def save(draw: Draw, table: pd.DataFrame, path: Path, height: float = 4.6) -> None:
    """The figure, 7 by `height` inches, as a file of the kind that its ending says. LookupError for one that
    matplotlib has not."""
    figure = _drawn(draw, table, 7.0, height)
    if path.suffix[1:].lower() not in figure.canvas.get_supported_filetypes():
        raise LookupError(f"{path}: a picture's file ends with .svg, .png or .pdf")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def picture(draw: Draw, table: pd.DataFrame, width: float) -> str:
    """The figure as a `data:` URI (SVG), `width` in inches."""
    stream = io.BytesIO()
    figure = _drawn(draw, table, width, width * 0.66)
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue()).decode()


def _drawn(draw: Draw, table: pd.DataFrame, width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=MUTED, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    draw(table, axes)
    return figure


def _shortened(value: str) -> str:
    """The beginning and the end of a long value, such as a path."""
    return value if len(value) <= LONG else f"{value[: LONG // 2 - 1]}…{value[-LONG // 2 :]}"


def _show_fractions(axes: Axes) -> None:
    """Intervals over few seeds may reach past 0 and 1, where no accuracy is: not shown there."""
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -0.02), min(high, 1.02))


def _interval(metric: str) -> tuple[str, str]:
    return f"{metric}_ci_low", f"{metric}_ci_high"


def _lengths(
    rows: pd.DataFrame, middle: str, low: str, high: str
) -> "tuple[pd.Series[float], pd.Series[float]]":
    """Below and above the middle; no bar where there is no interval."""
    below, above = rows[middle] - rows[low], rows[high] - rows[middle]
    return below.astype(float).fillna(0.0), above.astype(float).fillna(0.0)


def _are_numbers(values: "pd.Series[str]") -> bool:
    return bool(pd.to_numeric(values, errors="coerce").notna().all())


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue
