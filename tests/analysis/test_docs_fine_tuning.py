"""The tables of guided fine-tuning on the page of results, computed anew from the rows of each seed beside it."""

import re
from pathlib import Path

import pandas as pd
import pytest
from scipy.stats import ttest_1samp

PAGE = Path("docs/results/guided_fine_tuning.md").read_text()
WORST, MASS = "worst_group_accuracy", "object_relevance_mass"
STANDARD = {
    "learning_rate": "0.0001", "classification": "self_label", "region_norm": "false", "masks": "object",
    "segmenter.name": "felzenszwalb",
}  # fmt: skip
OBJECTS = {"method": "cft", **STANDARD}
PARTS = OBJECTS | {"masks": "concepts", "segmenter.name": "ground_truth"}
CONCEPTS = OBJECTS | {"masks": "concepts"}
DETECTED = CONCEPTS | {"segmenter.name": "grounded_sam"}
RANDOM = OBJECTS | {"masks": "random"}
INVERTED, WHOLE = OBJECTS | {"masks": "inverted"}, OBJECTS | {"masks": "whole_image"}
REGION = {"region_norm": "true"}
ROBUST = {"method": "robust_vit", "learning_rate": "0.0001"}
RRR, GRAD_MASK = {"method": "rrr", "lambda_nc": "0.001"}, {"method": "grad_mask", "lambda_nc": "100"}
PLAIN = {"method": "fine_tuning", "learning_rate": "0.0001"}
ROWS = {
    "`cft`, objects": (OBJECTS, RANDOM),
    "`cft`, true parts as concepts": (PARTS, RANDOM),
    "`cft`, concepts (superpixels, CLIP)": (CONCEPTS, RANDOM),
    "`cft`, concepts (CLIP, GroundingDINO, SAM)": (DETECTED, RANDOM | {"segmenter.name": "grounded_sam"}),
    "`cft`, random boxes": (RANDOM, None),
    "`cft`, inverted": (INVERTED, RANDOM),
    "`cft`, the whole image": (WHOLE, RANDOM),
    "`robust_vit`, objects": (ROBUST, RANDOM),
    "`rrr`, objects, `lambda_nc: 0.001`": (RRR, RANDOM),
    "`grad_mask`, objects, `lambda_nc: 100`": (GRAD_MASK, RANDOM),
    "`fine_tuning`": (PLAIN, RANDOM),
    "loss per region: `cft`, objects": (OBJECTS | REGION, RANDOM | REGION),
    "loss per region: `cft`, concepts": (CONCEPTS | REGION, RANDOM | REGION),
    "loss per region: `cft`, random boxes": (RANDOM | REGION, None),
}
CONTROLS = [RANDOM, INVERTED, WHOLE, PLAIN, ROBUST, RRR, GRAD_MASK]


def rows_of(experiment: str) -> pd.DataFrame:
    """A row for each trial, with its knobs as columns."""
    table = pd.read_csv(f"docs/results/{experiment}.csv", dtype={"knobs": str})
    knobs = [dict(knob.split("=", 1) for knob in text.split()) for text in table["knobs"].fillna("")]
    return pd.concat([table.drop(columns="knobs"), pd.DataFrame(knobs)], axis=1)


@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    return rows_of("cft_toybirds")


@pytest.fixture(scope="module")
def ablated() -> pd.DataFrame:
    return rows_of("cft_ablation_toybirds")


def of(runs: pd.DataFrame, wanted: dict[str, str], column: str) -> pd.Series:
    """By seed."""
    rows = runs[(runs[list(wanted)] == list(wanted.values())).all(axis=1)]
    assert len(rows) == 5, wanted
    return rows.set_index("seed")[column].sort_index()


def gained(gains: pd.Series) -> str:
    low, high = ttest_1samp(gains, 0).confidence_interval()
    return f"{gains.mean():+.3f} [{low:.3f}, {high:.3f}]".replace("-0.000", "0.000")


def table_after(text: str) -> list[list[str]]:
    """The cells of the first table after the text, without its header."""
    lines = PAGE[PAGE.index(text) :].splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("| --- "))
    body = lines[first + 1 : lines.index("", first)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in body]


def test_worst_groups_and_where_the_networks_look(runs: pd.DataFrame) -> None:
    (_, worst, *_), *rows = table_after("| | worst group | to the start")
    assert worst == f"{of(runs, OBJECTS, f'start_{WORST}').mean():.3f}"
    assert [label for label, *_ in rows] == list(ROWS)
    for label, *cells in rows:
        wanted, random = ROWS[label]
        for (value, to_start, to_random), column in zip((cells[:3], cells[3:]), (WORST, MASS), strict=True):
            own = of(runs, wanted, column)
            assert value == f"{own.mean():.3f}", label
            assert to_start == gained(own - of(runs, wanted, f"start_{column}")), label
            assert to_random == ("" if random is None else gained(own - of(runs, random, column))), label


def test_no_control_is_worse_than_masks_of_concepts(runs: pd.DataFrame) -> None:
    rows = table_after("| `cft`, masks of …")
    assert len(rows) == 3
    for (_, *cells), wanted in zip(rows, (OBJECTS, PARTS, CONCEPTS), strict=True):
        own = of(runs, wanted, WORST)
        others = [of(runs, wanted, f"start_{WORST}"), *(of(runs, control, WORST) for control in CONTROLS)]
        assert cells == [gained(own - other) for other in others]


def test_the_page_names_the_file() -> None:
    assert re.search(r"\]\(cft_toybirds\.csv\)", PAGE)


WORDS = {
    "ground truth": "ground_truth", "KL to the start": "kl_to_original", "second order": "gae_second_order",
    "AttnLRP": "attnlrp_explicit", "its CP variant": "attnlrp_cp", "rollout": "rollout", "GradCAM": "grad_cam",
    "1e-5": "1e-05", "3e-5": "3e-05", "3e-4": "0.0003",
}  # fmt: skip
DEFAULTS = {
    "lambda_nc": "1.2", "lambda_concept": "0.5", "lambda_cls": "0.2", "lambda_align": "0.8", "masks": "concepts",
    "classification": "self_label", "relevance.name": "gae", "images_per_class": "20", "dilation": "0",
    "learning_rate": "0.0001", "loss_resolution": "image", "region_norm": "false",
}  # fmt: skip


def test_knobs(ablated: pd.DataFrame) -> None:
    rows = table_after("| knob | values: worst group / gain |")
    assert len(rows) == 12
    for label, cell in rows:
        knob = re.match(r"`(\w+)`", label)
        name = "" if knob is None else "relevance.name" if knob[1] == "relevance" else knob[1]
        for one in re.sub(r" \(each.*?\)", "", cell).split("; "):
            value, _, numbers = one.rpartition(": ")
            worst, gain = numbers.split(" / ")
            wanted = DEFAULTS if knob is None else DEFAULTS | {name: WORDS.get(value, value)}
            assert worst == f"{of(ablated, wanted, WORST).mean():.3f}", one
            gains = of(ablated, wanted, MASS) - of(ablated, wanted, f"start_{MASS}")
            assert gain in (gained(gains), gained(gains).partition(" ")[0]), one
