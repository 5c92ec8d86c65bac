"""MLflow as a mirror of the results store: written from SQL, rebuilt from it, never read.

Whatever goes wrong here is said in one line and costs nothing: the trial's `mlflow_status` in SQL
stays behind its `status`, and the next command mirrors it again. SQL also notes which experiment of which
MLflow it has mirrored to (`mlflow_place`): in another one, what it lacks is mirrored again.
"""

import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, or_, select, union, update

from grid.free_text import redacted
from grid.results.reads import rows, stopped_line, varying_knobs
from grid.results.schema import EarlierTrial, Experiment, ExperimentTrial, Launch, Trial
from grid.results.store import ResultsStore
from grid.stores.evidence import PICTURES
from grid.tracking.files import local_folder, log_folder
from grid.tracking.first_look import NOTE, in_order, runs_page, view_tags
from grid.tracking.keys import NAME_LENGTH, PARAM_LENGTH, TAG_LENGTH, key, metric_key, shortened
from grid.tracking.place import Place, id_in, known_identity, open_place

log = logging.getLogger(__name__)

RUN_STATUS = {
    "pending": "SCHEDULED",
    "running": "RUNNING",
    "done": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
    "stopped": "KILLED",  # not FINISHED: it has no final numbers; the tag `stopped` tells it from the above
}
ON_FRONT = "on_front"  # the tag of runs that a search with several goals ends with
CREATING = "creating"  # in `mlflow_status`: a run may exist whose id SQL does not know yet
DIGEST_LENGTH = 36  # of a data set, at most
METRICS_AT_ONCE, PARAMS_AT_ONCE = 1000, 100  # MLflow's limits of one log_batch
GIVE_UP_AFTER = 3  # failures in a row: the server is away, and each try costs its timeout
Job = Callable[[], object]
Table = type[Trial] | type[Launch]


def needs_mirror(store: ResultsStore, experiment: str, tracking_uri: str) -> bool:
    """Whether MLflow is behind SQL on this experiment, or may be: what a server has lost only MLflow can
    tell."""
    behind = any(_runs(store, table, experiment, _behind(table)) for table in (Launch, Trial))
    identity = known_identity(tracking_uri, experiment)
    return behind or identity is None or identity != _noted(store, experiment)


def _runs(store: ResultsStore, table: Table, experiment: str, which: ColumnElement[bool]) -> dict[Any, str]:
    """Ids of an experiment's launches, or of its trials, with those of their runs. Also of trials of an
    earlier form: no run is left RUNNING when its trial has ended."""
    forms = (select(of.trial_id).where(of.experiment == experiment) for of in (ExperimentTrial, EarlierTrial))
    ours = Launch.experiment == experiment if table is Launch else Trial.id.in_(union(*forms))
    query = select(table.id, table.mlflow_run_id).where(ours, which).order_by(table.id)
    with store.reading() as connection:
        return {row_id: run_id or "" for row_id, run_id in connection.execute(query)}


def _behind(table: Table) -> ColumnElement[bool]:
    behind = or_(table.mlflow_status.is_(None), table.mlflow_status != table.status)
    return behind & or_(table.status != "pending", table.mlflow_status.is_not(None))


def _noted(store: ResultsStore, experiment: str) -> str | None:
    """The identity of the experiment of MLflow that this one was last mirrored to."""
    with store.reading() as connection:
        return connection.scalar(select(Experiment.mlflow_place).where(Experiment.name == experiment))


def main_metrics_page(store: ResultsStore, experiment: str, tracking_uri: str) -> str | None:
    """Where MLflow shows the main metrics, within its address, as far as the mirror is whole there."""
    experiment_id = id_in(_noted(store, experiment), tracking_uri)
    return None if experiment_id is None else runs_page(experiment_id)


class Mirror:
    """The MLflow experiment `experiment` at `tracking_uri`, kept like `store`.

    A thread of its own connects at once (seconds, on a new database) and does what was submitted,
    so that the caller never waits; `close` waits for it. The methods named `mirror_…` do their
    work at once and raise what MLflow raises.
    """

    def __init__(self, tracking_uri: str, store: ResultsStore, experiment: str) -> None:
        self._uri = tracking_uri
        self._store = store
        self._experiment = experiment
        self._lock = threading.RLock()
        self._place: Place | None = None
        self._failures_in_a_row = 0
        self._is_viewed = False
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="mlflow mirror", daemon=True)
        self._thread.start()

    def submit(self, trial_id: str) -> None:
        """Mirrors the trial soon."""
        self._jobs.put(partial(self.mirror_trial, trial_id))

    def submit_launch(self, launch_id: int, files: Mapping[str, str]) -> None:
        """Mirrors the launch soon, with `files` (name to text) as artifacts."""
        self._jobs.put(partial(self.mirror_launch, launch_id, files))

    def submit_front(self, trial_ids: Sequence[str]) -> None:
        """Tags soon the runs of these trials, and of no others: a search's configurations that no other
        beats."""
        self._jobs.put(partial(self.mirror_front, trial_ids))

    def submit_heal(self) -> None:
        """Mirrors soon what earlier commands left behind."""
        self._jobs.put(self.heal)

    def close(self) -> None:
        """Waits until everything submitted is mirrored, or has failed and said so."""
        self._jobs.put(None)
        self._thread.join()

    def mirror_trial(self, trial_id: str) -> None:
        """Writes a trial as it is in SQL now; again and again, if need be, to the same run."""
        with self._lock:
            trial = self._store.trial(trial_id)
            tags = self._tags("trial", trial) | {
                "trial": trial_id,
                "attempt": str(trial["attempt"]),
                "error": (trial["error"] or "")[-4000:],
                "warning": trial["warning"] or "",
                "stopped": stopped_line(trial),
                **{name: str(trial[name]) for name in ("method", "dataset", "seed", "config_id")},
            }
            run_id = self._run_of(
                Trial, trial, f"tags.trial = '{trial_id}'", partial(self._name, trial), tags
            )
            self._log(run_id, trial, tags)
            left = local_folder(trial["artifacts_uri"])
            if trial["status"] == "done" and left and (left / PICTURES).is_file():  # what their numbers mean
                self._client.log_artifact(run_id, str(left / PICTURES))
            for name in ("pictures", "files"):
                if trial["status"] == "done" and left and (left / name).is_dir():
                    log_folder(self._client, run_id, left / name, name)
            self._set_status(run_id, trial)
            if trial["status"] == "done" and not self._is_viewed:
                self._save_view()
            same = (Trial.status == trial["status"], Trial.attempt == trial["attempt"])
            self._note(Trial, trial_id, *same, mlflow_status=trial["status"])

    def mirror_launch(self, launch_id: int, files: Mapping[str, str]) -> None:
        """Writes the launch's summary run: the spec, the plan and `files` (name to text)."""
        with self._lock:
            with self._store.reading() as connection:
                launch = rows(connection, Launch, Launch.id == launch_id)[0]
            launch["launch_id"] = launch_id
            tags = self._tags("launch", launch) | {"command": launch["command"][:4000]}
            ours = f"tags.launch = '{launch_id}' AND tags.kind = 'launch'"
            run_id = self._run_of(Launch, launch, ours, lambda: f"launch {launch_id}", tags)
            self._client.log_batch(run_id, tags=_tag_list(tags))
            for name, text in {
                "spec.yaml": launch["spec"],
                "plan.json": launch["plan"],
                **files,
            }.items():
                self._client.log_text(run_id, redacted(text), name)
            self._set_status(run_id, launch)
            self._save_view()
            same = Launch.status == launch["status"]
            self._note(Launch, launch_id, same, mlflow_status=launch["status"])

    def mirror_front(self, trial_ids: Sequence[str]) -> None:
        """Writes the tag `on_front` to these trials' runs, and takes it from all others."""
        with self._lock:
            runs = {self._store.trial(trial_id)["mlflow_run_id"] for trial_id in trial_ids}
            tagged = {run.info.run_id for run in self._search(f"tags.{ON_FRONT} = 'true'")}
            for run_id in tagged - runs:
                self._client.delete_tag(run_id, ON_FRONT)
            for run_id in runs - tagged - {None}:
                self._client.set_tag(run_id, ON_FRONT, "true")

    def heal(self) -> None:
        """Mirrors whatever is stale or, where this is not the MLflow that was noted, missing; and ends the
        runs that no trial or launch stands behind."""
        identity = self._connect().identity
        changed = identity != _noted(self._store, self._experiment)
        launches, trials = self._to_mirror(Launch, changed), self._to_mirror(Trial, changed)
        mirrored = [self._try(partial(self.mirror_launch, launch_id, {})) for launch_id in launches]
        mirrored += [self._try(partial(self.mirror_trial, trial_id)) for trial_id in trials]
        if changed and all(mirrored):
            ours = Experiment.name == self._experiment
            with self._store.writing() as connection:
                connection.execute(update(Experiment).where(ours).values(mlflow_place=identity))
        self._try(self._end_lost_runs)

    def _to_mirror(self, table: Table, changed: bool) -> list[Any]:
        behind = _behind(table)
        found = list(_runs(self._store, table, self._experiment, behind))
        if changed:
            others = _runs(self._store, table, self._experiment, table.mlflow_run_id.is_not(None) & ~behind)
            found += [row_id for row_id, run_id in others.items() if not self._is_there(run_id)]
        return found

    # The thread

    def _work(self) -> None:
        self._try(self._connect)
        while (job := self._jobs.get()) is not None:
            self._try(job)

    def _try(self, job: Job) -> bool:
        """Whether it was done."""
        if self._failures_in_a_row >= GIVE_UP_AFTER:
            return False
        failures_before = self._failures_in_a_row
        try:
            job()
            if self._failures_in_a_row == failures_before:  # not so if jobs within it failed
                self._failures_in_a_row = 0
            return True
        except Exception as error:  # whatever MLflow raises: SQL has everything, see the module
            self._failures_in_a_row += 1
            gives_up = self._failures_in_a_row == GIVE_UP_AFTER
            reason = redacted(str(error)).strip().partition("\n")[0][:300]
            then = "no more tries now" if gives_up else "the results store is not affected"
            log.warning("MLflow: %s: %s; %s", type(error).__name__, reason, then)
            return False

    # MLflow

    @property
    def _client(self) -> Any:
        return self._connect().client

    def _connect(self) -> Place:
        """On the first call the database is made, if need be."""
        with self._lock:
            if self._place is None:
                self._place = open_place(self._uri, self._experiment)
            return self._place

    def _run_of(
        self,
        table: Table,
        row: Mapping[str, Any],
        ours: str,
        name: Callable[[], str],
        tags: Mapping[str, str],
    ) -> str:
        """The id of the row's run. The intent is in SQL before the run is in MLflow, so a run
        whose id was lost in between is found by its tags (`ours`) and no second one is made.
        `name` is called for a new run only."""
        if row["mlflow_run_id"] and self._is_there(row["mlflow_run_id"]):
            return str(row["mlflow_run_id"])
        store = shortened(self._store.url, TAG_LENGTH)
        found = [run for run in self._search(ours) if run.data.tags.get("results") == store]
        if row["mlflow_status"] != CREATING:
            self._note(table, row["id"], mlflow_status=CREATING)
        run = found[0] if found else self._client.create_run(
            self._connect().experiment_id, start_time=_milliseconds(row["started_at"]),
            tags=_tag_values(tags), run_name=shortened(name(), NAME_LENGTH),
        )  # fmt: skip
        self._note(table, row["id"], mlflow_run_id=run.info.run_id)
        return str(run.info.run_id)

    def _is_there(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return bool(self._client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False

    def _search(self, query: str) -> Sequence[Any]:
        found: Sequence[Any] = self._client.search_runs([self._connect().experiment_id], query)
        return found

    def _name(self, trial: Mapping[str, Any]) -> str:
        """What varies comes first, as a column shows little of a name: `bag_size=6 seed 3 seg_mil_cbm …`."""
        with self._store.reading() as connection:
            names = varying_knobs(connection, self._experiment, trial["method"], trial["dataset"])
        varying = [f"{row['name']}={row['value']}" for row in trial["params"] if row["name"] in names]
        if variant := trial["variants"].get(self._experiment):
            varying.insert(0, variant)
        rest = [trial["method"], trial["dataset"], trial["id"][:8]]
        return " ".join([*(varying or rest[:1]), f"seed {trial['seed']}", *(rest if varying else rest[1:])])

    def _log(self, run_id: str, trial: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

        card = f"datasets/{trial['dataset']}/card.yaml"
        digest = trial["data_fingerprint"][:DIGEST_LENGTH]
        dataset = Dataset(trial["dataset"], digest, "local", f'{{"uri": "{card}"}}')
        used = DatasetInput(dataset, [InputTag("mlflow.data.context", "training and evaluation")])
        self._client.log_inputs(run_id, [used])

        params = [Param(key(row["name"]), shortened(row["value"], PARAM_LENGTH)) for row in trial["params"]]
        if variant := trial["variants"].get(self._experiment):
            params.append(Param("variant", variant))
        for start in range(0, len(params), PARAMS_AT_ONCE):
            self._client.log_batch(run_id, params=params[start : start + PARAMS_AT_ONCE])
        at = _milliseconds(trial["finished_at"] or trial["started_at"])
        metrics = [
            Metric(metric_key(row), row["value"], at, row["step"] or 0)
            for row in in_order(trial["metrics"])
            if row["value"] is not None
        ]
        for start in range(0, len(metrics), METRICS_AT_ONCE):
            self._client.log_batch(run_id, metrics=metrics[start : start + METRICS_AT_ONCE])
        self._client.log_batch(run_id, tags=_tag_list(tags))

    def _save_view(self) -> None:
        """The view as the trials are now; a note on the experiment that is not ours stays."""
        place = self._connect()
        with self._store.reading() as connection:
            tags = view_tags(connection, self._experiment, place.experiment_id)
        if NOTE in self._client.get_experiment(place.experiment_id).tags:
            tags.pop(NOTE, None)
        for name, value in tags.items():
            self._client.set_experiment_tag(place.experiment_id, name, value)
        self._is_viewed = bool(tags)

    def _set_status(self, run_id: str, row: Mapping[str, Any]) -> None:
        status = RUN_STATUS[row["status"]]
        if status in ("SCHEDULED", "RUNNING"):
            self._client.update_run(run_id, status)
        else:
            self._client.set_terminated(run_id, status, _milliseconds(row["finished_at"]))

    def _end_lost_runs(self) -> None:
        with self._lock:
            running = {run.info.run_id: run for run in self._search("status = 'RUNNING'")}
            known = self._statuses(list(running))
            for run_id, run in running.items():
                ours = shortened(self._store.url, TAG_LENGTH)
                status = known.get(run_id, "interrupted")
                if run.data.tags.get("results", ours) == ours and status != "running":
                    self._client.set_terminated(run_id, RUN_STATUS[status])

    # SQL

    def _statuses(self, run_ids: list[str]) -> dict[str, str]:
        known: dict[str, str] = {}
        with self._store.reading() as connection:
            for table in (Trial, Launch):
                query = select(table.mlflow_run_id, table.status)
                found = connection.execute(query.where(table.mlflow_run_id.in_(run_ids)))
                known.update((str(run_id), status) for run_id, status in found)
        return known

    def _note(self, table: Table, row_id: str | int, *still: ColumnElement[bool], **values: str) -> None:
        with self._store.writing() as connection:
            connection.execute(update(table).where(table.id == row_id, *still).values(values))

    def _tags(self, kind: str, row: Mapping[str, Any]) -> dict[str, str]:
        return {
            "kind": kind,
            "launch": str(row["launch_id"]),
            "status": row["status"],
            "git_commit": row["git_commit"] or "",
            "results": self._store.url,
            "mlflow.source.name": "python -m grid",
            "mlflow.source.type": "LOCAL",
            **({"mlflow.source.git.commit": row["git_commit"]} if row["git_commit"] else {}),
        }


def _tag_list(tags: Mapping[str, str]) -> list[Any]:
    from mlflow.entities import RunTag

    return [RunTag(name, value) for name, value in _tag_values(tags).items()]


def _tag_values(tags: Mapping[str, str]) -> dict[str, str]:
    return {name: shortened(value, TAG_LENGTH) for name, value in tags.items()}


def _milliseconds(time: str | None) -> int | None:
    return None if time is None else round(datetime.fromisoformat(time).timestamp() * 1000)
