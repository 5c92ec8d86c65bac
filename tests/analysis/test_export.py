"""An experiment as files, against the store and against each other."""

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from analysis.cli import app
from analysis.export import PREDICTIONS, TABLES, export
from grid.results.store import ResultsStore
from tests.analysis.images.test_errors import PREDICTIONS_OF, leave, rows_of


def test_files_hold_what_the_store_does(store: ResultsStore, tmp_path: Path) -> None:
    written, left_out = export(store, "small", tmp_path / "out")
    assert left_out == []
    assert sorted(path.name for path in written) == sorted(
        [
            "dictionary.md",
            "predictions.parquet",
            *(f"{name}.{kind}" for name in TABLES for kind in ("csv", "parquet")),
        ]
    )
    tables = {name: pq.read_table(tmp_path / "out" / f"{name}.parquet").to_pandas() for name in TABLES}
    assert len(tables["trials"]) == 10
    for trial_id in tables["trials"]["trial"]:
        trial = store.trial(trial_id)
        for name, rows in (
            ("knobs", trial["params"]),
            ("numbers", trial["metrics"]),
            ("stages", trial["stages"]),
        ):
            assert (tables[name]["trial"] == trial_id).sum() == len(rows)
    one = store.trial("salf_cbm-10-1")
    numbers = tables["numbers"][tables["numbers"]["trial"] == "salf_cbm-10-1"]
    assert list(numbers["value"]) == [row["value"] for row in one["metrics"]]
    knobs = tables["knobs"][tables["knobs"]["trial"] == "salf_cbm-10-1"]
    assert dict(zip(knobs["name"], knobs["value"], strict=True)) == {
        r["name"]: r["value"] for r in one["params"]
    }


def test_csv_and_parquet_say_the_same_and_the_dictionary_names_every_column(
    store: ResultsStore, tmp_path: Path
) -> None:
    export(store, "small", tmp_path)
    told = (tmp_path / "dictionary.md").read_text()
    for name, table in TABLES.items():
        parquet = pq.read_table(tmp_path / f"{name}.parquet").to_pandas()
        csv = pd.read_csv(tmp_path / f"{name}.csv")
        assert list(parquet.columns) == list(csv.columns) == list(table.columns)
        assert len(parquet) == len(csv)
        for column in ("value", "seconds", "seed"):
            if column in csv and pd.api.types.is_numeric_dtype(csv[column]):
                pd.testing.assert_series_equal(csv[column], parquet[column].astype(csv[column].dtype))
        for column in table.columns:
            assert f"| `{column}` |" in told
    predictions = pq.read_table(tmp_path / "predictions.parquet")
    assert predictions.column_names == list(PREDICTIONS.columns), "these trials left none"
    assert all(f"| `{column}` |" in told for column in PREDICTIONS.columns)


def test_the_command_prints_paths_and_refuses_what_is_not_there(url: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", "small", "--out", str(tmp_path), "--results", url])
    assert done.exit_code == 0
    assert all(Path(line).is_file() for line in done.stdout.splitlines())
    refused = CliRunner().invoke(app, ["export", "none", "--out", str(tmp_path / "no"), "--results", url])
    assert refused.exit_code == 2
    assert "none in the results store" in refused.output
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("name", TABLES)
def test_an_experiment_without_trials_has_its_columns(name: str, tmp_path: Path) -> None:
    store = ResultsStore.open(f"sqlite:///{tmp_path}/results.db")
    store.begin_launch("empty", spec="", plan={}, command="")
    export(store, "empty", tmp_path / "out")
    assert pq.read_table(tmp_path / "out" / "predictions.parquet").num_rows == 0
    assert list(pd.read_csv(tmp_path / "out" / f"{name}.csv").columns) == list(TABLES[name].columns)


def test_predictions_are_those_that_trials_left_and_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    """Of three trials one left none, and the file of one is cut short later."""
    address = f"sqlite:///{tmp_path}/results.db"
    store = ResultsStore.open(address)
    keys = list(PREDICTIONS_OF)[:3]
    one, other, _ = (
        leave(store, tmp_path, key, rows_of(key[0], PREDICTIONS_OF[key]) if place < 2 else None)
        for place, key in enumerate(keys)
    )
    store.close()
    command = ["export", "birds", "--out", str(tmp_path / "out"), "--results", address]
    assert CliRunner().invoke(app, command).exit_code == 0
    found = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pylist()
    assert found == [
        {"trial": name, **row}
        for name, key in ((one, keys[0]), (other, keys[1]))
        for row in rows_of(key[0], PREDICTIONS_OF[key])
    ]
    file = tmp_path / other / "predictions.parquet"
    file.write_bytes(file.read_bytes()[:-1])
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 1
    assert again.stderr.startswith(
        f"left out: trial {other}: predictions.parquet is not what the trial wrote"
    )
    assert set(pq.read_table(tmp_path / "out" / "predictions.parquet")["trial"].to_pylist()) == {one}
