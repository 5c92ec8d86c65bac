"""The life of launches and trials in the store."""

import math
import os
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event, text

from grid.results.store import IdentityClash, ResultsStore, TrialEntry

CLAIM_ALL = """
import sys
from grid.results.store import ResultsStore
store = ResultsStore.open(sys.argv[1])
launch = store.begin_launch("e", spec="", plan={}, command="")
print(*(number for number in range(40) if store.claim(f"t{number}", launch)))
"""
RUN_FOR_EVER = """
import sys, time
from grid.results.store import ResultsStore
store = ResultsStore.open(sys.argv[1])
launch = store.begin_launch("e", spec="", plan={}, command="")
store.claim("t0", launch)
print(launch, flush=True)
time.sleep(600)
"""


def entry(number: int = 0, **config: Any) -> TrialEntry:
    return TrialEntry(
        id=f"t{number}",
        method="salf_cbm",
        method_version=1,
        dataset="toybirds",
        data_fingerprint="f",
        seed=number,
        config=config or {"k_top": 5},
        stages={"clip": "key-of-clip"},
    )


def report(attempt: int = 1, **changes: Any) -> dict[str, Any]:
    metric = {"name": "average_accuracy", "value": 0.5, "split": "test", "group": "all"}
    return {
        "attempt": attempt,
        "metrics": [{**metric, "selection": "last", "step": None}],
        "n_failed": 0,
        "on_failed": "wrong",
        "seconds": 2.5,
        "provenance": {"git_commit": "abc", "git_dirty": False, "versions": {"torch": "2"}},
        "uri": "file:///trials/t0/1",
        "pictures": [],
        **changes,
    }


def running(store: ResultsStore) -> int:
    store.enter("e", [entry()])
    launch = store.begin_launch("e", spec="", plan={}, command="")
    assert store.claim("t0", launch) == 1
    return launch


def one(store: ResultsStore, query: str) -> Any:
    with store.reading() as connection:
        return connection.scalar(text(query))


def test_a_trial_from_entry_to_done(store: ResultsStore) -> None:
    launch = running(store)
    assert store.statuses(["t0", "unknown"]) == {"t0": "running"}
    assert store.finish("t0", report())
    trial = store.trial("t")
    assert (trial["status"], trial["attempt"], trial["launch_id"]) == ("done", 1, launch)
    assert (trial["git_commit"], trial["seconds"]) == ("abc", 2.5)
    assert trial["metrics"][0]["value"] == 0.5
    assert trial["stages"][0]["stage_key"] == "key-of-clip"
    assert store.claim("t0", launch) is None
    assert store.experiment_summary("e")["trials"] == {"done": 1}


def test_entering_again_changes_nothing(store: ResultsStore) -> None:
    running(store)
    store.enter("other experiment", [entry(), entry(1)])
    assert store.statuses(["t0", "t1"]) == {"t0": "running", "t1": "pending"}
    assert store.trial("t0")["experiments"] == ["e", "other experiment"]


def test_one_id_with_another_configuration_is_a_clash(store: ResultsStore) -> None:
    store.enter("e", [entry(k_top=5)])
    store.enter("e", [entry(k_top=5.0)])
    with pytest.raises(IdentityClash, match="t0"):
        store.enter("e", [entry(1), entry(k_top=6)])
    assert store.statuses(["t1"]) == {}, "the whole call is one transaction"


@pytest.mark.parametrize(
    ("value", "stored", "status"),
    [
        (math.nan, None, "nan"),
        (None, None, "nan"),
        (np.float32(math.inf), None, "inf"),
        (np.int64(3), 3.0, "ok"),
        (np.float32(0.25), 0.25, "ok"),
    ],
)
def test_values_are_plain_numbers_or_null_with_a_status(
    store: ResultsStore, value: Any, stored: float | None, status: str
) -> None:
    running(store)
    metric = {"name": "m", "value": value, "split": "test", "group": "all", "step": np.int64(7)}
    store.finish("t0", report(metrics=[metric], n_failed=np.int64(2)))
    trial = store.trial("t0")
    kept = trial["metrics"][0]
    assert (kept["value"], kept["status"], kept["step"]) == (stored, status, 7)
    assert (type(kept["step"]), trial["n_failed"]) == (int, 2)


def test_the_flattened_configuration_becomes_parameters(store: ResultsStore) -> None:
    nested = {"name": "slic", "scale": 3.0, "deep": {}}
    store.enter("e", [entry(k_top=5, tau=0.1 + 0.2, on=True, sizes=[1, 2], seg=nested, seed=4)])
    params = {row["name"]: row for row in store.trial("t0")["params"]}
    shown = {name: (row["value"], row["number"], row["text"]) for name, row in params.items()}
    assert shown == {
        "k_top": ("5", 5.0, None),
        "tau": ("0.3", 0.3, None),
        "on": ("true", None, "true"),
        "sizes": ("[1,2]", None, "[1,2]"),
        "seg.name": ("slic", None, "slic"),
        "seg.scale": ("3", 3.0, None),
        "seg.deep": ("{}", None, "{}"),
    }


def test_rest_pairs_trials_that_differ_in_one_knob(store: ResultsStore) -> None:
    def rests(number: int, **config: Any) -> dict[str, str]:
        store.enter("e", [entry(number, **config)])
        return {row["name"]: row["rest"] for row in store.trial(f"t{number}")["params"]}

    slic = rests(1, k_top=5, seg={"name": "slic", "scale": 3})
    more = rests(2, k_top=9, seg={"name": "slic", "scale": 3})
    grid = rests(3, k_top=5, seg={"name": "grid", "rows": 7})
    assert slic["k_top"] == more["k_top"] != grid["k_top"]
    assert slic["seg.name"] == grid["seg.name"] != more["seg.name"]
    assert slic["seg.scale"] != more["seg.scale"]


def test_failed_and_interrupted_trials_are_claimed_again(store: ResultsStore) -> None:
    launch = running(store)
    store.fail("t0", "x" * 9000 + "postgresql://a:secret@h: out of memory")
    error = store.trial("t0")["error"]
    assert error.endswith("postgresql://a:***@h: out of memory")
    assert len(error) == 4000
    assert store.experiment_summary("e")["failures"] == {"t0": error}
    assert store.claim("t0", launch) == 2
    store.interrupt(["t0", "unknown"])
    assert store.claim("t0", launch) == 3
    assert store.trial("t0")["error"] is None


def test_the_report_of_an_attempt_that_was_taken_over_is_not_taken(store: ResultsStore) -> None:
    launch = running(store)
    store.interrupt(["t0"])
    assert store.claim("t0", launch) == 2
    assert not store.finish("t0", report(attempt=1))
    assert store.trial("t0")["metrics"] == []
    assert store.finish("t0", report(attempt=2))
    store.fail("t0", "too late")
    assert store.statuses(["t0"]) == {"t0": "done"}


def test_numbers_are_forgotten_when_a_launch_takes_the_trial_again(store: ResultsStore) -> None:
    launch = running(store)
    assert not store.reopen("t0"), "it is running"
    store.finish("t0", report())
    assert store.claim("t0", launch) is None, "it is done"
    assert store.reopen("t0")
    assert store.statuses(["t0"]) == {"t0": "pending"}
    assert store.trial("t0")["metrics"] != []
    assert store.claim("t0", launch) == 2
    assert store.trial("t0")["metrics"] == []
    assert store.claim("t0", launch) is None, "it runs"


def test_passwords_are_not_stored(store: ResultsStore) -> None:
    address = "postgresql://a:secret@h/x"
    store.begin_launch("e", spec=address, plan={"results": address}, command=f"run {address}")
    assert "secret" not in str(store.experiment_summary("e"))


def test_a_stage_is_recorded_and_replaces_itself(store: ResultsStore) -> None:
    manifest = {"key": "k", "kind": "clip", "images": np.int64(9), "params": {"radius": 32}}
    store.record_stage(manifest)
    store.record_stage({**manifest, "images": 10, "unforeseen": "kept in the manifest"})
    assert one(store, "SELECT SUM(images) FROM stage") == 10
    assert one(store, "SELECT params FROM stage") == '{"radius": 32}'
    assert "unforeseen" in one(store, "SELECT manifest FROM stage")


def test_trials_are_found_by_prefix(store: ResultsStore) -> None:
    store.enter("e", [entry(1), entry(12)])
    assert store.trial("t12")["id"] == "t12"
    assert store.trial("t1")["id"] == "t1", "a whole id wins over a prefix"
    for unclear in ("t", "x", "t%", "_"):
        with pytest.raises(LookupError):
            store.trial(unclear)


def test_trials_are_entered_by_the_thousand_not_one_by_one(store: ResultsStore) -> None:
    """The round trips to the database, each with many rows, do not grow as the trials do."""
    knobs = {f"knob_{number}": number * 0.1 for number in range(15)}
    entries = [entry(number, k_top=number // 5, **knobs) for number in range(1000)]
    sent = []
    with store.writing() as connection:
        event.listen(connection.engine, "before_cursor_execute", lambda *given: sent.append(given))
    store.enter("e", entries[:100])
    few = len(sent)
    store.enter("e", entries)
    assert few < 20
    assert len(sent) - few < 2 * few
    assert one(store, "SELECT COUNT(*) FROM trial_param") == 16_000


def test_four_processes_claim_each_trial_once(store: ResultsStore, url: str) -> None:
    store.enter("e", [entry(number) for number in range(40)])
    command = [sys.executable, "-c", CLAIM_ALL, url]
    claimers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    claimed = " ".join(claimer.communicate(timeout=60)[0] for claimer in claimers).split()
    assert sorted(map(int, claimed)) == list(range(40))


def test_the_trials_of_a_killed_launch_are_healed(store: ResultsStore, url: str) -> None:
    store.enter("e", [entry(0), entry(1)])
    ours = store.begin_launch("e", spec="", plan={}, command="")
    store.claim("t1", ours)
    other = subprocess.Popen([sys.executable, "-c", RUN_FOR_EVER, url], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    theirs = int(other.stdout.readline())
    assert store.heal() == [], "both processes are alive"
    os.kill(other.pid, signal.SIGKILL)
    other.communicate()
    assert store.heal() == ["t0"]
    assert store.statuses(["t0", "t1"]) == {"t0": "interrupted", "t1": "running"}
    launches = {launch["id"]: launch for launch in store.experiment_summary("e")["launches"]}
    assert (launches[theirs]["status"], launches[ours]["status"]) == ("interrupted", "running")


def test_a_pid_used_again_and_a_silent_host_are_dead(store: ResultsStore) -> None:
    store.enter("e", [entry(0), entry(1), entry(2)])
    launches = [store.begin_launch("e", spec="", plan={}, command="") for _ in range(3)]
    for number, launch in enumerate(launches):
        store.claim(f"t{number}", launch)
    changes = [
        "process_started = process_started - 3600",
        "host = 'elsewhere', heartbeat_at = '2020-01-01T00:00:00+00:00'",
        "host = 'elsewhere'",
    ]
    with store.writing() as connection:
        for launch, change in zip(launches, changes, strict=True):
            connection.execute(text(f"UPDATE launch SET {change} WHERE id = {launch}"))
    assert store.heal() == ["t0", "t1"]


def test_a_launch_that_ended_leaves_no_trial_running(store: ResultsStore) -> None:
    launch = running(store)
    store.beat(launch)
    store.end_launch(launch, "interrupted")
    assert store.heal() == ["t0"]


def test_an_error_that_no_database_takes_is_kept_as_escapes(store: ResultsStore) -> None:
    store.enter("e", [entry()])
    store.fail("t0", "no file b\udcff.png\0 at postgresql://me:pw@host/db")
    error = store.trial("t0")["error"]
    assert error == r"no file b\udcff.png\x00 at postgresql://me:***@host/db"
