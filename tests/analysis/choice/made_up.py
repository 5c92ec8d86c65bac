"""Stores with made-up numbers of several splits, rules of the weights and drawings of the data."""

from collections.abc import Mapping, Sequence
from typing import Any

from grid.results.store import ResultsStore, TrialEntry

Numbers = Mapping[tuple[str, str, str], float | None]  # by metric, split, selection


def trial(
    method: str, k: int, seed: int, numbers: Numbers | None, *, drawing: str = "f", seconds: float = 1.0,
    groups: Mapping[tuple[str, str], float] | None = None, generator: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """numbers None: it failed. groups: accuracy on the test split by group and selection. generator: knobs of
    what drew the data."""
    return {
        "method": method, "k": k, "seed": seed, "numbers": numbers, "drawing": drawing, "seconds": seconds,
        "groups": groups or {}, "generator": generator or {},
    }  # fmt: skip


def enter(
    store: ResultsStore, trials: Sequence[dict[str, Any]], spec: str = "", experiment: str = "e"
) -> None:
    """Enters the trials as a launch with this spec left them; those that are done are shared."""
    launch = store.begin_launch(experiment, spec=spec, plan={}, command="")
    for one in trials:
        entry = TrialEntry(
            id="-".join(str(one[name]) for name in ("method", "k", "drawing", "seed")), method=one["method"],
            method_version=1, dataset="birds", data_fingerprint=one["drawing"], seed=one["seed"],
            config={"k": one["k"]}, drawing={"generator": one["generator"]} if one["generator"] else {},
        )  # fmt: skip
        store.enter(experiment, [entry])
        if one["numbers"] is None:
            store.fail(entry.id, "boom")
            continue
        attempt = store.claim(entry.id, launch)
        if attempt is None:
            continue
        metrics: list[dict[str, Any]] = [
            {"name": name, "split": split, "selection": selection, "value": value}
            for (name, split, selection), value in one["numbers"].items()
        ]
        metrics += [
            {
                "name": "group_accuracy",
                "split": "test",
                "group": group,
                "selection": selection,
                "value": value,
            }
            for (group, selection), value in one["groups"].items()
        ]
        report = {
            "attempt": attempt, "metrics": metrics, "n_failed": 0, "on_failed": "wrong",
            "seconds": one["seconds"], "provenance": {},
        }  # fmt: skip
        assert store.finish(entry.id, report)
    store.end_launch(launch, "done")
