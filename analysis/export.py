"""An experiment as files: Parquet and CSV, with a dictionary of what each column means."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.tables import read
from grid.results.store import ResultsStore
from grid.stores.evidence import PREDICTED, BrokenEvidence, LeftEvidence


@dataclass(frozen=True)
class Table:
    """`grain` says what a row is; `columns` maps each column to its unit or type and its meaning."""

    grain: str
    query: str
    columns: dict[str, tuple[str, str]]


TRIAL = ("hash", "the trial, a row of trials")
TABLES = {
    "trials": Table(
        "one trial that the experiment's present spec asks for",
        """SELECT t.id AS trial, t.dataset, t.data_fingerprint, t.method, t.method_version, t.config_id,
          t.config, t.seed, t.status, t.error, t.warning, t.n_failed, t.on_failed, t.seconds, t.stopped_step,
          t.stopped_value, t.stopped_metric, t.started_at, t.finished_at, t.git_commit, t.git_dirty,
          t.versions, t.host, t.device, t.artifacts_uri, e.variant
        FROM experiment_trial e JOIN trial t ON t.id = e.trial_id
        WHERE e.experiment = :experiment ORDER BY t.dataset, t.method, t.config_id, t.seed, t.id""",
        {
            "trial": ("hash", "of all that can change its numbers"),
            "dataset": ("name", "of the card"),
            "data_fingerprint": ("hash", "of images and labels"),
            "method": ("name", "of the method"),
            "method_version": ("count", "version of the method's code"),
            "config_id": ("hash", "of the configuration, shared by its seeds"),
            "config": ("JSON", "the full configuration"),
            "seed": ("number", "the seed"),
            "status": ("word", "pending, running, done, failed, interrupted, or stopped (early)"),
            "error": ("text", "last lines of a failed trial's error"),
            "warning": ("text", "what a reader of its numbers must know"),
            "n_failed": ("images", "of the test split that could not be scored"),
            "on_failed": ("word", "how those count: wrong, or drop"),
            "seconds": ("seconds", "of the trial itself, without its stages"),
            "stopped_step": ("count", "steps that it had done when it was stopped early"),
            "stopped_value": ("as stopped_metric", "what that was then"),
            "stopped_metric": ("name", "what the scheduler went by, as the method reports it"),
            "started_at": ("UTC, ISO 8601", "when it started"),
            "finished_at": ("UTC, ISO 8601", "when it ended"),
            "git_commit": ("hash", "of the code that ran it"),
            "git_dirty": ("flag", "whether files differed from the commit"),
            "versions": ("JSON", "packages"),
            "host": ("name", "of the machine"),
            "device": ("name", "of the processor or GPU"),
            "artifacts_uri": ("URI", "of its pictures, predictions and weights"),
            "variant": ("name", "as which of its block's variants the spec asks for it"),
        },
    ),
    "knobs": Table(
        "one knob of one trial",
        """SELECT p.trial_id AS trial, p.name, p.value, p.number
        FROM experiment_trial e JOIN trial_param p ON p.trial_id = e.trial_id
        WHERE e.experiment = :experiment ORDER BY p.trial_id, p.name""",
        {
            "trial": TRIAL,
            "name": ("name", "of the knob, with dots where it is nested"),
            "value": ("text", "its value as shown"),
            "number": ("of the knob", "its value where it is a number"),
        },
    ),
    "numbers": Table(
        "one number of one trial",
        """SELECT m.trial_id AS trial, m.name AS metric, m.split, m.group_name, m.selection, m.step, m.value,
          m.status
        FROM experiment_trial e JOIN metric m ON m.trial_id = e.trial_id
        WHERE e.experiment = :experiment ORDER BY m.trial_id, m.id""",
        {
            "trial": TRIAL,
            "metric": ("name", "of the number"),
            "split": ("word", "train, val or test: the images that it was computed on"),
            "group_name": ("name", "one group of the data set, or all"),
            "selection": ("word", "the rule by which the weights were chosen"),
            "step": ("epochs", "of a training curve; empty for a result"),
            "value": ("of the metric", "accuracies, areas, overlaps: fractions; seconds where it says so"),
            "status": ("word", "ok, or why there is no value: nan or inf"),
        },
    ),
    "stages": Table(
        "one stage that one trial reads",
        """SELECT r.trial_id AS trial, r.name, r.stage_key, s.kind, s.images, s.failed, s.model_inputs,
          s.bytes, s.seconds, s.device, s.uri
        FROM experiment_trial e JOIN trial_stage r ON r.trial_id = e.trial_id
          LEFT JOIN stage s ON s.key = r.stage_key
        WHERE e.experiment = :experiment ORDER BY r.trial_id, r.name""",
        {
            "trial": TRIAL,
            "name": ("name", "by which the method calls it"),
            "stage_key": ("hash", "of the artifact, shared by all trials that read it: its cost counts once"),
            "kind": ("name", "of the stage"),
            "images": ("images", "that it read"),
            "failed": ("images", "that it could not process"),
            "model_inputs": ("inputs", "that its model saw: images, segments or circles"),
            "bytes": ("bytes", "of the artifact"),
            "seconds": ("seconds", "to make it"),
            "device": ("name", "of the processor or GPU that made it"),
            "uri": ("URI", "of its folder"),
        },
    ),
}  # fmt: skip
PREDICTIONS = Table(
    "one image of the test split as one done trial predicted it; in Parquet alone",
    """SELECT t.id, t.artifacts_uri FROM experiment_trial e JOIN trial t ON t.id = e.trial_id
        WHERE e.experiment = :experiment AND t.status = 'done' ORDER BY t.id""",
    {
        "trial": TRIAL,
        "image_id": ("number", "of the image in its data set"),
        "path": ("path", "of its file, below the data set's root"),
        "label": ("number", "of its class"),
        "label_name": ("name", "of its class"),
        "group": ("number", "of its group"),
        "group_name": ("name", "of its group"),
        "predicted": ("number", "of the class that was predicted; -1 where a stage failed on the image"),
        "predicted_name": ("name", "of the class that was predicted; empty where a stage failed"),
        "evidence": ("list", "what decided, the strongest first: `what`, a concept or a segment, and what it "
                     "adds to the logit of the predicted class, a segment less what it adds to the rival's"),
    },
)  # fmt: skip
SCHEMA = pa.schema([("trial", pa.string()), *PREDICTED])
DICTIONARY = "dictionary.md"


def export(store: ResultsStore, experiment: str, folder: Path) -> tuple[list[Path], list[str]]:
    """Writes each table as Parquet and as CSV, the predictions, and the dictionary; returns their paths, and
    what is wrong with each trial whose predictions cannot be read, which is left out. Files of the same names
    are replaced. Raises LookupError for an experiment that is not in the store."""
    store.experiment_summary(experiment)
    folder.mkdir(parents=True, exist_ok=True)
    lines, written = [f"# {experiment}", ""], []
    for name, table in TABLES.items():
        rows = read(store, table.query, experiment=experiment)
        rows.to_parquet(folder / f"{name}.parquet", index=False)
        rows.to_csv(folder / f"{name}.csv", index=False)
        written += [folder / f"{name}.parquet", folder / f"{name}.csv"]
        lines += _described(name, table, len(rows))
    path, left_out, n = folder / "predictions.parquet", [], 0
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for trial, uri in read(store, PREDICTIONS.query, experiment=experiment).itertuples(index=False):
            try:
                predicted = LeftEvidence(trial, uri).predictions()
            except BrokenEvidence as error:
                left_out.append(str(error))
                continue
            if predicted is not None:
                named = predicted.add_column(0, SCHEMA.field("trial"), pa.repeat(trial, len(predicted)))
                writer.write_table(named)
                n += len(named)
    lines += _described("predictions", PREDICTIONS, n)
    (folder / DICTIONARY).write_text("\n".join(lines), encoding="utf-8")
    return [*written, path, folder / DICTIONARY], left_out


def _described(name: str, table: Table, rows: int) -> list[str]:
    columns = [f"| `{column}` | {unit} | {meaning} |" for column, (unit, meaning) in table.columns.items()]
    head = ["| column | unit | meaning |", "| --- | --- | --- |"]
    return [f"## {name}", "", f"A row is {table.grain}: {rows} rows.", "", *head, *columns, ""]
