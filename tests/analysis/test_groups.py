"""Groups beside a baseline, against SciPy, and what their number of images adds, against statsmodels."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp
from statsmodels.stats.proportion import proportion_confint
from typer.testing import CliRunner

from analysis.cli import app
from analysis.compare import Wanted
from analysis.groups import groups
from grid.results.store import ResultsStore
from tests.analysis.test_knobs import SEEDS, fill
from tests.grid.results.fraction_interval import fraction_interval

WANTED = Wanted("e", "group_accuracy")
GROUPS = ("on land", "on water")


@pytest.fixture
def empty(tmp_path: Path) -> ResultsStore:
    return ResultsStore.open(f"sqlite:///{tmp_path}/results.db")


def enter(store: ResultsStore) -> dict[tuple[str, str], np.ndarray]:
    """Accuracies by method and group, one for each seed."""
    random = np.random.default_rng(1)
    scores = {
        (method, group): random.uniform(size=len(SEEDS))
        for method in ("standard", "other")
        for group in GROUPS
    }
    fill(
        store,
        [
            {
                "method": method, "seed": seed, "config": {"k": 1},
                "metrics": {("group_accuracy", group): scores[method, group][seed] for group in GROUPS},
            }
            for method in ("standard", "other") for seed in SEEDS
        ],
    )  # fmt: skip
    return scores


def test_groups_are_paired_with_the_baseline_by_seed(empty: ResultsStore) -> None:
    scores = enter(empty)
    table = groups(empty, WANTED)
    assert len(table) == 4
    for row in table.to_dict("records"):
        own, base = (scores[method, row["group_name"]] for method in (row["method"], "standard"))
        assert row["mean"] == pytest.approx(own.mean())
        assert (row["ci_low"], row["ci_high"]) == pytest.approx(fraction_interval(own))
        if row["method"] == "standard":
            assert pd.isna(row["difference"])
        else:
            interval = ttest_1samp(own - base, 0).confidence_interval()
            assert row["difference"] == pytest.approx((own - base).mean())
            assert (row["difference_ci_low"], row["difference_ci_high"]) == pytest.approx(tuple(interval))
    with pytest.raises(LookupError, match="no configuration 'missing'"):
        groups(empty, WANTED, baseline="missing")


def test_what_a_groups_number_of_images_leaves_open_does_not_shrink_with_seeds(empty: ResultsStore) -> None:
    scores = enter(empty)
    assert groups(empty, WANTED)["images"].isna().all(), "no launch said how many"
    sizes = {"on land": 50, "on water": 400}
    plan = {"group_sizes": {"birds": {"test": sizes, "val": {"on land": 7}}}}
    empty.begin_launch("e", spec="", plan=plan, command="")
    for row in groups(empty, WANTED).to_dict("records"):
        images = sizes[row["group_name"]]
        right = scores[row["method"], row["group_name"]].mean() * images
        expected = proportion_confint(right, images, method="wilson")
        assert (row["images"], row["images_ci_low"], row["images_ci_high"]) == (
            images,
            *map(pytest.approx, expected),
        )


def test_the_command_chooses_by_the_same_options_as_others(empty: ResultsStore) -> None:
    enter(empty)
    plan = {"group_sizes": {"birds": {"test": {"on land": 50}}}}
    empty.begin_launch("e", spec="", plan=plan, command="")

    def asked(*options: str) -> list[dict[str, object]]:
        done = CliRunner().invoke(app, ["groups", "e", *options, "--json", "--results", empty.url])
        assert done.exit_code == 0, done.output
        return list(json.loads(done.stdout))

    assert {row["method"] for row in asked("--method", "other", "--dataset", "birds")} == {"other"}
    assert [row["images"] for row in asked("--method", "other")] == [50, None]
    shown = CliRunner().invoke(app, ["groups", "e", "--results", empty.url]).stdout
    assert "of images" in shown
    assert (
        CliRunner().invoke(app, ["groups", "e", "--dataset", "none", "--results", empty.url]).exit_code == 2
    )
