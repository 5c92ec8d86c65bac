"""`python -m grid reproduce` on trials that really ran: the same numbers come again, and another one is named."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import text

from components.stages.classifier import Classifier
from components.studies.baselines.methods.standard import Standard
from grid.commands.cli import main
from grid.planning.planning import plan_of
from grid.spec.spec import load_spec
from grid.stores.storage import Storage
from grid.trials.reproduction import data_here, origin
from tests.grid.finished_world import Finished


@pytest.fixture
def reproduce(
    finished: Finished, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs the command on the trial of a method; its exit status and what it said."""

    def run(method: str, *arguments: str) -> tuple[int, str]:
        asked = ["grid", "reproduce", finished.ids.get(method, method), *arguments]
        monkeypatch.setattr(sys, "argv", asked)
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        return int(stop.value.code or 0), (said.out + said.err).strip()

    return run


@pytest.fixture
def edit(finished: Finished, request: pytest.FixtureRequest) -> Callable[..., None]:
    """Edits one column of one row of the results store, until the test ends."""

    def edited(table: str, column: str, value: Any, where: str) -> None:
        def write(new: Any) -> None:
            with finished.world.results.writing() as connection:
                connection.execute(text(f"UPDATE {table} SET {column} = :new WHERE {where}"), {"new": new})

        with finished.world.results.reading() as connection:
            old = connection.scalar(text(f"SELECT {column} FROM {table} WHERE {where}"))
        request.addfinalizer(lambda: write(old))
        write(value)

    return edited


def of(finished: Finished, method: str) -> str:
    return f"id = '{finished.ids[method]}'"


@pytest.mark.parametrize("method", ["salf_cbm", "standard"])
def test_a_trial_gives_the_same_numbers_again_and_stays_as_it_is(
    finished: Finished, reproduce: Callable[..., tuple[int, str]], method: str
) -> None:
    trial_id = finished.ids[method]
    before = finished.world.results.trial(trial_id)
    status, said = reproduce(method, "--run")
    count = sum(metric["step"] is None for metric in before["metrics"])
    assert (status, said) == (
        0,
        f"trial {trial_id}: all {count} numbers are the same here, to the last digit",
    )
    assert finished.world.results.trial(trial_id) == before
    assert before["artifacts_uri"].endswith("/1")
    assert json.loads(Storage(before["artifacts_uri"]).read("manifest.json"))["attempt"] == 1


def test_a_number_that_is_not_the_same_is_named_with_both_values(
    finished: Finished, reproduce: Callable[..., tuple[int, str]], edit: Callable[..., None]
) -> None:
    stored = finished.world.results.trial(finished.ids["standard"])["metrics"]
    metric = next(m for m in stored if (m["name"], m["split"]) == ("average_accuracy", "test"))
    edit("metric", "value", 0.123, f"id = {metric['id']}")
    status, said = reproduce("standard", "--run")
    assert status == 1
    first, line = said.splitlines()
    assert " 1 of " in first
    assert line == f"  average_accuracy (test, all, last): 0.123 stored, {metric['value']!r} here"
    status, said = reproduce("standard", "--run", "--json")
    assert status == 1
    (difference,) = json.loads(said)["differences"]
    assert (difference["stored"], difference["here"]) == (0.123, metric["value"])


def test_a_number_that_is_gone_or_was_none_is_not_the_same(
    finished: Finished, reproduce: Callable[..., tuple[int, str]], edit: Callable[..., None]
) -> None:
    stored = finished.world.results.trial(finished.ids["standard"])["metrics"]
    one, other = (m for m in stored if m["name"] == "average_accuracy")
    edit("metric", "name", "of_old", f"id = {one['id']}")
    edit("metric", "value", None, f"id = {other['id']}")
    _, said = reproduce("standard", "--run")
    assert "3 of " in said
    place = f"({one['split']}, all, last)"
    assert f"of_old {place}: {one['value']!r} stored, no number here" in said
    assert f"average_accuracy {place}: no number stored, {one['value']!r} here" in said


def test_what_is_recorded_is_said_beside_what_is_here(
    finished: Finished, reproduce: Callable[..., tuple[int, str]], edit: Callable[..., None]
) -> None:
    versions = json.loads(finished.world.results.trial(finished.ids["lf_cbm"])["versions"])
    edit("trial", "versions", json.dumps({**versions, "torch": "1.0"}), of(finished, "lf_cbm"))
    edit("trial", "git_commit", "abcdef", of(finished, "lf_cbm"))
    status, said = reproduce("lf_cbm")
    assert status == 0
    assert "torch 1.0" in said
    assert f"\n  here: torch {versions['torch']}\n" in said
    assert "\ncommit: abcdef" in said
    assert "\ngit checkout abcdef\n" in said
    assert said.count("weights of clip_images: ") == said.count("weights of clip_texts: ") == 1
    found = finished.world.results.trial(finished.ids["lf_cbm"])
    assert f"data: {found['data_fingerprint']}; here: the same" in said
    assert all(f"stage {stage['name']}: {stage['stage_key']}\n" in said for stage in found["stages"])


@pytest.mark.parametrize("method", ["salf_cbm", "lf_cbm", "standard"])
def test_the_spec_that_is_printed_asks_for_the_trial_alone(
    finished: Finished, reproduce: Callable[..., tuple[int, str]], tmp_path: Path, method: str
) -> None:
    facts = json.loads(reproduce(method, "--json")[1])
    path = tmp_path / "alone.yaml"
    path.write_text(facts["spec"])
    spec = load_spec(path)
    assert spec.name != "small", "else its run would leave nothing else of the experiment"
    data = data_here(finished.world, origin(finished.world, finished.ids[method]))
    plan = plan_of(spec, [data], finished.world)
    assert [trial.id for trial in plan.trials] == [finished.ids[method]]
    printed = reproduce(method)[1].split("<<'END'\n")[1].split("\nEND\n")[0]
    assert yaml.safe_load(printed) == yaml.safe_load(facts["spec"])


def test_what_cannot_be_reproduced_is_one_line(
    finished: Finished, reproduce: Callable[..., tuple[int, str]], edit: Callable[..., None]
) -> None:
    def refused(method: str, *arguments: str) -> str:
        status, said = reproduce(method, *arguments)
        assert status == 2
        assert "\n" not in said
        return said

    assert "none in the results store" in refused("zzz")
    assert "is pending: only one that is done has numbers" in refused("pending")
    for changed, why in ((Standard, "version 99 of its method, and not "), (Classifier, "other classifier")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(changed, "VERSION", 99)
            assert f"would be another one here: {why}" in refused("standard", "--run")
    edit("trial", "launch_id", None, of(finished, "lf_cbm"))
    assert "the spec that it was run by is not in the results store" in refused("lf_cbm")
    with finished.world.results.reading() as connection:
        spec = connection.scalar(text("SELECT spec FROM launch"))
    edit("launch", "spec", "", "id = 1")
    assert "the spec that it was run by is not in the results store" in refused("salf_cbm")
    edit("launch", "spec", spec, "id = 1")
    edit("trial", "data_fingerprint", "of-old", of(finished, "salf_cbm"))
    assert "data set toybirds has changed since: its fingerprint was of-old" in refused("salf_cbm", "--run")
    assert "; here: trial " in reproduce("salf_cbm")[1]


def test_stages_whose_artifacts_are_gone_are_named(
    finished: Finished, reproduce: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    trial = origin(finished.world, finished.ids["standard"]).trial
    (key,) = {stage["stage_key"] for stage in trial["stages"] if stage["name"] == "classifier"} or {""}
    assert key
    folder = finished.home / "artifacts" / "stages" / key
    shutil.move(folder, tmp_path / key)
    try:
        status, said = reproduce("standard", "--run")
        assert status == 2
        assert "no artifact of " in said
        assert "classifier" in said
        assert "another CONCEPTGRID_HOME" in said
        assert ", whose artifact is gone" in reproduce("standard")[1]
    finally:
        shutil.move(tmp_path / key, folder)
