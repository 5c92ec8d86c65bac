"""The results store: every write to it and the reads that the grid needs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, case, delete, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from grid.free_text import presentable, redacted
from grid.results import reads
from grid.results import report as rows
from grid.results.alive import is_alive, this_process
from grid.results.database import ResultsUnreachable, connect
from grid.results.entry import TrialEntry, param_rows
from grid.results.schema import (
    Base,
    EarlierTrial,
    Experiment,
    ExperimentTrial,
    Launch,
    Metric,
    Preference,
    ReferenceResult,
    Stage,
    Trial,
    TrialParam,
    TrialStage,
)

__all__ = ["IdentityClash", "ResultsStore", "ResultsUnreachable", "TrialEntry"]

T = TypeVar("T")
Asked = ExperimentTrial | EarlierTrial
IN_LIMIT = 500  # values of one IN list: SQLite's number of variables is bounded
ERROR_LENGTH = 4000  # characters: the last lines of a traceback

# A trial that runs again may end as it did before: what the mirror has of it is old all the same.
_MIRROR_IS_STALE = case((Trial.mlflow_run_id.is_not(None), "stale"), else_=Trial.mlflow_status)


class IdentityClash(Exception):  # noqa: N818 (reads as what happened)
    """A trial's id stands in the store with another configuration."""


class ResultsStore:
    """One results store. Every public method is one transaction; safe to use from threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reader = engine.execution_options(reads_only=True)

    @classmethod
    def open(cls, url: str, create: bool = True) -> "ResultsStore":
        """Connects and brings schema and views up to date; with `create=False` the store must
        exist. Raises ResultsUnreachable, whose message is one line without passwords."""
        return cls(connect(url, create))

    @property
    def url(self) -> str:
        """Where the store is, without the password."""
        return redacted(self._engine.url.render_as_string(hide_password=True))

    def close(self) -> None:
        self._engine.dispose()

    def reading(self) -> AbstractContextManager[Connection]:
        """A connection for queries, which waits for no writer."""
        return self._reader.connect()

    def writing(self) -> AbstractContextManager[Connection]:
        """A transaction that may write; on SQLite it holds the one write lock."""
        return self._engine.begin()

    # Launches

    def begin_launch(
        self,
        experiment: str,
        *,
        spec: str,
        plan: Mapping[str, Any],
        command: str,
        git_commit: str | None = None,
        git_dirty: bool | None = None,
    ) -> int:
        """Notes that this process runs `experiment` now; returns the launch's id."""
        now = _now()
        values = {
            "experiment": experiment,
            "spec": presentable(spec),
            "plan": rows.as_json(plan) or "{}",
            "command": presentable(command),
            "git_commit": git_commit,
            "git_dirty": git_dirty,
            "started_at": now,
            "heartbeat_at": now,
            "status": "running",
            **this_process(),
        }
        with self.writing() as connection:
            self._insert(connection, Experiment, [{"name": experiment, "created_at": now}])
            return connection.execute(insert(Launch).values(values).returning(Launch.id)).scalar_one()

    def beat(self, launch_id: int) -> None:
        """The launch is alive; to be called more often than once a minute."""
        self._set_launch(launch_id, heartbeat_at=_now())

    def end_launch(self, launch_id: int, status: str) -> None:
        """`status` is 'done', 'failed' or 'interrupted'."""
        self._set_launch(launch_id, status=status, finished_at=_now())

    def _set_launch(self, launch_id: int, **values: str) -> None:
        with self.writing() as connection:
            connection.execute(update(Launch).where(Launch.id == launch_id).values(values))

    def heal(self) -> list[str]:
        """Launches whose process died become 'interrupted', and so do the trials they ran.

        Returns the ids of those trials.
        """
        now = _now()
        with self.writing() as connection:
            running = connection.execute(
                select(Launch.id, Launch.host, Launch.pid, Launch.process_started, Launch.heartbeat_at).where(
                    Launch.status == "running"
                )
            ).all()
            dead = [
                launch.id
                for launch in running
                if not is_alive(launch.host, launch.pid, launch.process_started, launch.heartbeat_at)
            ]
            interrupted = {"status": "interrupted", "finished_at": now}
            connection.execute(update(Launch).where(Launch.id.in_(dead)).values(interrupted))
            ended = select(Launch.id).where(Launch.status != "running")
            left = (Trial.status == "running", Trial.launch_id.in_(ended))
            healed = update(Trial).where(*left).values(interrupted).returning(Trial.id)
            return list(connection.scalars(healed))

    # Trials

    def enter(self, experiment: str, entries: Sequence[TrialEntry]) -> None:
        """Enters what is not there yet; trials that are there keep their state.

        Raises IdentityClash if an id stands in the store with another configuration.
        """
        with self.writing() as connection:
            self._insert(connection, Experiment, [{"name": experiment, "created_at": _now()}])
            known = self._known_configs(connection, entries)
            new = [entry for entry in entries if entry.id not in known]
            self._insert(connection, Trial, [entry.trial_row() for entry in new])
            self._insert(connection, TrialParam, param_rows(entries, known))
            reads = (
                {"trial_id": entry.id, "name": name, "stage_key": key}
                for entry in new
                for name, key in entry.stages.items()
            )
            self._insert(connection, TrialStage, reads)
            for table in (ExperimentTrial, EarlierTrial):
                _delete(connection, table, experiment, (entry.id for entry in entries))
            self._insert(connection, ExperimentTrial, [entry.asked_row(experiment) for entry in entries])

    def set_form(self, experiment: str, asked: Iterable[str]) -> None:
        """The present form of an experiment asks for these of the trials that were ever entered for it; its
        others are of an earlier form."""
        wanted = set(asked)
        with self.writing() as connection:
            held = {
                table: set(connection.scalars(select(table.trial_id).where(table.experiment == experiment)))
                for table in (ExperimentTrial, EarlierTrial)
            }
            self._move(connection, experiment, ExperimentTrial, EarlierTrial, held[ExperimentTrial] - wanted)
            self._move(connection, experiment, EarlierTrial, ExperimentTrial, held[EarlierTrial] & wanted)

    def _move(
        self, connection: Connection, experiment: str, of: type[Asked], to: type[Asked], ids: set[str]
    ) -> None:
        held = reads.rows(connection, of, of.experiment == experiment)
        self._insert(connection, to, [row for row in held if row["trial_id"] in ids])
        _delete(connection, of, experiment, sorted(ids))

    @staticmethod
    def _known_configs(connection: Connection, entries: Sequence[TrialEntry]) -> set[str]:
        entered = {entry.id: entry for entry in entries}
        known = set()
        for ids in _chunks(entered):
            query = select(Trial.id, Trial.config_id, Trial.seed).where(Trial.id.in_(ids))
            for trial_id, config_id, seed in connection.execute(query):
                if (config_id, seed) != (entered[trial_id].config_id, entered[trial_id].seed):
                    raise IdentityClash(f"trial {trial_id} is in the store with another config")
                known.add(trial_id)
        return known

    def statuses(self, ids: Iterable[str]) -> dict[str, str]:
        """The status of each of those trials that are in the store, as a launch sees it: one that is to run
        again is pending."""
        found: dict[str, str] = {}
        status = case((Trial.to_rerun.is_(True), "pending"), else_=Trial.status)
        with self.reading() as connection:
            for chunk in _chunks(ids):
                query = select(Trial.id, status).where(Trial.id.in_(chunk))
                found.update((trial_id, status) for trial_id, status in connection.execute(query))
        return found

    def claim(self, trial_id: str, launch_id: int | None) -> int | None:
        """Takes a trial for this launch, and forgets its numbers: the number of its attempt (from 1), or None
        if it is done or stopped and not to run again, running, or not there. Of many processes exactly one
        gets it."""
        free = or_(Trial.status.in_(("pending", "failed", "interrupted")), Trial.to_rerun.is_(True))
        claimed = (
            update(Trial)
            .where(Trial.id == trial_id, free)
            .values(
                status="running",
                to_rerun=None,
                launch_id=launch_id,
                attempt=Trial.attempt + 1,
                started_at=_now(),
                finished_at=None,
                seconds=None,
                error=None,
                warning=None,
                stopped_step=None,
                stopped_value=None,
                stopped_metric=None,
                mlflow_status=_MIRROR_IS_STALE,
            )
            .returning(Trial.attempt)
        )
        with self.writing() as connection:
            attempt = connection.scalar(claimed)
            if attempt is not None:
                _forget_numbers(connection, trial_id)
            return attempt

    def finish(self, trial_id: str, report: Mapping[str, Any]) -> bool:
        """Sets a running trial done, with its metrics, in one transaction.

        False, and nothing written, if another launch has taken the trial over meanwhile: then
        this attempt is no longer the running one.
        """
        return self._end(trial_id, report, rows.done_row(report))

    def stop(self, trial_id: str, report: Mapping[str, Any]) -> bool:
        """As `finish`, of a running trial that was stopped early: its metrics are a curve."""
        return self._end(trial_id, report, rows.stopped_row(report))

    def _end(self, trial_id: str, report: Mapping[str, Any], columns: Mapping[str, Any]) -> bool:
        attempt = (
            Trial.id == trial_id,
            Trial.status == "running",
            Trial.attempt == int(report["attempt"]),
        )
        ended = {**columns, "finished_at": _now()}
        with self.writing() as connection:
            if connection.execute(update(Trial).where(*attempt).values(ended)).rowcount == 0:
                return False
            _forget_numbers(connection, trial_id)
            self._insert(connection, Metric, [rows.metric_row(trial_id, one) for one in report["metrics"]])
            return True

    def fail(self, trial_id: str, error: str) -> None:
        """Sets a trial that is neither done nor stopped failed, keeping the error's last lines."""
        failed = {
            "status": "failed",
            "error": presentable(error)[-ERROR_LENGTH:],
            "finished_at": _now(),
        }
        with self.writing() as connection:
            connection.execute(
                update(Trial)
                .where(Trial.id == trial_id, Trial.status.not_in(("done", "stopped")))
                .values(failed)
            )

    def interrupt(self, trial_ids: Iterable[str]) -> None:
        """Sets those of the trials that are running interrupted."""
        interrupted = {"status": "interrupted", "finished_at": _now()}
        with self.writing() as connection:
            for ids in _chunks(trial_ids):
                running = (Trial.id.in_(ids), Trial.status == "running")
                connection.execute(update(Trial).where(*running).values(interrupted))

    def reopen(self, trial_id: str) -> bool:
        """The next launch that asks for the trial runs it again; until then nothing of it changes. False if
        it runs or is unknown."""
        still = (Trial.id == trial_id, Trial.status != "running")
        with self.writing() as connection:
            return connection.execute(update(Trial).where(*still).values(to_rerun=True)).rowcount > 0

    # Stages, published numbers, votes

    def record_stage(self, manifest: Mapping[str, Any]) -> None:
        """Copies an artifact's manifest; `key` and `kind` are required, and it replaces itself."""
        row = rows.stage_row(manifest, _now())
        with self.writing() as connection:
            connection.execute(delete(Stage).where(Stage.key == row["key"]))
            connection.execute(insert(Stage).values(row))

    def record_references(self, references: Sequence[Mapping[str, Any]]) -> None:
        """Enters the published numbers (columns of `reference_result`) of the data sets that they name, in
        place of what was entered of these before."""
        ours = ReferenceResult.dataset.in_({row["dataset"] for row in references})
        with self.reading() as connection:
            known = reads.rows(connection, ReferenceResult, ours)
        names = ReferenceResult.__table__.columns.keys()
        if len({tuple(row.get(name) for name in names) for row in [*known, *references]}) == len(known):
            return
        with self.writing() as connection:
            connection.execute(delete(ReferenceResult).where(ours))
            self._insert(connection, ReferenceResult, references)

    def record_preference(self, vote: Mapping[str, Any]) -> bool:
        """Enters a vote: the columns of `preference` except `id` and `created_at`. False, and nothing
        written, if this voter has one on these trials' explanations of this image already."""
        trials = (vote["left_trial"], vote["right_trial"])
        with self.writing() as connection:
            voted = reads.preferences(connection, vote["experiment"], trials, vote["voter"])
            if any(row["image_id"] == vote["image_id"] for row in voted):
                return False
            connection.execute(insert(Preference).values(created_at=_now(), **vote))
            return True

    def forget_last_preference(self, experiment: str, trials: tuple[str, str], voter: str) -> bool:
        """Removes the newest vote of a voter between two trials; False if there is none."""
        with self.writing() as connection:
            voted = reads.preferences(connection, experiment, trials, voter)
            for row in voted[-1:]:
                connection.execute(delete(Preference).where(Preference.id == row["id"]))
            return bool(voted)

    def preferences(self, experiment: str, trials: tuple[str, str], voter: str) -> list[dict[str, Any]]:
        """The votes of a voter between two trials, whichever stood left, the oldest first."""
        with self.reading() as connection:
            return reads.preferences(connection, experiment, trials, voter)

    # Reads

    def trial(self, id_or_prefix: str) -> dict[str, Any]:
        """A trial's columns, its `params`, `metrics`, `stages`, the `experiments` that ask for it, and those
        of them that did in an earlier form only (`experiments_earlier`); `variants`: as which of a block's
        variants, by experiment.

        Raises LookupError if no trial or more than one starts with the prefix.
        """
        with self.reading() as connection:
            return reads.trial(connection, id_or_prefix)

    def done_trials(self, experiment: str) -> list[dict[str, Any]]:
        """The columns of an experiment's finished trials, by id. Raises LookupError as the summary does."""
        self.experiment_summary(experiment)
        with self.reading() as connection:
            return reads.done_trials(connection, experiment)

    def experiment_summary(self, name: str) -> dict[str, Any]:
        """Trials by status, seconds of compute, failed trials with their errors, all launches; `earlier`:
        those that only an earlier form asked for, by status, which count nowhere else; `no_number`: done
        trials with accuracies that are not numbers, and which; `warnings` of done trials, by id; `to_rerun`:
        ids of trials that run again next time; `stages` that its trials read, with what they `found`.

        Raises LookupError for an experiment that is not in the store.
        """
        with self.reading() as connection:
            return reads.experiment_summary(connection, name)

    def _insert(self, connection: Connection, table: type[Base], new: Iterable[Mapping[str, Any]]) -> None:
        """INSERT … ON CONFLICT DO NOTHING, in blocks."""
        dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        statement = dialect.insert(table).on_conflict_do_nothing()
        for block in _chunks(new, size=10_000):
            connection.execute(statement, [dict(row) for row in block])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _chunks(values: Iterable[T], size: int = IN_LIMIT) -> Iterator[list[T]]:
    iterator = iter(values)
    while block := list(islice(iterator, size)):
        yield block


def _delete(
    connection: Connection,
    table: type[Asked],
    experiment: str,
    trial_ids: Iterable[str],
) -> None:
    for ids in _chunks(trial_ids):
        connection.execute(delete(table).where(table.experiment == experiment, table.trial_id.in_(ids)))


def _forget_numbers(connection: Connection, trial_id: str) -> None:
    connection.execute(delete(Metric).where(Metric.trial_id == trial_id))
