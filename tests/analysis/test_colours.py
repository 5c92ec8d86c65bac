"""Colours of plots and of the page, by published models of what eyes tell apart."""

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from skimage.color import deltaE_ciede2000, rgb2lab

from analysis import figures

# Machado, Oliveira, Fernandes (2009), "A physiologically-based model for simulation of color vision deficiency",
# matrices of severity 1.0 for linear RGB
SEEN = {
    "all": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def linear(colour: str) -> "np.ndarray":
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def seen(colour: str, matrix: "np.ndarray") -> "np.ndarray":
    """CIE Lab."""
    light = np.clip(np.asarray(matrix) @ linear(colour), 0, 1)
    gamma = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return rgb2lab(gamma)


@pytest.mark.parametrize("eyes", SEEN)
def test_colours_of_methods_differ_for_every_colour_vision(eyes: str) -> None:
    """A just noticeable difference is about 1; points of a plot are small and apart."""
    labs = [seen(colour, SEEN[eyes]) for colour in figures.COLOURS]
    assert min(float(deltaE_ciede2000(a, b)) for a, b in combinations(labs, 2)) > 8


def test_no_two_of_many_methods_are_drawn_alike() -> None:
    numbers = ("average_accuracy", "worst_group_accuracy")
    unknown = {f"{name}_ci_{end}": None for name in numbers for end in ("low", "high")}
    table = pd.DataFrame(
        [{"method": f"m{i:02}", **dict.fromkeys(numbers, 0.5), **unknown} for i in range(50)]
    )
    axes = Figure().add_subplot()
    figures.worst_group_against_average(table, axes)
    points = [line for line in axes.get_lines() if line.get_marker() in figures.MARKERS]
    assert len(points) == len({(line.get_color(), line.get_marker()) for line in points}) == 50


def test_texts_of_the_page_have_the_contrast_that_wcag_asks_for() -> None:
    """4.5 to 1 on every ground that the page has."""
    css = (Path(figures.__file__).parent / "page" / "report.css").read_text()
    named = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", css))
    grounds = {*re.findall(r"background: (#[0-9a-f]{6})", css), named["soft"], "#ffffff"}
    assert len(grounds) >= 4
    for text in ("ink", "muted", "amber"):
        for ground in grounds:
            high, low = sorted((luminance(named[text]), luminance(ground)), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)


def luminance(colour: str) -> float:
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])
