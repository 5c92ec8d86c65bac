"""Which stages share a pipeline, and what becomes of those in one that breaks; the pipelines themselves are planted."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayError

from grid.planning.planned import PlannedStage
from grid.progress import Display
from grid.spec.spec import StageResources
from grid.stages import runs
from grid.stages.pipeline import StageFailed
from grid.stages.runs import run_stages

RESOURCES = {
    "small": StageResources(replicas=2, num_cpus=0.75, batch_size=4),
    "also_small": StageResources(replicas=2, num_cpus=0.75, batch_size=64),
    "large": StageResources(replicas=1, num_cpus=2),
}
MANIFEST = {"images_resumed": 0, "found": "", "batch_size": 1, "smallest_device_batch": 1, "failed": 0}


@dataclass(frozen=True)
class Planted:
    """A column stage of a plan, as far as `run_stages` looks at it."""

    key: str
    kind: str = "small"
    images: int = 10
    reads: tuple[str, ...] = ()

    @property
    def stage(self) -> Any:
        return SimpleNamespace(kind=self.kind)

    @property
    def dataset(self) -> Any:
        return SimpleNamespace(name="birds", label="birds")

    @property
    def inputs(self) -> Mapping[str, str]:
        return {key: key for key in self.reads}


Outcome = Callable[[str], dict[str, Any] | Exception]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[dict[str, str], list[str], list[str]]]:
    """Runs these stages, each pipeline ending as `outcome` says of its stages; what failed, the pipelines, and
    the manifests that were recorded."""

    def run_all(stages: Sequence[Planted], outcome: Outcome) -> tuple[dict[str, str], list[str], list[str]]:
        pipelines: list[str] = []
        recorded: list[str] = []

        def planted(group: Sequence[PlannedStage], *given: Any) -> Iterator[tuple[PlannedStage, Any]]:
            pipelines.append("".join(stage.key for stage in group))
            for stage in group:
                ended = outcome(stage.key)
                if isinstance(ended, RayError):
                    raise ended
                yield stage, ended
                if isinstance(ended, StageFailed) and "model" in str(ended):
                    return

        monkeypatch.setattr(runs, "run_column_stages", planted)
        plan = SimpleNamespace(
            stages={},
            needed_stages=lambda trials: list(stages),
            spec=SimpleNamespace(
                max_failed_fraction=0.0, resources=SimpleNamespace(stage=lambda kind: RESOURCES[kind])
            ),
        )
        results = SimpleNamespace(record_stage=lambda manifest: recorded.append(manifest["key"]))
        with Display(stderr=True) as display:
            failed = run_stages(plan, [], None, results, {}, display)  # type: ignore[arg-type]
        return failed, pipelines, recorded

    return run_all


def fine(key: str) -> dict[str, Any]:
    return {**MANIFEST, "key": key, "images_computed": 10, "seconds": 1.0}


def test_stages_that_want_the_same_replicas_share_a_pipeline_once_they_can_start(run, monkeypatch):
    monkeypatch.setattr(runs, "TOGETHER", 45)
    stages = [
        Planted("a"),
        Planted("b", "also_small"),
        Planted("c", "large"),
        Planted("d", reads=("a",)),
        Planted("e", images=40),
        Planted("f"),
    ]
    failed, pipelines, recorded = run(stages, fine)
    assert failed == {}
    assert pipelines == ["ab", "c", "d", "e", "f"], "with e there would be too many images"
    assert recorded == list("abcdef")


def test_of_a_pipeline_that_broke_the_rest_run_alone_and_only_the_culprit_fails(run):
    def outcome(key: str) -> dict[str, Any] | Exception:
        return RayError("a worker died") if key == "b" else fine(key)

    stages = [Planted(key) for key in "abc"] + [Planted("d", reads=("b",)), Planted("e", reads=("c",))]
    failed, pipelines, recorded = run(stages, outcome)
    assert pipelines == ["abc", "b", "c", "e"]
    assert failed == dict.fromkeys("bd", "stage small: a worker died")
    assert recorded == ["a", "c", "e"]


def test_what_a_broken_pipeline_leaves_is_said(run, capsys):
    """Of its first stage, whose progress is shown from the start."""
    trouble = [RayError("a worker died")]

    def outcome(key: str) -> dict[str, Any] | Exception:
        return trouble.pop() if trouble else fine(key)

    failed, pipelines, recorded = run([Planted(key) for key in "ab"], outcome)
    assert failed == {}
    assert pipelines == ["ab", "a", "b"]
    assert recorded == ["a", "b"]
    assert capsys.readouterr().err.count("its pipeline broke, and it goes on in another one") == 1


def test_a_stage_that_fails_leaves_the_others_of_its_pipeline(run):
    def outcome(key: str) -> dict[str, Any] | Exception:
        why = {"a": "10 of 10 images failed", "b": "WrongWeights: no such model"}
        return StageFailed(why[key]) if key in why else fine(key)

    failed, pipelines, recorded = run([Planted(key) for key in "abcd"], outcome)
    assert pipelines == ["abcd", "c", "d"]
    assert failed == {
        "a": "stage small: 10 of 10 images failed",
        "b": "stage small: WrongWeights: no such model",
    }
    assert recorded == ["c", "d"]
