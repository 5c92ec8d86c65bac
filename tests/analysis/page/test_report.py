"""The report: one file, nothing from outside, and everything that it should say."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis import figures
from analysis.page.report import write_report
from grid.results.store import ResultsStore, TrialEntry

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Tables by class, texts, and all addresses; fails on tags that do not match."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tables: list[str] = []
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.addresses += [given[name] for name in ("src", "href") if name in given]
        if tag == "table":
            self.tables.append(given["class"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_report_of_a_small_store(store: ResultsStore, tmp_path: Path) -> None:
    path = tmp_path / "reports" / "small.html"
    write_report(store, "small", path)
    source = path.read_text()
    page = Page(source)
    said = " ".join(page.texts)
    assert page.tables == ["leaderboard", "ablations", "stages"], "answers come first"
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
    assert said.index(told) < said.index("What was run")


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
    assert "No trial is done." in (tmp_path / "empty.html").read_text()


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
    said = " ".join(Page((tmp_path / "random.html").read_text()).texts)
    assert said.count("unpaired") > 12
    assert "28 more values" in said
    assert not re.search(r"\[\d", said), "no interval"


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


@pytest.mark.parametrize("values", [["5", "10"], ["slic", "grid"], [str(n) for n in range(99)]])
def test_an_ablation_is_drawn_at_its_means(values: list[str]) -> None:
    table = pd.DataFrame({"value": values, "place": range(1, len(values) + 1)})
    table = table.assign(metric="m", parameter="k", mean=0.5, ci_low=0.4, ci_high=None)
    axes = Figure().add_subplot()
    figures.ablation_curve(table, axes)
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
