"""Bad input gets one clear line and exit status 2, before any work."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grid.commands.cli import main

STANDARD = [{"method": "standard"}]


@pytest.fixture
def refused(
    home: Path,
    write_spec: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., str]:
    """Runs a spec that must be refused; returns the line."""

    def run(*arguments: str, **content: Any) -> str:
        spec = write_spec(**{"name": "bad", "datasets": ["toybirds"], "methods": STANDARD, **content})
        monkeypatch.setattr(sys, "argv", ["grid", "run", str(spec), *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 2
        assert not (home / "artifacts" / "stages").exists()
        assert not (home / "data").exists()
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        return lines[0]

    return run


def test_unknown_key_names_the_closest(refused: Callable[..., str]) -> None:
    line = refused(seedss=[1])
    assert "'seedss'" in line
    assert "did you mean 'seeds'" in line


def test_unknown_knob_of_a_method(refused: Callable[..., str]) -> None:
    line = refused(methods=[{"method": "seg_mil_cbm", "k_topp": 3}])
    assert "methods.0" in line
    assert "did you mean 'k_top'" in line


def test_value_out_of_range(refused: Callable[..., str]) -> None:
    line = refused(methods=[{"method": "seg_mil_cbm", "rho_max": 1.5}])
    assert "methods.0.rho_max = 1.5" in line
    assert "less than or equal to 1" in line


def test_one_bad_value_among_choices(refused: Callable[..., str]) -> None:
    assert "k_top = 0" in refused(methods=[{"method": "seg_mil_cbm", "k_top": [5, 0]}])


def test_wrong_type(refused: Callable[..., str]) -> None:
    assert "epochs = 'many'" in refused(methods=[{"method": "standard", "recipe": {"epochs": "many"}}])


def test_unknown_method_data_set_and_segmenter(refused: Callable[..., str]) -> None:
    assert "did you mean 'standard'" in refused(methods=[{"method": "standart"}])
    assert "toybirds" in refused(datasets=["toybird"])
    assert "did you mean 'slic'" in refused(methods=[{"method": "seg_mil_cbm", "segmenter": "slick"}])


def test_a_data_set_twice_since_a_name_would_not_tell_which(refused: Callable[..., str]) -> None:
    assert "datasets has a name twice" in refused(
        datasets=["toybirds", {"name": "toybirds", "images_per_split": 8}]
    )


def test_missing_data_directory(refused: Callable[..., str]) -> None:
    assert "no folder /nowhere" in refused(datasets=[{"name": "toybirds", "root": "/nowhere"}])
    assert "CONCEPTGRID_DATA" in refused(datasets=["waterpets"])


def test_metadata_that_points_outside_its_root(refused: Callable[..., str], tmp_path: Path) -> None:
    root = tmp_path / "birds"
    root.mkdir()
    (root / "metadata.csv").write_text("img_id,img_filename,y,split,place\n0,../../etc/passwd,0,0,0\n")
    assert "outside" in refused(datasets=[{"name": "toybirds", "root": str(root)}])


def test_missing_weights(refused: Callable[..., str], birds: Path) -> None:
    datasets = [{"name": "toybirds", "root": str(birds)}]
    methods = [{"method": "seg_mil_cbm", "clip": {"checkpoint": "no-such-clip"}}]
    assert "weights 'no-such-clip'" in refused(datasets=datasets, methods=methods)


def test_a_backbone_that_would_give_random_features(refused: Callable[..., str]) -> None:
    assert "random" in refused(methods=[{"method": "seg_mil_cbm", "recipe": None}])


def test_unreachable_results_url_hides_its_password(refused: Callable[..., str]) -> None:
    line = refused("--results", "postgresql://me:hunter2@127.0.0.1:1/none")
    assert "127.0.0.1" in line
    assert "hunter2" not in line


def test_relative_places_in_a_ray_job(
    refused: Callable[..., str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert "relative in a Ray job" in refused("--results", "sqlite:///results.db")
    monkeypatch.setenv("CONCEPTGRID_HOME", "runs")
    assert "CONCEPTGRID_HOME=runs is relative" in refused()
    monkeypatch.delenv("CONCEPTGRID_HOME")
    assert "no CONCEPTGRID_HOME in a Ray job" in refused()


def test_ranges_need_a_search_and_may_not_change_a_stage(refused: Callable[..., str]) -> None:
    k_top = {"method": "seg_mil_cbm", "k_top": {"low": 3, "high": 9}}
    assert "takes lists, no ranges" in refused(methods=[k_top])
    scale = {"method": "seg_mil_cbm", "lambda_concept": {"low": 0.5, "high": 0.1}}
    assert "low < high" in refused(methods=[scale])
    assert "search.trials is needed" in refused(search={"kind": "optuna"})
    assert "multiple of seeds" in refused(
        search={"kind": "random", "trials": 3},
        seeds=[0, 1],
        methods=[{"method": "seg_mil_cbm", "k_top": [3, 5]}],
    )


def test_not_yaml_and_no_spec(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for content, expected in (("a: [", "not YAML"), ("- 1", "mapping"), (None, "no spec")):
        path = tmp_path / "spec.yaml"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_text(content)
        monkeypatch.setattr(sys, "argv", ["grid", "plan", str(path)])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 2
        assert expected in capsys.readouterr().err
