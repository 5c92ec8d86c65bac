"""What experiments cost, against sums by hand over stores whose closures are known."""

import json
import random
from collections.abc import Sequence
from typing import Any

import networkx
import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from analysis.cli import app
from analysis.cost import Cost, cost, costs
from grid.results.store import ResultsStore, TrialEntry

# kind, seconds, images, model inputs, what it reads
STAGES: dict[str, tuple[str, float | None, int, int, list[str]]] = {
    "net": ("classifier", 30.0, 0, 0, []),
    "features": ("backbone_images", 10.0, 100, 100, ["net"]),
    "masks": ("segments", 20.0, 100, 0, []),
    "crops": ("clip_segments", 50.0, 100, 900, ["masks"]),
    "texts": ("clip_texts", 1.0, 0, 0, []),
}
BAG = {"f": "features", "c": "crops", "t": "texts"}


def record(store: ResultsStore, name: str, **more: Any) -> None:
    kind, seconds, images, inputs, reads = STAGES[name]
    store.record_stage(
        {
            "key": name, "kind": kind, "dataset": None if name == "texts" else "birds", "seconds": seconds,
            "images": images, "model_inputs": inputs, "device": "cpu",
            "identity": {"parameters": {}, "data": "f", "inputs": dict(zip("abc", reads, strict=False))}, **more,
        }
    )  # fmt: skip


def begin(store: ResultsStore, experiment: str, made: Sequence[str], there: Sequence[str] = ()) -> int:
    """A launch whose plan had to make some stages and found others."""
    stages = [{"key": key, "cached": key in there} for key in [*made, *there]]
    return store.begin_launch(experiment, spec="", plan={"stages": stages}, command="run")


def trial(name: str, method: str, stages: dict[str, str], **config: Any) -> TrialEntry:
    return TrialEntry(
        id=name, method=method, method_version=1, dataset="birds", data_fingerprint="f", seed=0,
        config=config, stages=stages,
    )  # fmt: skip


def finish(store: ResultsStore, name: str, launch: int, seconds: float, device: str = "cpu") -> None:
    report = {
        "attempt": store.claim(name, launch), "metrics": [], "n_failed": 0, "on_failed": "wrong",
        "seconds": seconds, "provenance": {"device": device},
    }  # fmt: skip
    assert store.finish(name, report)


@pytest.fixture
def two(fresh: str) -> ResultsStore:
    """`a` has two bags, which rest on all stages, and a network on its features; `b` that network again, and a
    bag of other crops of the same masks, which two replicas of half a GPU made."""
    store = ResultsStore.open(fresh)
    launch = begin(store, "a", list(STAGES))
    store.enter("a", [trial("bag-1", "bag", BAG, k=1), trial("bag-2", "bag", BAG, k=2)])
    store.enter("a", [trial("alone", "standard", {"features": "features"})])
    for key in STAGES:
        record(store, key)
    for name, seconds in {"bag-1": 3.0, "bag-2": 5.0, "alone": 1.0}.items():
        finish(store, name, launch, seconds)
    store.end_launch(launch, "done")
    launch = begin(store, "b", ["others"], list(STAGES))
    store.enter("b", [trial("alone", "standard", {"features": "features"})])
    store.enter("b", [trial("bag-3", "bag", {"c": "others", "t": "texts"}, k=3)])
    held = {"device": "cuda", "replicas": 2, "num_gpus": 0.5}
    record(store, "crops", **held, key="others", seconds=40.0)
    finish(store, "bag-3", launch, 7.0, "cuda")
    store.end_launch(launch, "done")
    return store


def rows(found: Cost) -> dict[str, dict[str, Any]]:
    return {row["name"] or row["part"]: row for row in found.table.to_dict("records")}


def test_a_stage_counts_once_and_with_the_experiment_that_made_it(two: ResultsStore) -> None:
    of_a = rows(cost(two, "a"))
    assert {name: row["seconds"] for name, row in of_a.items()} == {
        "classifier": 30, "backbone_images": 10, "segments": 20, "clip_segments": 50, "clip_texts": 1,
        "bag": 8, "standard": 1, "all": 120,
    }  # fmt: skip
    assert (of_a["clip_segments"]["seconds_each"], of_a["clip_segments"]["unit"]) == (0.5, "image")
    assert (of_a["classifier"]["seconds_each"], of_a["classifier"]["unit"]) == (30, "run")
    assert (of_a["bag"]["seconds_each"], of_a["bag"]["unit"], of_a["bag"]["n"]) == (4, "trial", 2)
    assert (of_a["all"]["images"], of_a["all"]["model_inputs"], of_a["all"]["gpu_seconds"]) == (300, 1000, 0)
    of_b = rows(cost(two, "b"))
    assert {name: row["seconds"] for name, row in of_b.items() if row["seconds"]} == {
        "clip_segments": 40, "bag": 7, "all": 47,
    }  # fmt: skip
    assert {name: row["found"] for name, row in of_b.items() if row["part"] != "all"} == {
        "classifier": 1, "backbone_images": 1, "segments": 1, "clip_segments": 0, "clip_texts": 1, "bag": 0,
        "standard": 1,
    }  # fmt: skip
    assert of_b["all"]["gpu_seconds"] == 40 * 2 * 0.5 + 7


def test_what_sharing_saved(two: ResultsStore) -> None:
    a, b = costs(two)
    bag, network = 10 + 30 + 50 + 20 + 1, 10 + 30
    assert a.alone_seconds == (3 + bag) + (5 + bag) + (1 + network)
    assert a.once_seconds == 3 + 5 + 1 + bag
    assert b.alone_seconds == (7 + 40 + 20 + 1) + (1 + network)
    assert b.once_seconds == 7 + 40 + 20 + 1 + 1 + network
    assert [found.summary["factor"] for found in (a, b)] == pytest.approx([271 / 120, 109 / 109])


def test_alone_and_once_of_any_graph(fresh: str) -> None:
    """Against networkx's descendants, in a graph of 40 stages and 30 trials, of which every fifth is pending."""
    rng = random.Random(0)
    graph = networkx.DiGraph()
    store = ResultsStore.open(fresh)
    launch = begin(store, "a", [])
    for number in range(40):
        reads = dict(zip("ab", rng.sample(sorted(graph), min(number, rng.randrange(3))), strict=False))
        store.record_stage(
            {"key": f"s{number}", "kind": "k", "seconds": number, "identity": {"inputs": reads}}
        )
        graph.add_node(f"s{number}", seconds=number)
        graph.add_edges_from((f"s{number}", read) for read in reads.values())
    stages = sorted(graph)
    for number in range(30):
        name, reads = f"t{number}", dict(zip("abc", rng.sample(stages, rng.randrange(4)), strict=False))
        store.enter("a", [trial(name, "m", reads, k=number)])
        if number % 5:
            finish(store, name, launch, 0.5 * number)
            graph.add_node(name, seconds=0.5 * number)
            graph.add_edges_from((name, read) for read in reads.values())
    done = sorted(graph.nodes - stages)
    each = [{name} | networkx.descendants(graph, name) for name in done]
    seconds = lambda names: sum(graph.nodes[name]["seconds"] for name in names)  # noqa: E731
    found = cost(store, "a")
    assert found.alone_seconds == pytest.approx(sum(map(seconds, each)))
    assert found.once_seconds == pytest.approx(seconds(set().union(*each)))
    assert found.alone_seconds > found.once_seconds > 0


def test_a_stage_that_another_launch_made_meanwhile_was_found(fresh: str) -> None:
    """It was missing when this experiment was planned, but was not made while it ran."""
    store = ResultsStore.open(fresh)
    launch = begin(store, "a", ["texts", "net"])
    store.enter("a", [trial("t", "m", {"t": "texts", "n": "net"})])
    record(store, "texts", created_at="2001-01-01T00:00:00+00:00")
    record(store, "net")
    finish(store, "t", launch, 1.0)
    found = rows(cost(store, "a"))
    assert (found["clip_texts"]["found"], found["classifier"]["found"]) == (1, 0)
    assert found["all"]["seconds"] == 30 + 1


def printed(url: str, *arguments: str, status: int = 0) -> str:
    answer = CliRunner().invoke(app, ["cost", *arguments, "--results", url])
    assert answer.exit_code == status, answer.output
    return answer.output


def test_what_is_printed(two: ResultsStore, fresh: str) -> None:
    whole = printed(fresh, "b")
    assert "2 done trials: 109.0 s if each had paid its stages alone" in whole
    assert "sharing saved 0.0 s, a factor of 1.0" in whole
    assert "found, paid by other experiments: 4 stages of 61.0 s, 1 trials of 1.0 s" in whole
    assert "2.5 images/s" in whole, "100 images in 40 s"
    by_name = {row["experiment"]: row for row in json.loads(printed(fresh, "--json"))}
    assert by_name["a"]["stage_seconds"] == 111
    assert by_name["b"]["gpu_seconds"] == 47
    assert len(json.loads(printed(fresh, "a", "--json"))) == 8
    for form in ("--csv", "--markdown", "--latex"):
        assert "clip" in printed(fresh, "b", form)


def test_odd_experiments(fresh: str) -> None:
    """One that is not there, one that is empty, one without launches, and one whose trials all failed."""
    store = ResultsStore.open(fresh)
    assert "no rows" in printed(fresh)
    assert "experiment 'none'" in printed(fresh, "none", status=2)
    store.end_launch(begin(store, "empty", []), "done")
    assert "no trial is done" in printed(fresh, "empty")
    launch = begin(store, "unlucky", ["texts"])
    store.enter("unlucky", [trial(name, "m", {"t": "texts"}, k=name) for name in ("f", "g", "never")])
    for name in ("f", "g"):
        store.claim(name, launch)
        store.fail(name, "no luck")
    store.fail("never", "its stage failed")
    times = "UPDATE trial SET started_at = '2026-01-01T00:00:00.000+00:00', finished_at = :end WHERE id = :id"
    with store.writing() as connection:
        for name, second in {"f": "04.500", "g": "20.000"}.items():
            connection.execute(text(times), {"id": name, "end": f"2026-01-01T00:00:{second}+00:00"})
    whole = printed(fresh, "unlucky")
    assert "no trial is done" in whole
    assert "not in the table: 24.5 s of 2 failed trials" in whole
    assert "does not know them: 1 stages" in whole
    assert {row["experiment"] for row in json.loads(printed(fresh, "--json"))} == {"empty", "unlucky"}
    assert all(row["factor"] is None for row in json.loads(printed(fresh, "--json")))


def test_an_interrupted_trial_ends_with_the_last_sign_of_its_launch(fresh: str) -> None:
    """The launch that finds it dead may come days later."""
    store = ResultsStore.open(fresh)
    launch = begin(store, "a", [])
    store.enter("a", [trial("t", "m", {})])
    store.claim("t", launch)
    store.interrupt(["t"])
    store.end_launch(launch, "interrupted")
    at = "2026-01-{}+00:00".format
    with store.writing() as connection:
        trial_times = {"start": at("01T00:00:00.000"), "end": at("05T00:00:00.000")}
        connection.execute(text("UPDATE trial SET started_at = :start, finished_at = :end"), trial_times)
        launch_times = {"beat": at("01T00:01:00.000"), "end": at("05T00:00:00.000")}
        connection.execute(text("UPDATE launch SET heartbeat_at = :beat, finished_at = :end"), launch_times)
    assert "60.0 s of 1 interrupted trials" in printed(fresh, "a")
    finish(store, "t", begin(store, "a", []), 2.0)
    again = printed(fresh, "a")
    assert "interrupted" not in again
    assert "of 1 earlier attempts of these trials, the seconds are not known" in again


def test_seconds_that_are_not_known_are_said(fresh: str) -> None:
    """One trial, on a stage that was never timed, one that went on after a stop, and one from elsewhere."""
    store = ResultsStore.open(fresh)
    launch = begin(store, "a", ["texts", "masks"])
    store.enter("a", [trial("t", "m", {"t": "texts", "m": "masks", "x": "elsewhere"})])
    record(store, "texts", seconds=None)
    record(store, "masks", images_computed=10)
    finish(store, "t", launch, 2.0)
    with store.writing() as connection:
        connection.execute(text("UPDATE trial SET seconds = NULL"))
    found = rows(cost(store, "a"))
    assert found["segments"]["seconds_each"] == 20 / 10
    for name in ("clip_texts", "m"):
        assert found[name]["untimed"] == 1
        assert not found[name]["seconds"] >= 0, "none, and not 0"
    whole = printed(fresh, "a")
    assert "seconds not known, which count as none: 1 of clip_texts, 1 of m" in whole
    assert "not measured before: clip_texts, m" in whole
    assert "of 1 stages, the seconds before a stop are not known" in whole
    assert "does not know them: 1 stages" in whole


def test_trials_of_an_earlier_form_count_with_all(two: ResultsStore, fresh: str) -> None:
    two.set_form("a", ["alone"])
    seconds = lambda *all_: json.loads(printed(fresh, "a", "--json", *all_))[-1]["seconds"]  # noqa: E731
    assert (seconds(), seconds("--all")) == (30 + 10 + 1, 120)
