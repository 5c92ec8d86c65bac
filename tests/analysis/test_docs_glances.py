"""Tables of the quick experiments on the pages of results, from the rows of each trial beside them."""

import re
from pathlib import Path

import pandas as pd
import pytest

FOLDER = Path("docs/results")
ACCURACIES = ("worst_group_accuracy", "average_accuracy", "adjusted_average_accuracy")
MAPS = ("insertion_auc_eac_official", "deletion_auc_eac_official", "object_pointing_accuracy")
OTHER_WORDS = {"detected concepts": ["segmenter.name=grounded_sam"], "(pre-trained)": []}
SHOWN = {
    "everything_quick": ("everything.md", "method                configuration", ACCURACIES),
    "cft_quick": (
        "guided_fine_tuning.md",
        "object_relevance_mass  n",
        (*ACCURACIES[:2], "object_relevance_mass"),
    ),
    "segmil_quick": ("seg_mil.md", "head=v2 segmenter.name=ground_truth", ACCURACIES),
    "salf_quick": ("concept_bottlenecks.md", "residual=true", ACCURACIES),
}


def rows_of(experiment: str) -> pd.DataFrame:
    return pd.read_csv(FOLDER / f"{experiment}.csv", dtype={"knobs": str}).fillna({"knobs": ""})


def shown(number: float) -> str:
    return "" if pd.isna(number) else f"{number:.3f}"


@pytest.mark.parametrize("experiment", SHOWN)
def test_a_leaderboard_has_the_numbers_of_its_trials(experiment: str) -> None:
    page, told, metrics = SHOWN[experiment]
    (block,) = (one for one in (FOLDER / page).read_text().split("```") if told in one)
    found = rows_of(experiment)
    left = set(found.index)
    for line in block.strip().splitlines()[1:]:
        _, methods, *cells = re.split(r"  +", line.strip().replace(", ", ","))
        if "," in methods:  # one line for methods that explain one network
            rows = found[found["method"].isin(methods.split(","))]
            assert {shown(value) for value in rows["average_accuracy"]} == {cells[0]}
            assert len(rows) == 9
        else:
            numbers = [cell for cell in cells if re.fullmatch(r"0\.\d{3}", cell)]
            words = " ".join(cell for cell in cells if "=" in cell or cell in OTHER_WORDS)
            for said, knobs in OTHER_WORDS.items():
                words = words.replace(said, " ".join(knobs))
            own = found[found["method"] == methods]
            rows = own[[all(knob in knobs.split() for knob in words.split()) for knobs in own["knobs"]]]
            printed = [[*filter(None, map(shown, row))] for row in rows[list(metrics)].to_numpy()]
            rows = rows[[one == numbers for one in printed]]
            assert len(rows) >= 1, line
        left -= set(rows.index)
    assert not left, "trials that the table does not show"


def test_the_table_of_explanations_has_the_numbers_of_its_trials() -> None:
    page = (FOLDER / "everything.md").read_text()
    head, _, *lines = page[page.index("| | `eac` |") :].split("\n\n")[0].splitlines()
    found = rows_of("everything_quick")
    kinds = {
        "`eac`": found["knobs"].str.contains("felzenszwalb"),
        "`eac`, SAM's masks": found["knobs"].str.contains("sam_automatic"),
        "`cft` maps": found["knobs"].str.contains("masks=concepts.*ground_truth"),
    }
    columns = [cell.strip() for cell in head.split("|")[2:-1]]
    assert len(lines) == len(MAPS)
    for metric, line in zip(MAPS, lines, strict=True):
        for column, cell in zip(columns, line.split("|")[2:-1], strict=True):
            method = re.search(r"`(\w+)`", column)
            assert method is not None
            rows = found[(found["method"] == method[1]) & kinds.get(column, True)]
            assert [shown(value) for value in rows[metric]] == [cell.strip()], (metric, column)


def test_the_table_of_concept_maps_has_the_numbers_of_its_trials() -> None:
    page = (FOLDER / "concept_bottlenecks.md").read_text()
    _, _, *lines = page[page.index("| | mean IoU | pointing |") :].split("\n\n")[0].splitlines()
    told = {
        label.strip(): [cell.strip() for cell in cells]
        for _, label, *cells, _ in (line.split("|") for line in lines)
    }
    found = rows_of("salf_quick").dropna(subset="mean_iou").set_index(["method", "knobs"])
    own = found[["mean_iou", "pointing_accuracy"]].map(shown)
    (chance,) = set(found["pointing_accuracy_chance"].map(shown))
    (random,), (empty,) = (set(found[f"mean_iou_{of}"].map(shown)) for of in ("random", "all_background"))
    assert told == {
        "SALF-CBM, `final_layer: sparse`": [*own.loc["salf_cbm", "final_layer=sparse"]],
        "SALF-CBM, `final_layer: dense`": [*own.loc["salf_cbm", "final_layer=dense"]],
        "LF-CBM": [*own.loc["lf_cbm", ""]],
        "a random map, a place at random": [random, chance],
        "a map that finds nothing": [empty, ""],
    }
