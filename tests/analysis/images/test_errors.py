"""The images that one gets wrong and another right, against loops and statsmodels' McNemar test on predictions
made by hand."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import text
from statsmodels.stats.contingency_tables import mcnemar
from typer.testing import CliRunner, Result

from analysis.cli import app
from analysis.compare import Wanted
from analysis.images.errors import CELLS, errors
from grid.results.store import ResultsStore, TrialEntry
from grid.stores.evidence import MANIFEST, PICTURES, PREDICTED, PREDICTIONS, SUMS, Evidence
from grid.stores.storage import Storage

IDS = np.arange(90) * 2 + 5
STREAM = np.random.default_rng(8)
LABELS = STREAM.integers(0, 2, 90)
GROUPS = 2 * LABELS + STREAM.integers(0, 2, 90)
SEEDS = (0, 1, 4)
# method, k, seed -> predictions; -1 failed
PREDICTIONS_OF = {
    (method, k, seed): np.where(STREAM.random(90) < wrong, 1 - LABELS, LABELS)
    - 2 * (STREAM.random(90) < 0.03)
    for method, k, wrong in (("standard", 1, 0.4), ("lf_cbm", 5, 0.15), ("lf_cbm", 10, 0.3))
    for seed in SEEDS
}
PREDICTIONS_OF = {key: np.maximum(predicted, -1) for key, predicted in PREDICTIONS_OF.items()}
VALIDATION = {("standard", 1): 0.5, ("lf_cbm", 5): 0.9, ("lf_cbm", 10): 0.6}
CLASSES = ("landbird", "waterbird")


def rows_of(method: str, predicted: np.ndarray) -> list[dict[str, Any]]:
    return [
        {
            "image_id": int(image), "path": f"{y}/{image}.png", "label": int(y), "label_name": CLASSES[y],
            "group": int(g), "group_name": f"group {g}", "predicted": int(p),
            "predicted_name": None if p < 0 else CLASSES[p],
            "evidence": [] if method == "standard" else [
                {"what": f"crest of {image}", "contribution": 1.25}, {"what": "NOT tail", "contribution": -0.5},
            ],
        }
        for image, y, g, p in zip(IDS, LABELS, GROUPS, predicted, strict=True)
    ]  # fmt: skip


def leave(
    store: ResultsStore, root: Path, key: tuple[str, int, int], rows: list[dict[str, Any]] | None
) -> str:
    """Enters a trial that is done and left these predictions, and a picture of the first image that is wrong."""
    method, k, seed = key
    entry = TrialEntry(
        id=f"{method}-{k}-{seed}", method=method, method_version=1, dataset="toybirds", data_fingerprint="f",
        seed=seed, config={"k": k},
    )  # fmt: skip
    launch = store.begin_launch("birds", spec="", plan={}, command="run")
    store.enter("birds", [entry])
    storage = Storage(str(root))
    evidence = Evidence(storage, entry.id)
    if rows is not None:
        evidence.write_table(PREDICTIONS, pa.Table.from_pylist(rows, PREDICTED))
    evidence.write_json(PICTURES, [{"file": f"pictures/region_{IDS[wrongly(key)[0]]}.jpg", "caption": "x"}])
    storage.write_json(f"{entry.id}/{MANIFEST}", {SUMS: evidence.sums})
    numbers = [
        {"name": "worst_group_accuracy", "value": VALIDATION[method, k], "split": "val"},
        {"name": "average_accuracy", "value": 1 - VALIDATION[method, k], "split": "val"},
    ]
    done = {
        "attempt": store.claim(entry.id, launch), "metrics": numbers, "n_failed": 0, "seconds": 1.0,
        "provenance": {}, "on_failed": "wrong", "uri": storage.child(entry.id),
    }  # fmt: skip
    assert store.finish(entry.id, done)
    return entry.id


def wrongly(key: tuple[str, int, int]) -> list[int]:
    return [i for i in range(90) if PREDICTIONS_OF[key][i] != LABELS[i]]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("home")
    address = f"sqlite:///{folder}/results.db"
    store = ResultsStore.open(address)
    for key, predicted in PREDICTIONS_OF.items():
        leave(store, folder, key, rows_of(key[0], predicted))
    store.close()
    return address


@pytest.fixture
def store(url: str) -> Iterator[ResultsStore]:
    opened = ResultsStore.open(url, create=False)
    yield opened
    opened.close()


def call(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["errors", "birds", *arguments, "--results", url])


def test_images_are_those_of_a_loop(store: ResultsStore) -> None:
    """lf_cbm stands for its k = 5, which the validation split prefers."""
    found = errors(store, Wanted("birds"), "standard", "lf_cbm").images
    expected: Counter[int] = Counter()
    for seed in SEEDS:
        right = set(range(90)) - set(wrongly(("lf_cbm", 5, seed)))
        expected.update(i for i in wrongly(("standard", 1, seed)) if i in right)
    order = sorted(expected, key=lambda i: (-expected[i], IDS[i]))
    assert list(found["image_id"]) == [IDS[i] for i in order]
    assert list(found["only_a_wrong"]) == [expected[i] for i in order]
    for side, key in (("a", ("standard", 1)), ("b", ("lf_cbm", 5))):
        wrong = [sum(i in wrongly((*key, seed)) for seed in SEEDS) for i in order]
        assert list(found[f"wrong_{side}"]) == wrong
    first = [
        next(s for s in SEEDS if i in wrongly(("standard", 1, s)) and i not in wrongly(("lf_cbm", 5, s)))
        for i in order
    ]
    assert list(found["seed"]) == first
    assert list(found["trial_b"]) == [f"lf_cbm-5-{seed}" for seed in first]
    said = [PREDICTIONS_OF["standard", 1, seed][i] for i, seed in zip(order, first, strict=True)]
    assert -1 in said, "a failed image is wrong"
    assert [None if x != x else x for x in found["predicted_a"]] == [
        None if p < 0 else CLASSES[p] for p in said
    ]
    assert list(found["path"]) == [f"{LABELS[i]}/{IDS[i]}.png" for i in order]
    assert set(found["evidence_a"]) == {""}
    assert list(found["evidence_b"]) == [f"crest of {IDS[i]} +1.25; NOT tail -0.50" for i in order]


@pytest.mark.parametrize("b", ["lf_cbm", "10"])
def test_cells_and_p_are_those_of_a_loop_and_of_statsmodels(store: ResultsStore, b: str) -> None:
    k = 5
    if b == "10":
        k, b = 10, store.trial("lf_cbm-10-0")["config_id"][:12]
    cells = errors(store, Wanted("birds"), "standard", b).cells
    assert len(cells) == 3 * (1 + len(set(GROUPS)))
    for row in cells.to_dict("records"):
        seed = row["seed"]
        a_wrong = PREDICTIONS_OF["standard", 1, seed] != LABELS
        b_wrong = PREDICTIONS_OF["lf_cbm", k, seed] != LABELS
        group = row["group_name"]
        members = np.ones(90, bool) if group == "all" else int(group.removeprefix("group ")) == GROUPS
        table = [
            [
                int((a_wrong[members] == first).astype(int) @ (b_wrong[members] == second))
                for second in (False, True)
            ]
            for first in (False, True)
        ]
        assert [row[name] for name in CELLS] == [table[0][0], table[1][0], table[0][1], table[1][1]]
        assert row["n"] == members.sum()
        if group == "all":
            assert row["p"] == pytest.approx(mcnemar(table, exact=True).pvalue)


def test_pictures_that_the_trials_drew_are_named(store: ResultsStore) -> None:
    found = errors(store, Wanted("birds"), "standard", "lf_cbm").images
    for row in found.to_dict("records"):
        drawn = IDS[wrongly(("standard", 1, row["seed"]))[0]]
        picture = row["picture_a"]
        if row["image_id"] == drawn:
            assert picture.endswith(f"/standard-1-{row['seed']}/pictures/region_{drawn}.jpg")
        else:
            assert picture is None or picture != picture
    assert any(isinstance(picture, str) for picture in found["picture_a"])


def test_the_command_for_people_and_programs(url: str) -> None:
    printed = call(url, "standard", "lf_cbm", "--limit", "2")
    assert printed.exit_code == 0, printed.output
    rows = json.loads(call(url, "standard", "lf_cbm", "--limit", "2", "--json").stdout)
    assert len(rows) == 2
    assert all(f"{row['wrong_a']} of 3" in printed.stdout for row in rows)
    assert printed.stdout.count("McNemar's exact p = ") == 3
    assert printed.stdout.count(", all seeds: of ") == 4
    again = call(url, "lf_cbm", "standard", "--limit", "1", "--json")
    assert json.loads(again.stdout)[0]["evidence_a"].startswith("crest of ")


def test_where_both_are_right_or_wrong_alike_there_is_no_image(url: str) -> None:
    printed = call(url, "standard", "standard")
    assert printed.exit_code == 0, printed.output
    assert "no rows" in printed.stdout
    assert printed.stdout.count("McNemar's exact p = 1\n") == 3
    assert json.loads(call(url, "standard", "standard", "--json").stdout) == []


def test_what_cannot_be_compared_is_one_line(url: str, store: ResultsStore, tmp_path: Path) -> None:
    for arguments, why in (
        (("standard", "none"), "has done trials of both 'standard' and 'none'"),
        (("standard", "lf_cbm", "--dataset", "cub"), "birds on cub"),
        (("standard", "lf_cbm", "--metric", "none"), "'lf_cbm' has 2 configurations"),
    ):
        refused = call(url, *arguments)
        assert refused.exit_code == 2
        assert why in refused.output
        assert refused.output.count("\n") == 1


def test_predictions_that_are_gone_or_changed_are_refused(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/results.db"
    store = ResultsStore.open(address)
    keys = ("standard", 1, 0), ("lf_cbm", 5, 0)
    for key in keys:
        leave(store, tmp_path, key, rows_of(key[0], PREDICTIONS_OF[key]))
    store.close()
    assert call(address, "standard", "lf_cbm").exit_code == 0
    file = tmp_path / "lf_cbm-5-0" / PREDICTIONS
    pq.write_table(pq.read_table(file).slice(1), file)
    refused = call(address, "standard", "lf_cbm")
    assert refused.exit_code == 2
    assert "predictions.parquet is not what the trial wrote" in refused.output
    (tmp_path / "lf_cbm-5-0" / MANIFEST).write_text(
        "{}"
    )  # as an earlier version of the code left it: no sums
    assert call(address, "standard", "lf_cbm").exit_code == 0
    file.unlink()
    refused = call(address, "standard", "lf_cbm")
    assert refused.exit_code == 2
    assert "trial lf_cbm-5-0 left no predictions" in refused.output


def test_trials_of_an_earlier_form_count_where_they_are_asked_for(tmp_path: Path) -> None:
    store = ResultsStore.open(f"sqlite:///{tmp_path}/results.db")
    trials = [
        leave(store, tmp_path, key, rows_of(key[0], predicted)) for key, predicted in PREDICTIONS_OF.items()
    ]
    with store.writing() as connection:
        connection.execute(text(f"DELETE FROM experiment_trial WHERE trial_id = '{trials[0]}'"))
        connection.execute(
            text(f"INSERT INTO earlier_trial (experiment, trial_id) VALUES ('birds', '{trials[0]}')")
        )
    for every_form, seeds in ((False, {1, 4}), (True, {0, 1, 4})):
        wanted = Wanted("birds", every_form=every_form)
        assert set(errors(store, wanted, "standard", "lf_cbm").cells["seed"]) == seeds
    none = Wanted("birds", dataset="other")
    with pytest.raises(LookupError, match="birds on other"):
        errors(store, none, "standard", "lf_cbm")


def test_a_spec_or_an_option_says_by_which_number_a_configuration_is_chosen(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/results.db"
    store = ResultsStore.open(address)
    for key, predicted in PREDICTIONS_OF.items():
        leave(store, tmp_path, key, rows_of(key[0], predicted))
    store.begin_launch("birds", spec="select: {by: val_average}", plan={}, command="")
    ids = {json.loads(trial["config"])["k"]: trial["config_id"][:8] for trial in store.done_trials("birds")}
    by_average = call(address, "standard", "lf_cbm").stdout
    assert f"b = lf_cbm {ids[10]}" in by_average
    assert "by average_accuracy on val; predictions are of the last epoch" in by_average
    by_option = call(address, "standard", "lf_cbm", "--metric", "worst_group_accuracy").stdout
    assert f"b = lf_cbm {ids[5]}" in by_option
    assert "by worst_group_accuracy on val, as --metric says" in by_option
