"""Tables of the pages of results, computed anew from the rows of each seed beside them."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from scipy.stats import ttest_1samp

PAGE = Path("docs/results/seg_mil.md").read_text()
SECTION = PAGE[PAGE.index("## What makes a bag robust") : PAGE.index("## Variants, five seeds")]
RUN = ["data_seed", "seed"]
STANDARD = {
    "method": "seg_mil_cbm", "bag_size": "15", "rho_max": "0.6", "head": "v2", "pooling": "attention",
    "target": "zscore", "lambda_concept": "2", "lambda_background": "0", "attention_temperature": "1",
    "segment_dropout": "0", "area_exponent": "0.25", "box_threshold": "0.5", "vocabulary": "concepts",
    "clip.checkpoint": "datasets/toybirds/clip",
}  # fmt: skip
TRUE = {"segmenter.name": "ground_truth"}
PARTS = {"segmenter.name": "grounded_sam"}
DETECTED = {**PARTS, "vocabulary": "concepts_and_bird"}
WITH = {"rho_max": "0.9"}
ERM = {"method": "standard"}
SEEN = {
    "the crop of the true bird, no bag": {"method": "region_probe", "segmenter.name": "object_mask"},
    "the crop of the detected bird, no bag": {"method": "region_probe", **PARTS},
    "bag of 15, true segments, without background": STANDARD | TRUE,
    "`last_layer_retraining`": {"method": "last_layer_retraining"},
    "bag of 15, detected parts and bird, without background": STANDARD | DETECTED,
    "bag of 15, detected parts and bird, with background, `lambda_background: 1`": STANDARD
    | DETECTED | WITH | {"lambda_background": "1"},
    "bag of 15, true parts alone": STANDARD | TRUE | {"rho_max": "0.12"},
    "bag of 15, detected parts, without background": STANDARD | PARTS,
    "bag of 15, detected parts and bird, with background": STANDARD | DETECTED | WITH,
    "bag of 15, true segments, with background": STANDARD | TRUE | WITH,
    "the whole image as the one segment": STANDARD | {"segmenter.name": "whole_image", "rho_max": "1"},
    "the whole image": ERM,
    "bag of 15, superpixels": STANDARD | WITH | {"segmenter.name": "felzenszwalb"},
    "bag of 15, detected parts, with background": STANDARD | PARTS | WITH,
}  # fmt: skip


def rows_of(experiment: str) -> pd.DataFrame:
    """The experiment's rows, with knobs as columns."""
    table = pd.read_csv(f"docs/results/{experiment}.csv", dtype={"knobs": str})
    knobs = [dict(knob.split("=", 1) for knob in text.split()) for text in table["knobs"].fillna("")]
    return pd.concat([table.drop(columns="knobs"), pd.DataFrame(knobs)], axis=1)


@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    return rows_of("segmil_toybirds")


def chosen(runs: pd.DataFrame, wanted: dict[str, str], column: str = "worst_group_accuracy") -> pd.Series:
    """By drawing and seed: one configuration's numbers, of 15 runs."""
    rows = runs[(runs[list(wanted)] == list(wanted.values())).all(axis=1)]
    assert len(rows) == 15, wanted
    return rows.set_index(RUN)[column].sort_index()


def with_interval(values: pd.Series, sign: str = "") -> str:
    low, high = ttest_1samp(values, 0).confidence_interval()
    return f"{values.mean():{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def on_log_odds(values: pd.Series) -> str:
    """The mean and Student's interval of it, by the delta method on the scale of log odds."""
    mean = values.mean()
    low, high = ttest_1samp(values, mean).confidence_interval() - mean
    low, high = expit(logit(mean) + np.array([low, high]) / (mean * (1 - mean)))
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def table_after(text: str, section: str = SECTION) -> list[list[str]]:
    """The cells of the first table after the text, without its header."""
    lines = section[section.index(text) :].splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("| --- "))
    rows = []
    for line in lines[first + 1 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_what_is_seen(runs: pd.DataFrame) -> None:
    rows = table_after("| what is seen")
    told = {re.sub(r" \(.*\)$", "", label): cells for label, *cells in rows}
    assert told.keys() == SEEN.keys()
    for label, (worst, by_drawing, to_erm, average, attention) in told.items():
        own = chosen(runs, SEEN[label])
        assert worst == with_interval(own), label
        assert by_drawing == " / ".join(f"{x:.3f}" for x in own.groupby("data_seed").mean()), label
        assert to_erm == ("" if SEEN[label] == ERM else with_interval(own - chosen(runs, ERM), "+")), label
        assert average == f"{chosen(runs, SEEN[label], 'average_accuracy').mean():.3f}", label
        if attention:
            names = ("attention_on_object", "attention_on_object_by_area")
            of_bird, of_area = (f"{chosen(runs, SEEN[label], name).mean():.3f}" for name in names)
            assert attention == f"{of_bird} ({of_area})", label


def test_bag_sizes(runs: pd.DataFrame) -> None:
    of = {"true": TRUE, "detected, parts and bird": DETECTED}
    rho = {"out": {}, "in": WITH}
    rows = table_after("| segments | background")
    assert len(rows) == 4
    for segments, background, *cells in rows:
        for size, cell in zip((4, 6, 8, 15), cells, strict=True):
            wanted = STANDARD | of[segments] | rho[background] | {"bag_size": str(size)}
            assert cell == with_interval(chosen(runs, wanted)), (segments, background, size)


def test_knobs_at_bags_of_15(runs: pd.DataFrame) -> None:
    named = {"head v2": {}, "head v1": {"head": "v1"}}
    columns = (TRUE, TRUE | WITH, DETECTED, DETECTED | WITH)
    rows = table_after("| at bags of 15")
    assert len(rows) == 14
    for label, *cells in rows:
        knob = re.search(r"`(\w+): (\S+)`", label)
        changed = named[label] if knob is None else {knob[1]: knob[2]}
        for segments, cell in zip(columns, cells, strict=True):
            if cell:
                assert cell == with_interval(chosen(runs, STANDARD | segments | changed)), label


def test_concepts_by_weight(runs: pd.DataFrame) -> None:
    rows = {label: cells for label, *cells in table_after("| `lambda_concept` |")}
    for place, weight in enumerate(("0", "0.5", "2", "20")):
        wanted = STANDARD | TRUE | {"lambda_concept": weight}
        assert rows["`concept_auc`"][place] == with_interval(chosen(runs, wanted, "concept_auc"))
        assert rows["worst group"][place] == with_interval(chosen(runs, wanted))


def test_thresholds() -> None:
    rows = rows_of("segmil_sensitivity")
    assert len(rows) == 90
    (block,) = (one for one in PAGE.split("```") if "seg_mil_cbm  tau_min_pixels" in one)
    told = [re.split(r"  +", line.strip()) for line in block.strip().splitlines()[2:]]
    p_values, gains = {}, {}
    for _, _, knob, value, mean, *cells in told:
        means = rows.groupby(["seed", knob])["worst_group_accuracy"].mean().unstack()
        first = min(means, key=float)
        assert mean == on_log_odds(means[value]), (knob, value)
        if value == first:
            assert cells == [first, "2"]
        else:
            test = ttest_1samp(means[value] - means[first], 0)
            low, high = test.confidence_interval()
            p_values[knob, value] = test.pvalue
            gains[knob, value] = (
                f"{(means[value] - means[first]).mean():+.3f} [{low:+.3f}, {high:+.3f}]",
                first,
            )
    ordered = sorted(p_values, key=lambda one: p_values[one])
    holm = np.maximum.accumulate([(8 - i) * p_values[one] for i, one in enumerate(ordered)]).clip(max=1)
    printed = {(knob, value): cells for _, _, knob, value, _, *cells in told}
    assert len(printed) == 11
    assert len(gains) == 8
    for one, corrected in zip(ordered, holm, strict=True):
        assert printed[one] == [*gains[one], f"{corrected:.3f}", "2"], one


def test_corrupted_images() -> None:
    rows = rows_of("segmil_toybirds_c")
    rows["severity"] = rows["group_name"].str[-1]
    one_trial = ["method", "head", "segmenter.name"]
    assert (rows.groupby([*one_trial, "seed", "severity"], dropna=False).size() == 14).all()
    by_seed = rows.fillna("").groupby([*one_trial, "seed", "severity"])["group_accuracy"].mean().unstack()
    segments = {"true segments": "ground_truth", "superpixels": "felzenszwalb"}
    erm = by_seed.loc["standard", "", ""]
    found = table_after("| | 1 | 2 | 3 |", PAGE[PAGE.index("## Corrupted images") :])
    assert len(found) == 5
    for label, *cells in found:
        bag = re.fullmatch(r"`seg_mil_cbm` (v\d), (.*)", label)
        own = erm if bag is None else by_seed.loc["seg_mil_cbm", bag[1], segments[bag[2]]]
        assert (label == "`standard`") == (bag is None)
        assert cells == [
            *(f"{own[severity].mean():.3f}" for severity in "12345"),
            on_log_odds(own.mean(axis=1)),
            "" if bag is None else with_interval(own.mean(axis=1) - erm.mean(axis=1), "+"),
            with_interval(own["5"] - own["1"], "+"),
        ], label
