"""The report: one file, nothing from outside, and everything that it should say."""

import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats
from scipy.special import expit, logit

from analysis import figures
from analysis.page.report import write_report
from grid.results.store import ResultsStore, TrialEntry

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Tables by their first class, their rows, texts, headings, all addresses, and what images say to those who
    do not see them; fails on tags that do not match."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tables: list[str] = []
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.headings: list[str] = []
        self.alternatives: list[str] = []
        self.rows: dict[str, list[list[list[str]]]] = {}  # by table: rows of cells of texts
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.addresses += [given[name] for name in ("src", "href") if name in given]
        if tag == "table":
            self.tables.append(given["class"].split()[0])
            self.rows.setdefault(self.tables[-1], [])
        if tag == "tr":
            self.rows[self.tables[-1]].append([])
        if tag in ("td", "th"):
            self.rows[self.tables[-1]][-1].append([])
        if tag == "img":
            self.alternatives.append(given["alt"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            return
        self.texts.append(data)
        if {"td", "th"} & set(self.open) and data.strip():
            self.rows[self.tables[-1]][-1][-1].append(data.strip())
        if self.open and self.open[-1] in ("h2", "h3"):
            self.headings.append(data)


def recorded(
    store: ResultsStore, experiment: str, launch: int, method: str, seed: int, config: dict[str, Any],
    metrics: list[dict[str, Any]], warnings: Sequence[str] = (),
) -> None:  # fmt: skip
    """A trial that is done, with these numbers."""
    id = f"{method}{json.dumps(config)}{seed}"
    trial = TrialEntry(
        id=id, method=method, method_version=1, dataset="d", data_fingerprint="f", seed=seed, config=config
    )
    store.enter(experiment, [trial])
    done = {"attempt": store.claim(id, launch), "metrics": metrics, "n_failed": 0, "warnings": warnings}
    assert store.finish(id, {**done, "on_failed": "wrong", "seconds": 1.0, "provenance": {}})


def test_the_report_of_a_small_store(store: ResultsStore, tmp_path: Path) -> None:
    path = tmp_path / "reports" / "small.html"
    write_report(store, "small", path)
    source = path.read_text()
    page = Page(source)
    said = " ".join(page.texts)
    assert page.tables == ["leaderboard", "ablations", "stages", "launches"], "no group is in the store"
    assert page.headings == [
        "toybirds",
        "Leaderboard",
        "Ablations",
        "Worst group against average",
        "Failures and warnings",
        "What the models look at",
        "Stages",
        "Provenance",
    ], "answers come first"
    assert said.index("Does <k_top> matter?") < said.index("Best on validation") < said.index("Leaderboard")
    assert said.index("RuntimeError: out of <memory>") > said.index("Failures and warnings")
    assert said.index("abcdef") > said.index("Provenance"), "the commit"
    assert all(page.alternatives)
    assert "worst-group accuracy from 0.420 to 0.720 against" in page.alternatives[1]
    assert "0.620 at 5 to 0.720 at 10" in page.alternatives[0]
    assert {address.partition(";")[0] for address in page.addresses} == (
        {"data:image/svg+xml", "data:image/png"}
    )
    assert re.findall(r"https?://|url\(", source) == []
    for expected in (
        "Does <k_top> matter?",
        "Drawn birds & textures: not comparable with Waterbirds.",
        "RuntimeError: out of <memory>",
        "k_top=10",
        "0.720",
        "+0.100",
        "[0.569, 0.668]",
        "failed images dropped",
        "image 7: a crest",
    ):
        assert expected in said


def test_the_report_begins_with_what_the_numbers_say(store: ResultsStore, tmp_path: Path) -> None:
    write_report(store, "small", tmp_path / "small.html")
    said = " ".join(Page((tmp_path / "small.html").read_text()).texts)
    told = (
        "Best on validation by worst group accuracy: salf_cbm (k_top=10). On the test split it has 0.720, "
        "+0.300 [+0.300, +0.300] to standard (0.420), paired over 3 seeds."
    )
    assert told in said
    assert said.index(told) < said.index("done")


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ({"standard": [0.5, 0.6], "m": [0.5, 0.7]}, "The interval holds zero: no difference is shown."),
        ({"standard": [0.5], "m": [0.7]}, "one seed does not say how sure this is."),
        ({"standard": [0.9, 0.8], "m": [0.5, 0.7]}, "and is the baseline itself."),
        ({"m": [0.5, 0.7]}, "there is no standard to compare it with."),
    ],
)
def test_what_the_numbers_do_not_say_is_said(
    scores: dict[str, list[float]], told: str, tmp_path: Path
) -> None:
    store = ResultsStore.open(f"sqlite:///{tmp_path}/results.db")
    launch = store.begin_launch("e", spec="", plan={}, command="")
    for method, values in scores.items():
        for seed, value in enumerate(values):
            trial = TrialEntry(
                id=f"{method}{seed}", method=method, method_version=1, dataset="d", data_fingerprint="f",
                seed=seed, config={"k": method},
            )  # fmt: skip
            store.enter("e", [trial])
            metrics = [
                {"name": "worst_group_accuracy", "value": value, "split": split} for split in ("val", "test")
            ]
            done = {"attempt": store.claim(trial.id, launch), "metrics": metrics, "n_failed": 0}
            store.finish(trial.id, {**done, "on_failed": "wrong", "seconds": 1.0, "provenance": {}})
    write_report(store, "e", tmp_path / "e.html")
    assert told in " ".join(Page((tmp_path / "e.html").read_text()).texts)


def test_the_choice_is_made_on_validation(tmp_path: Path) -> None:
    store = ResultsStore.open(f"sqlite:///{tmp_path}/results.db")
    launch = store.begin_launch("e", spec="", plan={}, command="")
    for k, (val, test) in {"lucky": (0.5, 0.9), "chosen": (0.6, 0.7)}.items():
        trial = TrialEntry(
            id=k, method="m", method_version=1, dataset="d", data_fingerprint="f", seed=0, config={"k": k}
        )
        store.enter("e", [trial])
        numbers = (("val", val), ("test", test))
        metrics = [{"name": "worst_group_accuracy", "value": v, "split": split} for split, v in numbers]
        done = {"attempt": store.claim(k, launch), "metrics": metrics, "n_failed": 0}
        store.finish(k, {**done, "on_failed": "wrong", "seconds": 1.0, "provenance": {}})
    write_report(store, "e", tmp_path / "e.html")
    said = " ".join(Page((tmp_path / "e.html").read_text()).texts)
    assert "m (k=chosen). On the test split it has 0.700" in said


def test_an_experiment_without_results_has_a_report_too(tmp_path: Path) -> None:
    store = ResultsStore.open(f"sqlite:///{tmp_path}/results.db")
    plan = {"notes": {"toybirds": "a note"}}
    store.begin_launch("empty", spec="- not a mapping", plan=plan, command="")
    write_report(store, "empty", tmp_path / "empty.html")
    page = Page((tmp_path / "empty.html").read_text())
    assert "No trial is done." in page.texts
    assert page.headings == ["toybirds", "Failures and warnings", "Provenance"]


def test_an_experiment_all_of_whose_trials_failed_has_a_report_too(tmp_path: Path) -> None:
    store = ResultsStore.open(f"sqlite:///{tmp_path}/results.db")
    launch = store.begin_launch("lost", spec="question: Does it run?", plan={}, command="run it")
    for seed in (0, 1):
        trial = TrialEntry(
            id=f"t{seed}", method="m", method_version=1, dataset="d", data_fingerprint="f", seed=seed,
            config={},
        )  # fmt: skip
        store.enter("lost", [trial])
        store.claim(trial.id, launch)
        store.fail(trial.id, f"boom {seed}")
    store.end_launch(launch, "failed")
    write_report(store, "lost", tmp_path / "lost.html")
    page = Page((tmp_path / "lost.html").read_text())
    said = " ".join(page.texts)
    for expected in ("2 failed trials", "boom 0", "boom 1", "2 of 2 seeds failed", "run it"):
        assert expected in said
    assert page.addresses == [], "no plot of nothing"


def test_a_warning_is_at_its_row_and_counted_before_the_tables(tmp_path: Path) -> None:
    store = ResultsStore.open(f"sqlite:///{tmp_path}/results.db")
    launch = store.begin_launch("e", spec="", plan={}, command="")
    numbers = [{"name": "worst_group_accuracy", "value": 0.5, "split": split} for split in ("val", "test")]
    recorded(store, "e", launch, "m", 0, {}, numbers, warnings=["the bags are empty"])
    write_report(store, "e", tmp_path / "e.html")
    source = (tmp_path / "e.html").read_text()
    said = " ".join(Page(source).texts)
    assert said.count("the bags are empty") == 2
    assert (
        said.index("with a warning") < said.index("Leaderboard") < said.index("WARNING: the bags are empty")
    )
    assert said.index("Failures and warnings") < said.index("WARNING of 1 trial: the bags are empty")
    assert source.count('href="#failures"') == source.count('id="failures"') == 1


def test_the_table_of_groups_is_what_pandas_finds_in_the_store(tmp_path: Path) -> None:
    """Of each method the configuration that validation chose, though another is better on the test split."""
    store = ResultsStore.open(f"sqlite:///{tmp_path}/results.db")
    launch = store.begin_launch("e", spec="", plan={}, command="")
    random = np.random.default_rng(0)
    scores = {}
    for method, k in (("standard", 1), ("m", 1), ("m", 2)):
        for seed in range(4):
            of = dict(zip(("land", "water"), random.uniform(0.3, 0.9, 2).tolist(), strict=True))
            scores[method, k, seed] = of
            chosen = {"val": 0.5 + 0.1 * k, "test": 0.9 - 0.1 * k}
            metrics: list[dict[str, Any]] = [
                {"name": "worst_group_accuracy", "value": value, "split": split}
                for split, value in chosen.items()
            ]
            metrics += [
                {"name": "group_accuracy", "value": value, "split": "test", "group": group}
                for group, value in of.items()
            ]
            recorded(store, "e", launch, method, seed, {"k": k}, metrics)
    write_report(store, "e", tmp_path / "e.html")
    head, *rows = Page((tmp_path / "e.html").read_text()).rows["groups"]
    assert head == [["method"], ["configuration"], ["land"], ["water"], ["n"]]
    assert [row[:2] + row[-1:] for row in rows] == [[["m"], ["k=2"], ["4"]], [["standard"], ["–"], ["4"]]]
    by_seed = pd.DataFrame(scores).T.sort_index()
    for column, group in enumerate(("land", "water"), start=2):
        ours, base = by_seed.loc[("m", 2), group], by_seed.loc[("standard", 1), group]
        assert rows[0][column] == of_mean(ours) + of_difference(ours - base)
        assert rows[1][column] == of_mean(base), "no difference to itself"


def in_words(mean: float, interval: Sequence[float], pattern: str = ".3f") -> list[str]:
    return [f"{mean:{pattern}}", f"[{interval[0]:{pattern}}, {interval[1]:{pattern}}]"]


def of_mean(values: "pd.Series[float]") -> list[str]:
    """Mean and 95 % interval on the scale of log odds, by SciPy."""
    mean, scale = values.mean(), stats.sem(values) / (values.mean() * (1 - values.mean()))
    return in_words(mean, expit(stats.t.interval(0.95, len(values) - 1, logit(mean), scale)))


def of_difference(values: "pd.Series[float]") -> list[str]:
    """Mean and Student's 95 % interval, by SciPy, where no difference of accuracies can leave -1 to 1."""
    interval = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    return in_words(values.mean(), np.clip(interval, -1, 1), "+.3f")


def test_of_many_groups_the_lowest_are_shown(tmp_path: Path) -> None:
    store = ResultsStore.open(f"sqlite:///{tmp_path}/results.db")
    launch = store.begin_launch("e", spec="", plan={}, command="")
    numbers = [{"name": "worst_group_accuracy", "value": 0.5, "split": split} for split in ("val", "test")]
    groups = [
        {"name": "group_accuracy", "value": 0.9 - place / 100, "split": "test", "group": f"g{place:02}"}
        for place in range(30)
    ]
    recorded(store, "e", launch, "m", 0, {}, numbers + groups)
    write_report(store, "e", tmp_path / "e.html")
    source = (tmp_path / "e.html").read_text()
    assert Page(source).rows["groups"][0][2:-1] == [[f"g{place}"] for place in range(22, 30)]
    assert "22 more groups, all higher" in source


def test_one_seed_has_no_interval_and_random_search_is_unpaired(tmp_path: Path) -> None:
    store = ResultsStore.open(f"sqlite:///{tmp_path}/results.db")
    launch = store.begin_launch("random", spec="", plan={}, command="")
    for number in range(40):
        knobs = {"a": number / 7, "b": number / 3}
        trial = TrialEntry(
            id=f"t{number}", method="m", method_version=1, dataset="d", data_fingerprint="f",
            seed=0, config=knobs,
        )  # fmt: skip
        store.enter("random", [trial])
        scores = {"worst_group_accuracy": 0.5, "average_accuracy": 0.6}
        metrics = [{"name": n, "value": v, "split": "test"} for n, v in scores.items()]
        done = {"attempt": store.claim(trial.id, launch), "metrics": metrics, "n_failed": 0}
        store.finish(trial.id, {**done, "on_failed": "wrong", "seconds": 1.0, "provenance": {}})
    write_report(store, "random", tmp_path / "random.html")
    page = Page((tmp_path / "random.html").read_text())
    said = " ".join(page.texts)
    assert said.count("unpaired") > 12
    assert "28 more values" in said
    assert not re.search(r"\[\d", said), "no interval"
    assert "groups" not in page.tables


@pytest.mark.parametrize("accuracy", [{"average_accuracy": 0.9}, {}])
def test_explanations_have_a_table_of_their_own_and_no_plot_of_groups(
    tmp_path: Path, accuracy: dict[str, float]
) -> None:
    """Of a network that is explained as it is, no accuracy is told."""
    store = ResultsStore.open(f"sqlite:///{tmp_path}/results.db")
    launch = store.begin_launch("why", spec="", plan={"notes": {"d": ""}}, command="")
    for value, insertion in (("banzhaf", 0.8125), ("shapley", 0.75)):
        trial = TrialEntry(
            id=value, method="eac", method_version=1, dataset="d", data_fingerprint="f", seed=0,
            config={"value": value},
        )  # fmt: skip
        store.enter("why", [trial])
        scores = accuracy | {"insertion_auc_eac_official": insertion, "mean_iou": 0.4}
        metrics = [{"name": n, "value": v, "split": "test"} for n, v in scores.items()]
        done = {"attempt": store.claim(trial.id, launch), "metrics": metrics, "n_failed": 0}
        store.finish(trial.id, {**done, "on_failed": "wrong", "seconds": 1.0, "provenance": {}})
    write_report(store, "why", tmp_path / "why.html")
    page = Page((tmp_path / "why.html").read_text())
    assert "explanations" in page.tables
    assert "0.812" in page.texts
    assert page.addresses == [], "no group, no plot"
    assert "No trial is done." not in page.texts


LONG = ["datasets/a/" + 300 * "x" + "/one", "datasets/a/" + 300 * "x" + "/two"]


@pytest.mark.parametrize("values", [["5", "10"], ["slic", "grid"], [str(n) for n in range(99)], LONG])
def test_an_ablation_is_drawn_at_its_means(values: list[str]) -> None:
    table = pd.DataFrame({"value": values, "place": range(1, len(values) + 1)})
    table = table.assign(metric="m", parameter="k", mean=0.5, ci_low=0.4, ci_high=None)
    figure = Figure(layout="constrained")
    axes = figure.add_subplot()
    figures.ablation_curve(table, axes)
    figure.draw_without_rendering()  # a label that leaves no room for the plot is a warning of matplotlib
    drawn = [line for line in axes.get_lines() if len(line.get_ydata()) == len(values)]
    assert list(drawn[0].get_ydata()) == [0.5] * len(values)
    assert axes.get_xlabel() == "k"


def test_points_without_an_interval_have_no_bars() -> None:
    row = {"method": "m"}
    for metric, mean in (("average_accuracy", 0.9), ("worst_group_accuracy", 0.7)):
        row |= {metric: mean, f"{metric}_ci_low": None, f"{metric}_ci_high": None}
    axes = Figure().add_subplot()
    figures.worst_group_against_average(pd.DataFrame([row]), axes)
    assert axes.get_lines()[0].get_xydata().tolist() == [[0.9, 0.7]]
