"""Tables say what the small models that they stand on were taught."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from analysis.cli import app
from analysis.page.report import write_report
from grid.results.store import ResultsStore, TrialEntry

ROOT = Path(__file__).resolve().parents[2]
TAUGHT = yaml.safe_load((ROOT / "datasets/taught.yaml").read_text())
CLIPS = ("datasets/toybirds/clip", "datasets/toybirds/clip_plain")  # the name of one begins the other's


def entered(store: ResultsStore, experiment: str, checkpoint: str) -> None:
    launch = store.begin_launch(experiment, spec="", plan={"notes": {"d": ""}}, command="")
    trial = TrialEntry(
        id=experiment, method="m", method_version=1, dataset="d", data_fingerprint="f", seed=0,
        config={"clip": {"checkpoint": checkpoint}, "k_top": 5},
    )  # fmt: skip
    store.enter(experiment, [trial])
    metrics = [{"name": "worst_group_accuracy", "value": 0.5, "split": "test"}]
    done = {"attempt": store.claim(trial.id, launch), "metrics": metrics, "n_failed": 0}
    store.finish(trial.id, {**done, "on_failed": "wrong", "seconds": 1.0, "provenance": {}})


def test_every_shipped_model_says_what_it_was_taught() -> None:
    """Whatever lies below datasets/ as weights: by its folder, or by its file."""
    weights = [path for suffix in ("safetensors", "pth") for path in ROOT.glob(f"datasets/**/*.{suffix}")]
    names = [path.relative_to(ROOT) for path in weights]
    assert len(names) >= 2
    for name in names:
        assert name.as_posix() in TAUGHT or name.parent.as_posix() in TAUGHT, name
    assert all((ROOT / name).exists() for name in TAUGHT)


@pytest.mark.parametrize("checkpoint", [*CLIPS, "ViT-B-32/openai"])
def test_tables_and_report_say_it_below(tmp_path: Path, checkpoint: str) -> None:
    url = f"sqlite:///{tmp_path}/results.db"
    store = ResultsStore.open(url)
    entered(store, "e", checkpoint)
    lines = {clip: f"{clip} {TAUGHT[clip]}" for clip in CLIPS}
    told = [checkpoint] if checkpoint in CLIPS else []
    for command in (["leaderboard"], ["scores", "e", "--metric", "worst_group_accuracy"]):
        output = CliRunner().invoke(app, [*command, "--results", url]).output
        assert [clip for clip, line in lines.items() if line in output] == told
    write_report(store, "e", tmp_path / "e.html")
    page = (tmp_path / "e.html").read_text()
    assert [clip for clip, line in lines.items() if line.replace("'", "&#39;") in page] == told
