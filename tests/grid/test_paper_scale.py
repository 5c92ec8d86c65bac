"""The paper-scale experiments of SALF-CBM can be planned where neither data, weights nor vocabularies are."""

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from components.data.fingerprint import FileHashes
from components.models.weights.checkpoints import ROOT
from grid.commands.cli import main
from grid.inputs.datasets import locate, read
from grid.inputs.references import references
from grid.planning.plan import Plan, make_plan
from grid.progress import Display
from grid.results.schema import ReferenceResult
from grid.results.store import ResultsStore
from grid.results.throughput import Throughput
from grid.spec.spec import SpecError, parse_spec

CLIP = {"checkpoint": "datasets/toybirds/clip"}


@pytest.fixture
def command(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs `python -m grid …` in this process: exit status, output, errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["grid", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        return int(stop.value.code or 0), *capsys.readouterr()

    return run


def shipped(name: str) -> str:
    return str(ROOT / "experiments" / f"{name}.yaml")


@pytest.mark.parametrize(
    ("name", "trials", "stages"),
    [
        # 3 grids x 3 radii x 3 seeds; a concept layer and a path for each, one set of circles per grid and radius
        (
            "salf_grid_radius",
            27,
            {"backbone_maps": 1, "clip_places": 9, "clip_texts": 1, "concept_layer": 27, "sparse_path": 27},
        ),
        (
            "salf_grid_radius_imagenet",
            9,
            {"backbone_maps": 1, "clip_places": 9, "clip_texts": 1, "concept_layer": 9, "sparse_path": 9},
        ),
        # 3 seeds x (standard sparse, dense; P-CBM; LF-CBM by 2 protocols; SALF-CBM sparse, dense): the layers on
        # frozen features and on CLIP's are the same for all seeds, and dense takes the sparse one's concepts
        (
            "salf_table1",
            21,
            {
                "backbone_images": 1, "each_feature": 1, "backbone_maps": 1, "clip_images": 1, "clip_places": 1,
                "clip_texts": 1, "concept_layer": 9, "sparse_path": 1 + 1 + 6 + 3,
            },
        ),
        (
            "salf_table1_places365",
            5,
            {
                "backbone_images": 1, "each_feature": 1, "backbone_maps": 1, "clip_images": 1, "clip_places": 1,
                "clip_texts": 1, "concept_layer": 2, "sparse_path": 3,
            },
        ),
        # the same on two backbones
        (
            "salf_table1_imagenet",
            10,
            {
                "backbone_images": 2, "each_feature": 2, "backbone_maps": 2, "clip_images": 1, "clip_places": 1,
                "clip_texts": 1, "concept_layer": 4, "sparse_path": 6,
            },
        ),
    ],
)  # fmt: skip
def test_trials_and_stages_are_as_counted_by_hand(
    command: Callable[..., tuple[int, str, str]], name: str, trials: int, stages: dict[str, int]
) -> None:
    status, out, _ = command("plan", shipped(name), "--json")
    plan = json.loads(out)
    assert status == 0
    assert plan["trials"] == trials
    assert Counter(stage["kind"] for stage in plan["stages"]) == stages
    assert plan["cached_stages"] == 0
    assert len(plan["unresolved"]) == len(set(plan["unresolved"]))
    lacks_vocabulary = [line for line in plan["unresolved"] if line.startswith("vocabulary")]
    assert len(lacks_vocabulary) == (0 if name in {"salf_grid_radius", "salf_table1"} else 1)


def test_a_heatmap_is_made_once_for_each_method_and_frame_of_table_2(
    command: Callable[..., tuple[int, str, str]],
) -> None:
    status, out, _ = command("plan", shipped("salf_table2"), "--json")
    plan = json.loads(out)
    assert (status, plan["trials"]) == (0, 6 * 2)
    assert [stage["kind"] for stage in plan["stages"]].count("heatmaps") == 6 * 2


def test_heads_of_a_frozen_trunk_share_its_passes_whatever_the_seed_and_the_objective(
    command: Callable[..., tuple[int, str, str]],
) -> None:
    status, out, _ = command("plan", shipped("waterpets"), "--json")
    plan = json.loads(out)
    kinds = Counter(stage["kind"] for stage in plan["stages"])
    assert status == 0
    assert {kind: kinds[kind] for kind in ("backbone_images", "mirrored_images")} == {
        "backbone_images": 1,
        "mirrored_images": 1,
    }
    assert kinds["classifier_head"] == kinds["head_logits"] == 3 * 5, "3 objectives and 5 seeds"


def test_the_doctor_names_the_vocabulary_and_a_run_stops_on_it(
    command: Callable[..., tuple[int, str, str]], home: Path
) -> None:
    spec = shipped("salf_table1_places365")
    status, out, _ = command("doctor", spec, "--json")
    missing = {row["check"]: row for row in json.loads(out) if not row["ok"]}
    assert status == 1
    wanted = {"data set places365", "weights 'resnet50-0676ba61.pth'", "weights 'ViT-B-16/openai'"}
    assert {*wanted, "vocabulary 'concepts' of places365"} <= set(missing)
    found = missing["vocabulary 'concepts' of places365"]
    assert found["detail"] == "no datasets/places365/concepts.txt"
    assert "python -m grid concepts places365" in found["fix"]
    status, _, errors = command("run", spec)
    assert (status, errors.count("\n")) == (2, 1)
    assert "vocabulary 'concepts' of places365" in errors
    assert not (home / "artifacts" / "stages").exists()


def planned(tmp_path: Path, birds: Path, *vocabularies: str) -> Plan:
    methods = [{"method": "p_cbm", "clip": CLIP, "vocabulary": name} for name in vocabularies]
    content = {"name": "t", "datasets": [{"name": "toybirds", "root": str(birds)}], "methods": methods}
    spec, hashes = parse_spec(content, "t.yaml"), FileHashes(tmp_path / "hashes.json")
    data = [read(locate(entry), hashes, Display()) for entry in spec.datasets]
    return make_plan(spec, data, hashes, lambda key: True, lambda ids: {}, Throughput(), ())


def test_vocabularies_that_are_not_there_are_distinct_and_never_cached(
    home: Path, tmp_path: Path, birds: Path
) -> None:
    """Even by a store that says it has everything."""
    plan = planned(tmp_path, birds, "concepts", "one", "two")
    texts = {key: stage for key, stage in plan.stages.items() if stage.stage.kind == "clip_texts"}
    assert len(texts) == 3
    unresolved = [key for key, stage in texts.items() if stage.unresolved]
    assert len(unresolved) == 2
    assert plan.cached & set(texts) == set(texts) - set(unresolved)
    assert [line.partition(":")[0] for line in plan.unresolved] == [
        "vocabulary 'one' of toybirds",
        "vocabulary 'two' of toybirds",
    ]
    paths = [stage for stage in plan.stages.values() if stage.stage.kind == "sparse_path"]
    assert [len(stage.unresolved) for stage in paths] == [0, 1, 1]


# Published numbers


REPORTED = sorted(path.parent.name for path in (ROOT / "datasets").glob("*/reported.csv"))


@pytest.mark.parametrize("dataset", REPORTED)
def test_published_numbers_are_fractions_and_named_once(dataset: str) -> None:
    found = list(references(dataset))
    key = ("paper", "table_name", "row_name", "setting", "dataset", "method", "metric")
    assert found
    assert len({tuple(row[name] for name in key) for row in found}) == len(found)
    assert all(0 < row["value"] < 1 for row in found)
    columns = {column.name for column in ReferenceResult.__table__.columns}
    assert all(set(row) == columns for row in found)


def test_best_numbers_of_table_3_are_in_table_1() -> None:
    """The paper gives grid 7, radius 32 in both tables."""
    for dataset in ("cub", "imagenet"):
        ours = {
            (row["table_name"], row["row_name"], row["setting"]): row["value"]
            for row in references(dataset)
            if row["method"] == "salf_cbm"
        }
        assert ours["Table 1", "SALF-CBM", "sparse"] == ours["Table 3", "grid 7x7", "sparse, radius 32"]
        assert len([key for key in ours if key[0] == "Table 3"]) == 9


def test_a_broken_line_is_named_and_a_data_set_may_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grid.inputs.references.DATASETS", tmp_path)
    assert list(references("cub")) == []
    (tmp_path / "cub").mkdir()
    header = "paper,table_name,row_name,setting,method,metric,split,selection,value,std,n"
    good = "P,1,r,s,m,a,test,last,0.5,0.01,3"
    for broken in (good.replace("0.5", ""), good.replace("0.5", "x"), good.replace("P", ""), "P,1"):
        (tmp_path / "cub/reported.csv").write_text(f"{header}\n{good}\n{broken}\n")
        with pytest.raises(SpecError, match=r"cub/reported\.csv, line 3"):
            list(references("cub"))


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ("P,1,r,s,m,a,val,last,0.7,,", "line 3: .* are those of line 2; tell them apart by the setting"),
        ("P,1,r,s2,m,a,test,last,nan,,", "line 3: a number is not finite"),
        ("P,1,r,s2,m,a,test,last,0.5,inf,", "line 3: a number is not finite"),
        ("P,1,r,sé,m,a,test,last,0.5,,", "reported.csv, line 3: byte 0xe9 is no UTF-8 text"),
    ],
)
def test_a_number_that_would_be_lost(
    second: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a metric named twice the second line was passed over."""
    monkeypatch.setattr("grid.inputs.references.DATASETS", tmp_path)
    (tmp_path / "cub").mkdir()
    header = "paper,table_name,row_name,setting,method,metric,split,selection,value,std,n"
    text = f"{header}\nP,1,r,s,m,a,test,last,0.5,0.01,3\n{second}\n"
    (tmp_path / "cub/reported.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(SpecError, match=says):
        list(references("cub"))


def test_they_enter_a_store_once(tmp_path: Path) -> None:
    store = ResultsStore.open(f"sqlite:///{tmp_path}/results.db")
    for _ in range(2):
        store.record_references(list(references("cub")))
    with store.reading() as connection:
        values = connection.scalars(select(ReferenceResult.value)).all()
    store.close()
    assert sorted(values) == sorted(row["value"] for row in references("cub"))


def test_a_run_enters_those_of_its_data_sets(
    command: Callable[..., tuple[int, str, str]],
    home: Path,
    tmp_path: Path,
    birds: Path,
    write_spec: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("toybirds", 0.5), ("waterbirds", 0.6)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "reported.csv").write_text(
            "paper,table_name,row_name,setting,method,metric,split,selection,value,std,n\n"
            f"P,1,r,s,standard,average_accuracy,test,last,{value},,\n"
        )
    monkeypatch.setattr("grid.inputs.references.DATASETS", tmp_path)
    monkeypatch.setattr("grid.run._launch", lambda *arguments: 0)  # no trial is run
    entry = {"name": "toybirds", "root": str(birds)}
    spec = write_spec(name="small", datasets=[entry], methods=[{"method": "standard"}])
    assert command("run", str(spec))[0] == 0
    store = ResultsStore.open(f"sqlite:///{home}/results.db")
    with store.reading() as connection:
        found = connection.execute(select(ReferenceResult.dataset, ReferenceResult.value)).all()
    store.close()
    assert [tuple(row) for row in found] == [("toybirds", 0.5)]
