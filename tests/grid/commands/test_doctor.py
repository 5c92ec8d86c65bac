"""The doctor names exactly what is missing, and what it says to do mends it."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from components.data.card import load_card
from components.models.weights.checkpoints import ROOT
from grid.commands.cli import main

WATERBIRDS = str(ROOT / "experiments/segmil_waterbirds.yaml")
WEIGHTS = {
    "weights 'resnet50-0676ba61.pth'",
    "weights 'ViT-B-32/openai'",
    "weights 'IDEA-Research/grounding-dino-base'",
    "weights 'sam_vit_b_01ec64.pth'",
}


@pytest.fixture(autouse=True)
def bare_machine(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights, no data, no GPU, eight cores."""
    import torch

    monkeypatch.delenv("CONCEPTGRID_WEIGHTS", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr("os.cpu_count", lambda: 8)


@pytest.fixture
def doctor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, dict[str, dict[str, Any]]]]:
    """Runs `doctor --json`: exit status, and what is missing by its name."""

    def run(*arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
        monkeypatch.setattr(sys, "argv", ["grid", "doctor", *arguments, "--json"])
        with pytest.raises(SystemExit) as stop:
            main()
        found = json.loads(capsys.readouterr().out)
        return int(stop.value.code or 0), {row["check"]: row for row in found if not row["ok"]}

    return run


def test_on_a_bare_machine_the_paper_spec_lacks_exactly_its_data_weights_and_gpus(
    doctor: Callable[..., Any],
) -> None:
    status, missing = doctor(WATERBIRDS)
    assert status == 1
    assert set(missing) == {"data set waterbirds", "GPUs", *WEIGHTS}
    for check in WEIGHTS:
        name = check.removeprefix("weights ").strip("'")
        assert missing[check]["fix"].endswith(f"python -m grid weights fetch {name}")
    data = missing["data set waterbirds"]["fix"]
    assert "waterbird_complete95_forest2water2.tar.gz" in data
    assert "CONCEPTGRID_DATA/waterbirds" in data


def test_the_plan_of_the_paper_spec_needs_neither(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["grid", "plan", WATERBIRDS, "--json"])
    with pytest.raises(SystemExit) as stop:
        main()
    plan = json.loads(capsys.readouterr().out)
    assert not stop.value.code
    assert len(plan["unresolved"]) == 5
    assert plan["cached_stages"] == 0
    # 2 networks, 3 that read groups, the defaults, the other head, both heads warmed up on bags, and what differs
    # from the defaults in k_top, tau_min_pixels, tau_iou, lambda_concept, bag_size
    assert plan["trials"] == 5 * (2 + 3 + 1 + 1 + 2 + 2 + 5 + 3 + 2 + 1)
    kinds = [stage["kind"] for stage in plan["stages"]]
    assert {kinds.count(kind) for kind in ("boxes", "box_segments", "clip_images", "clip_segments")} == {1}
    assert kinds.count("backbone_segments") == 5 + 1  # ERM for each seed, and the published weights


def test_what_it_says_about_gpus_mends_it(
    doctor: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    fix = doctor(WATERBIRDS)[1]["GPUs"]["fix"]
    on_cpu = [part for setting in re.findall(r"--set \S+", fix) for part in setting.split()]
    assert set(doctor(WATERBIRDS, *on_cpu)[1]) == {"data set waterbirds", *WEIGHTS}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert set(doctor(WATERBIRDS)[1]) == {"data set waterbirds", *WEIGHTS}


def test_replicas_that_the_machine_has_no_cores_for(doctor: Callable[..., Any]) -> None:
    status, missing = doctor(
        str(ROOT / "experiments/demo.yaml"), "--set", "resources.stages.segments.replicas=64"
    )
    assert status == 1
    assert set(missing) == {"CPUs"}
    assert "64 replicas" in missing["CPUs"]["detail"]


def test_a_spec_that_can_run_lacks_nothing(
    doctor: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor(str(ROOT / "experiments/demo.yaml")) == (0, {})
    monkeypatch.setattr(sys, "argv", ["grid", "doctor", str(ROOT / "experiments/demo.yaml")])
    with pytest.raises(SystemExit):
        main()
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    assert any(f"Python: {sys.version.split()[0]}, torch " in line for line in lines)


def test_services_that_do_not_answer_are_listed_without_their_passwords(
    doctor: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    places = [
        "--results",
        "postgresql://me:hunter2@127.0.0.1:1/none",
        "--storage",
        str(tmp_path / "file/below"),
    ]
    status, missing = doctor(str(ROOT / "experiments/demo.yaml"), *places)
    assert status == 1
    assert set(missing) == {"results store", "artifact store", "MLflow"}
    assert "hunter2" not in json.dumps(missing)
    assert "CONCEPTGRID_RESULTS_URL" in missing["results store"]["fix"]
    assert "mlflow server" in missing["MLflow"]["fix"]


def test_a_cluster_that_does_not_answer_is_listed(doctor: Callable[..., Any]) -> None:
    for address, says in (
        ("127.0.0.1:1", "refused"),
        ("ray://127.0.0.1:10001", "from outside of its cluster"),
    ):
        status, missing = doctor(str(ROOT / "experiments/demo.yaml"), "--address", address)
        assert status == 1
        assert set(missing) == {f"Ray cluster {address}"}
        assert says in missing[f"Ray cluster {address}"]["detail"]


def test_data_that_is_there_in_part_or_wrong_is_listed(
    doctor: Callable[..., Any], birds: Path, tmp_path: Path, write_spec: Callable[..., Path]
) -> None:
    root = tmp_path / "waterbirds"
    root.mkdir()
    spec = str(write_spec(name="one", datasets=["waterbirds"], methods=[{"method": "standard"}]))
    at = ["--set", f"datasets.0.root={root}"]
    assert "no metadata.csv" in doctor(spec, *at)[1]["data set waterbirds"]["detail"]
    table = pd.read_csv(birds / "metadata.csv")
    table.to_csv(root / "metadata.csv", index=False)
    assert (
        f"{len(table)} of {len(table)} image files" in doctor(spec, *at)[1]["data set waterbirds"]["detail"]
    )
    shutil.copytree(birds, root, dirs_exist_ok=True)
    assert doctor(spec, *at) == (0, {})
    gone = ["--set", f"datasets.0.root={root}/gone"]
    assert "no folder" in doctor(spec, *gone)[1]["data set waterbirds"]["detail"]


def test_the_waterbirds_card_has_a_vocabulary_of_both_sorts() -> None:
    card = load_card("waterbirds")
    concepts = card.vocabulary()
    assert 40 <= len(concepts) <= 60
    assert not {concept for concept in concepts if concept in card.classes}
    comments = [
        line
        for line in (ROOT / "datasets/waterbirds/concepts.txt").read_text().splitlines()
        if line[0] == "#"
    ]
    assert len(comments) == 3
    assert (card.classes, card.places, card.image_size) == (("landbird", "waterbird"), ("land", "water"), 224)


def test_shipped_specs_open_with_what_a_reader_asks_first() -> None:
    for path in (ROOT / "experiments").glob("*.yaml"):
        keys = list(yaml.safe_load(path.read_text()))
        assert keys[:6] == ["name", "question", "baseline", "cost", "expected", "source"], path.name
