"""Published numbers beside ours, as people and programs get them."""

import json
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from analysis.cli import app
from analysis.reported import reported
from grid.results.store import ResultsStore
from tests.analysis.conftest import SCORES, fill

PUBLISHED = {
    "paper": "SALF-CBM", "table_name": "Table 1", "row_name": "SALF-CBM", "setting": "sparse", "split": "test",
    "dataset": "toybirds", "method": "salf_cbm", "metric": "worst_group_accuracy", "selection": "last",
    "value": 0.75, "std": None, "n": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("reported")
    address = f"sqlite:///{folder}/results.db"
    store = ResultsStore.open(address)
    fill(store, folder)
    store.record_references([PUBLISHED, {**PUBLISHED, "dataset": "cub", "method": "eac", "metric": "iou"}])
    store.close()
    return address


def test_every_configuration_of_the_method_stands_beside_it(url: str) -> None:
    result = CliRunner().invoke(app, ["reported", "--dataset", "toybirds", "--json", "--results", url])
    assert result.exit_code == 0, result.output
    found = {row["knobs"]: row for row in json.loads(result.stdout)}
    assert set(found) == {"k_top=5", "k_top=10"}
    for k_top in (5, 10):
        scores = SCORES["salf_cbm", k_top]
        mean = sum(scores) / len(scores)
        assert found[f"k_top={k_top}"]["measured"] == pytest.approx(mean)
        assert found[f"k_top={k_top}"]["difference"] == pytest.approx(mean - 0.75)
        assert found[f"k_top={k_top}"]["n"] == 3


def test_what_was_not_measured_is_listed_too(url: str) -> None:
    result = CliRunner().invoke(app, ["reported", "--method", "eac", "--json", "--results", url])
    (row,) = json.loads(result.stdout)
    assert (row["reported"], row["measured"], row["difference"], row["n"]) == (0.75, None, None, None)
    shown = CliRunner().invoke(app, ["reported", "--results", url])
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert sum("SALF-CBM, Table 1: SALF-CBM" in line for line in lines) == 3
    assert any("0.750" in line and "-0.030" in line for line in lines)


def test_a_number_of_a_group_stands_beside_that_groups(tmp_path: Path) -> None:
    store = ResultsStore.open(f"sqlite:///{tmp_path}/results.db")
    fill(store, tmp_path)
    with store.writing() as connection:
        connection.execute(
            text(
                "UPDATE metric SET group_name = 'fog' WHERE name = 'worst_group_accuracy' AND split = 'test'"
            )
        )
    store.record_references(
        [{**PUBLISHED, "setting": "fog", "group_name": "fog"}, {**PUBLISHED, "group_name": "all"}]
    )
    rows = reported(store, {"dataset": "toybirds"}).set_index("setting")
    store.close()
    expected = {sum(SCORES["salf_cbm", k]) / 3 for k in (5, 10)}
    assert set(rows.loc["fog", "measured"].round(9)) == {round(value, 9) for value in expected}
    assert rows.loc[["sparse"], "measured"].isna().all()


def test_it_is_said_in_what_ours_is_not_the_publications(tmp_path: Path) -> None:
    store = ResultsStore.open(f"sqlite:///{tmp_path}/results.db")
    fill(store, tmp_path)
    told = {**PUBLISHED, "group_name": "all", "images": 700, "knobs": None}
    store.record_references(
        [
            told,
            {**told, "setting": "five", "knobs": "k_top=5 fixed=x"},
            {**told, "setting": "size unknown", "knobs": "k_top=5", "images": None},
            {**told, "setting": "other network", "knobs": "backbone.name=resnet", "images": 500},
        ]
    )
    plan = {"group_sizes": {"toybirds": {"test": {"a": 300, "b": 310}, "val": {"a": 9}}}}
    store.begin_launch("small", spec="", plan=plan, command="")
    table = reported(store, {})
    found = {(row.setting, row.knobs): row.departs for row in table.itertuples()}
    assert found == {
        ("sparse", "k_top=5"): "knobs not said, 610 images (700)",
        ("sparse", "k_top=10"): "knobs not said, 610 images (700)",
        ("five", "k_top=5"): "610 images (700)",
        ("five", "k_top=10"): "k_top=10 (5), 610 images (700)",
        ("size unknown", "k_top=5"): "",
        ("size unknown", "k_top=10"): "k_top=10 (5)",
        ("other network", "k_top=5"): "backbone.name=None (resnet), 610 images (500)",
        ("other network", "k_top=10"): "backbone.name=None (resnet), 610 images (500)",
    }
    assert "k_top=10 (5)" in CliRunner().invoke(app, ["reported", "--results", store.url]).stdout
    asked = ["reported", "--metric", "average_accuracy", "--results", store.url]
    assert "no rows" in CliRunner().invoke(app, asked).stdout


def test_a_corrected_number_takes_the_place_of_the_one_that_was_entered(tmp_path: Path) -> None:
    store = ResultsStore.open(f"sqlite:///{tmp_path}/results.db")
    other = {**PUBLISHED, "dataset": "cub", "group_name": "all"}
    store.record_references([{**PUBLISHED, "row_name": "typo"}, {**PUBLISHED, "value": 0.57}, other])
    store.record_references([PUBLISHED])
    table = reported(store, {}).set_index("dataset")
    assert table["reported"].to_dict() == {"toybirds": 0.75, "cub": 0.75}
    assert (table["row_name"] == "SALF-CBM").all()
