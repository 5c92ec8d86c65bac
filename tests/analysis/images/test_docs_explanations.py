"""The tables of explanations of toybirds on the pages, computed anew from the rows of each trial and image."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap

PAGE = Path("docs/results/explanations.md").read_text()
FINDINGS = Path("docs/findings.md").read_text()
COUNT = ("insertion_auc_eac_official", "deletion_auc_eac_official")
AREA = ("insertion_auc_eac_repro", "deletion_auc_eac_repro")
SUPERPIXELS, AUTOMATIC, PHRASES = (
    f"segmenter.name={name}" for name in ("felzenszwalb", "sam_automatic", "phrase_sam")
)
BANZHAF, BLACK = f"fill=mean {SUPERPIXELS} value=banzhaf", f"fill=black {SUPERPIXELS} value=banzhaf"
METHODS = {
    "`eac`, Banzhaf": ("eac", BANZHAF),
    "`eac`, Shapley": ("eac", f"fill=mean {SUPERPIXELS} value=shapley"),
    "`eac`, Banzhaf, hidden is black": ("eac", BLACK),
    "`lime`": ("lime", SUPERPIXELS),
    "`integrated_gradients`": ("integrated_gradients", ""),
    "`lrp`": ("lrp", ""),
    "`gradcam`": ("gradcam", SUPERPIXELS),
    "`gradcam_plus_plus`": ("gradcam_plus_plus", ""),
    "`score_cam`": ("score_cam", ""),
    "`full_grad`": ("full_grad", ""),
}
MASKS = {
    "`eac`, superpixels": ("eac", BANZHAF),
    "`eac`, SAM's automatic masks": ("eac", f"fill=mean {AUTOMATIC} value=banzhaf"),
    "`eac`, SAM's masks of detected phrases": ("eac", f"fill=mean {PHRASES} value=banzhaf"),
    "`gradcam`, SAM's automatic masks": ("gradcam", AUTOMATIC),
    "`lime`, SAM's automatic masks": ("lime", AUTOMATIC),
}


def rows_of(name: str) -> pd.DataFrame:
    rows = pd.read_csv(f"docs/results/{name}.csv", dtype={"knobs": str}).fillna({"knobs": ""})
    return rows.set_index(["method", "knobs"]).sort_index()


@pytest.fixture(scope="module")
def trials() -> pd.DataFrame:
    return rows_of("eac_quick")


@pytest.fixture(scope="module")
def images() -> pd.DataFrame:
    return rows_of("eac_quick_images")


def table(page: str, text: str) -> list[list[str]]:
    """The cells of the first table after the text, without its header."""
    lines = page[page.index(text) :].splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("| --- "))
    body = lines[first + 1 : lines.index("", first)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in body]


def over_images(values: pd.Series, sign: str = "") -> str:
    (low, high) = bootstrap(
        (values.to_numpy(),), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return f"{values.mean():{sign}.3f} [{low:.3f}, {high:.3f}]"


def test_every_trial_is_the_mean_of_its_images(trials: pd.DataFrame, images: pd.DataFrame) -> None:
    means = images.groupby(level=[0, 1])
    assert (means.size() == 60).all()
    pd.testing.assert_frame_equal(means[[*COUNT]].mean(), trials[[*COUNT]], atol=2e-6)


def test_methods_on_superpixels(trials: pd.DataFrame, images: pd.DataFrame) -> None:
    *rows, random, by_area = table(PAGE, "| method | insertion, count | deletion, count |")
    assert [label for label, *_ in rows] == list(METHODS)
    for label, *cells in rows:
        own = trials.loc[METHODS[label]]
        assert cells == [
            *(over_images(images.loc[METHODS[label], name]) for name in COUNT),
            *(f"{own[name]:.3f}" for name in AREA),
            f"{own['insertion_auc_rise']:.3f} / {own['deletion_auc_rise']:.3f}",
            f"{own['top_mask_coverage']:.3f}",
            f"{own['object_pointing_accuracy']:.2f}",
        ], label
    mean, black = trials.loc["eac", BANZHAF], trials.loc["eac", BLACK]
    for (_, *cells), order in ((random, "random"), (by_area, "area")):
        names = [f"{name}_{order}_order" for name in (*COUNT, *AREA)]
        assert cells[:4] == [f"{mean[name]:.3f} ({black[name]:.3f})" for name in names], order
    assert random[6] == f"{mean['top_mask_coverage_random_order']:.3f}"


def test_masks_of_sam(trials: pd.DataFrame) -> None:
    rows = table(PAGE, "| method, masks | masks an image |")
    assert [label for label, *_ in rows] == list(MASKS)
    for label, *cells in rows:
        own = trials.loc[MASKS[label]]
        orders = {name: (own[f"{name}_random_order"], own[f"{name}_area_order"]) for name in (*COUNT, *AREA)}
        first = (own["top_mask_coverage"], own["top_mask_coverage_random_order"])
        assert cells == [
            f"{own['n_masks']:.0f}",
            *(f"{own[name]:.3f} ({random:.3f}; {area:.3f})" for name, (random, area) in orders.items()),
            "{:.3f} ({:.3f})".format(*first),
            f"{own['object_pointing_accuracy']:.2f}",
        ], label


def test_what_the_text_says_of_chance(trials: pd.DataFrame) -> None:
    told = re.search(r"a random one:\s(\S+)\); `pointing`\s.*\(random:\s(\S+)\)", PAGE)
    assert told is not None
    own = trials.loc["eac", BANZHAF]
    names = ("top_mask_coverage_random_order", "object_relevance_mass_chance")
    assert [*told.groups()] == [f"{own[names[0]]:.3f}", f"{own[names[1]]:.2f}"]


def test_what_hides_pixels(trials: pd.DataFrame, images: pd.DataFrame) -> None:
    section = FINDINGS[FINDINGS.index("## EAC: what hides pixels decides what is found") :]
    rows = [row for row in table(section, "| masks | hidden pixels |") if "felzenszwalb" in row[0]]
    two: Callable[[str, str], str] = "{:.2f} / {:.2f}".format
    for (_, colour, *cells), knobs in zip(rows, (BLACK, BANZHAF), strict=True):
        own = trials.loc["eac", knobs]
        assert colour.startswith("black" if knobs == BLACK else "mean colour")
        assert cells == [
            f"{own['top_mask_coverage']:.2f}",
            f"{own['top_mask_coverage_random_order']:.2f}",
            two(*own[[*COUNT]]),
            two(*own[[f"{name}_random_order" for name in COUNT]]),
        ]
    black, mean = (images.loc[[("eac", knobs)]].set_index("image") for knobs in (BLACK, BANZHAF))
    for name in COUNT:
        assert over_images(black[name] - mean[name], "+") in section, name
    assert f"{round(60 * own['average_accuracy'])} of the 60" in section


def test_axes_where_masks_are_small(trials: pd.DataFrame) -> None:
    own = trials.loc["eac", BANZHAF]
    told = re.search(r"\(`eac_quick`\) insertion is (\S+) and (\S+), deletion (\S+) and (\d\.\d+)", FINDINGS)
    assert told is not None
    assert [*told.groups()] == [f"{own[name]:.3f}" for name in (COUNT[0], AREA[0], COUNT[1], AREA[1])]
