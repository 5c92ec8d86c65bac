"""The queries of docs/sql.md, and of every page that shows one, on both engines, with planted answers."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis.sql import query
from grid.results.schema import Base
from grid.results.store import ResultsStore, TrialEntry
from tests.analysis.conftest import postgres

__all__ = ["postgres"]  # a fixture

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/sql.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
QUESTION = re.compile(r"^### (?P<question>.+)\n(?:(?!#).*\n)*?```sql\n(?P<sql>(?:(?!```).*\n)+)```", re.M)
COMMAND = re.compile(r'python -m analysis sql (?:--json )?"(?P<sql>[^"]+)"')
VIEWS = ("leaderboard", "ablation", "score", "reported_vs_measured")
INNER_VIEWS = (
    "ablation_cell", "knob_cell", "variant_cell", "student_t", "asked_trial", "planned_trial",
    "planned_trials", "planned_of_knob", "planned_of_variant", "score_kind", "varying_knob",
    "leaderboard_by_form", "ablation_by_form", "score_by_form",
)  # fmt: skip

# configuration -> worst group on the test split for seeds 0, 1, 2; bag_size 10 against 5 by seed: .10, .12, .08
SCORES = {
    ("seg_mil_cbm", 5): (0.60, 0.62, 0.64),
    ("seg_mil_cbm", 10): (0.70, 0.74, 0.72),
    ("standard", 1): (0.40, 0.44, 0.42),
}
COUNTERPART = ("waterbird on land", 0.3), ("landbird on land", 0.9)
IDS = {pair: f"{pair[0]}-{pair[1]}" for pair in SCORES}


def close(value: float) -> Any:
    return pytest.approx(value, abs=1e-9)


# What each question of the page must answer: number of rows; what the first says at least, and perhaps the last.
ANSWERS: dict[str, tuple[Any, ...]] = {
    "Which configuration has the best worst group?": (
        3,
        {
            "method": "seg_mil_cbm",
            "n": 3,
            "worst_group_accuracy": close(0.72),
            "average_accuracy": close(0.82),
        },
    ),
    "Which knobs does the best configuration have?": (2, {"name": "bag_size", "value": "10"}),
    "What does one knob change?": (
        2,
        {"value": "5", "n": 3, "mean": close(0.62), "difference": None, "reference": "5", "paired": 1},
        {"value": "10", "n": 3, "mean": close(0.72), "difference": close(0.10), "paired": 1},
    ),
    "Which knobs change the worst group at all?": (
        1,
        {"parameter": "bag_size", "reference": "5", "value": "10", "difference": close(0.10)},
    ),
    "How good is every seed of one configuration?": (3, {"seed": 0, "worst_group_accuracy": close(0.70)}),
    "How good is every seed of every configuration?": (
        9,
        {"method": "seg_mil_cbm", "seed": 0, "git_commit": "abcdef", "host": "here"},
    ),
    "How much better is one method than another, seed by seed?": (
        3,
        {"seed": 0, "standard": close(0.40), "seg_mil_cbm": close(0.65), "difference": close(0.25)},
    ),
    "Which group is the weak one?": (6, {"group_name": "waterbird on land", "n": 3, "mean": close(0.3)}),
    "What does choosing the epoch by validation change?": (
        4,
        {
            "selection": "last",
            "method": "seg_mil_cbm",
            "configurations": 2,
            "worst_group_accuracy": close(0.67),
        },
    ),
    "How did the training go, epoch by epoch?": (
        18,
        {
            "method": "seg_mil_cbm",
            "seed": 0,
            "epoch": 0,
            "split": "train",
            "name": "loss",
            "value": close(1.0),
        },
    ),
    "Which trials failed, and why?": (
        1,
        {"id": "unlucky", "error": "RuntimeError: out of memory", "seed": 9},
    ),
    "Which configurations lack seeds?": (1, {"method": "standard", "planned": 4, "done": 3}),
    "What did the stages cost?": (
        2,
        {"kind": "clip_images", "stages": 1, "images": 12, "seconds": close(30.0)},
    ),
    "Which trials share a stage?": (1, {"kind": "clip_images", "trials": 9, "methods": 2}),
    "How far are published numbers from ours?": (
        2,
        {"paper": "A paper", "reported": close(0.70), "method": "seg_mil_cbm", "n": 3},
    ),
    "Where does a number come from?": (
        9,
        {"git_commit": "abcdef", "host": "here", "data_fingerprint": "f", "command": "run"},
    ),
    "Which launches were there, and how did they end?": (
        1,
        {"status": "failed", "trials": 9, "trial_seconds": close(9.0)},
    ),
    "How did people vote?": (
        2,
        {
            "voter": "ada",
            "left_method": "seg_mil_cbm",
            "right_method": "standard",
            "choice": "left",
            "votes": 2,
        },
    ),
}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A results store with the experiment `demo`."""
    if request.param == "sqlite":
        address = f"sqlite:///{tmp_path_factory.mktemp('home')}/results.db"
    else:
        address = request.getfixturevalue("postgres")
    store = ResultsStore.open(address)
    fill(store)
    store.close()
    return address


def fill(store: ResultsStore) -> None:
    launch = store.begin_launch("demo", spec="name: demo", plan={}, command="run", git_commit="abcdef")
    for (method, bag_size), scores in SCORES.items():
        for seed, score in enumerate(scores):
            entry = trial(method, bag_size, seed)
            store.enter("demo", [entry])
            attempt = store.claim(entry.id, launch)
            provenance = {"git_commit": "abcdef", "git_dirty": False, "host": "here", "device": "cpu"}
            done = {"attempt": attempt, "metrics": metrics(method, score), "n_failed": 0, "on_failed": "wrong",
                    "seconds": 1.0, "provenance": provenance, "uri": f"file:///trials/{entry.id}"}  # fmt: skip
            assert store.finish(entry.id, done)
    store.enter("demo", [trial("standard", 1, 9, "unlucky")])
    store.fail("unlucky", "RuntimeError: out of memory")
    store.record_stage({"key": "images", "kind": "clip_images", "dataset": "toybirds", "images": 12, "failed": 1,
                        "model_inputs": 11, "bytes": 2**20, "seconds": 30.0})  # fmt: skip
    for seed in range(3):
        store.record_stage({"key": f"classifier-{seed}", "kind": "classifier", "seconds": 5.0})
    store.record_stage(
        {"key": "other", "kind": "boxes", "seconds": 1000.0}
    )  # no trial of this experiment reads it
    published = {"paper": "A paper", "table_name": "Table 1", "row_name": "SEG-MIL-CBM", "setting": "small",
                 "dataset": "toybirds", "method": "seg_mil_cbm", "metric": "worst_group_accuracy",
                 "split": "test", "selection": "last", "value": 0.70}  # fmt: skip
    store.record_references([published])
    for image, choice in (("1", "left"), ("2", "left"), ("3", "tie")):
        vote = {"experiment": "demo", "image_id": image, "left_trial": "seg_mil_cbm-10-0",
                "right_trial": "standard-1-0", "choice": choice, "voter": "ada"}  # fmt: skip
        assert store.record_preference(vote)
    store.end_launch(launch, "failed")


def trial(method: str, bag_size: int, seed: int, name: str | None = None) -> TrialEntry:
    stages = {"images": "images"}
    if method == "standard":
        stages["classifier"] = f"classifier-{seed}"
    return TrialEntry(
        id=name or f"{IDS[method, bag_size]}-{seed}", method=method, method_version=1, dataset="toybirds",
        data_fingerprint="f", seed=seed, config={"bag_size": bag_size, "segmenter": {"name": "slic"}},
        stages={} if name else stages,
    )  # fmt: skip


def metrics(method: str, score: float) -> Iterator[dict[str, Any]]:
    selections = ("last", "val_average", "val_worst_group") if method == "seg_mil_cbm" else ("last",)
    names = ("worst_group_accuracy", "average_accuracy", "adjusted_average_accuracy")
    for selection in selections:
        for place, name in enumerate(names):
            for split in ("val", "test"):
                yield {"name": name, "value": score + 0.1 * place, "split": split, "selection": selection}
    for group, value in COUNTERPART:
        yield {"name": "group_accuracy", "value": value, "split": "test", "group": group}
    for step in range(2):
        yield {"name": "loss", "value": 1.0 - 0.5 * step, "split": "train", "step": step}


def questions() -> dict[str, str]:
    return {found["question"]: found["sql"] for found in QUESTION.finditer(PAGE.read_text())}


def commands() -> list[Any]:
    return [
        pytest.param(found["sql"], id=f"{page.relative_to(ROOT).as_posix()}-{number}")
        for page in PAGES
        for number, found in enumerate(COMMAND.finditer(page.read_text()))
        if "…" not in found["sql"]
    ]


def test_every_query_of_the_page_has_an_answer_here() -> None:
    assert list(questions()) == list(ANSWERS)
    assert PAGE.read_text().count("```sql") == len(ANSWERS)


@pytest.mark.parametrize("question", ANSWERS)
def test_a_query_answers_its_question(url: str, question: str) -> None:
    rows = query(url, questions()[question])
    n, *expected = ANSWERS[question]
    assert len(rows) == n
    for row, told in zip((rows[0], rows[-1]), expected, strict=False):
        assert {name: row[name] for name in told} == told


@pytest.mark.parametrize("statement", commands())
def test_a_query_of_a_command_line_gives_rows(url: str, statement: str) -> None:
    """It asks of an experiment that was run elsewhere; here it is asked of the planted one."""
    for name, planted in (("experiment", "demo"), ("dataset", "toybirds")):
        statement = re.sub(rf"{name} ?= ?'[^']+'", f"{name} = '{planted}'", statement)
    assert query(url, statement)


@pytest.mark.parametrize("table", sorted(Base.metadata.tables))
def test_the_page_lists_every_column_of_every_table(table: str) -> None:
    assert listed(table) == set(Base.metadata.tables[table].columns.keys())


def test_the_page_names_every_view() -> None:
    made = {path.stem.partition("_")[2] for path in (ROOT / "grid/results/views").glob("*.sql")}
    assert made == {*VIEWS, *INNER_VIEWS}
    assert all(f"`{view}`" in PAGE.read_text() for view in made)


@pytest.mark.parametrize("view", VIEWS)
def test_the_page_lists_every_column_of_every_view(url: str, view: str) -> None:
    assert listed(view) == set(query(url, f"SELECT * FROM {view} LIMIT 1")[0])


def listed(table: str) -> set[str]:
    """The names in the first column of the section on a table or view."""
    section = PAGE.read_text().partition(f"\n### `{table}`\n")[2].partition("\n#")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
