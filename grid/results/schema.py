"""The tables of the results store, the same on SQLite and Postgres.

Times are UTC text (ISO 8601), durations seconds, scores fractions in [0, 1]. Columns named
`config`, `plan`, `params`, `versions` and `manifest` hold JSON text.
"""

from sqlalchemy import BigInteger, CheckConstraint, Double, ForeignKey, Index, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

TRIAL_STATUS = ("pending", "running", "done", "failed", "interrupted", "stopped")
LAUNCH_STATUS = ("running", "done", "failed", "interrupted")
METRIC_STATUS = ("ok", "nan", "inf")


def _one_of(column: str, values: tuple[str, ...], name: str) -> CheckConstraint:
    allowed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({allowed})", name=name)


class Base(DeclarativeBase):
    # String sorts by code point on SQLite; Postgres is told to do the same.
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy's own spelling)
        str: Text().with_variant(String(collation="C"), "postgresql"),
        float: Double(),
    }


class Experiment(Base):
    """`mlflow_place` names the experiment of MLflow that the mirror of this one is known to be whole in."""

    __tablename__ = "experiment"
    name: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[str]
    mlflow_place: Mapped[str | None]


class Launch(Base):
    """One run of the command on an experiment. `process_started` tells reused pids apart."""

    __tablename__ = "launch"
    __table_args__ = (_one_of("status", LAUNCH_STATUS, "launch_status"),)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    experiment: Mapped[str] = mapped_column(ForeignKey("experiment.name"), index=True)
    spec: Mapped[str]
    plan: Mapped[str]
    started_at: Mapped[str]
    heartbeat_at: Mapped[str]
    finished_at: Mapped[str | None]
    status: Mapped[str]
    host: Mapped[str]
    pid: Mapped[int]
    process_started: Mapped[float]
    git_commit: Mapped[str | None]
    git_dirty: Mapped[bool | None]
    command: Mapped[str]
    mlflow_run_id: Mapped[str | None]
    mlflow_status: Mapped[str | None]


class Trial(Base):
    """One method on one data set with one configuration and one seed.

    `config_id` names the configuration without the seed; `mlflow_status` is what the mirror last
    wrote, so a value other than `status` means that the mirror is stale. `to_rerun`: the next launch
    runs it again; until then it keeps its state and its numbers. A trial that was stopped early has its curve
    alone: `stopped_step` counts the steps that it had done, `stopped_value` is what `stopped_metric` was
    then, by the name by which the method reports it.
    """

    __tablename__ = "trial"
    __table_args__ = (
        _one_of("status", TRIAL_STATUS, "trial_status"),
        Index("trial_by_config", "dataset", "method", "config_id"),
    )
    id: Mapped[str] = mapped_column(primary_key=True)
    method: Mapped[str]
    method_version: Mapped[int]
    dataset: Mapped[str]
    data_fingerprint: Mapped[str]
    seed: Mapped[int] = mapped_column(BigInteger)
    config: Mapped[str]
    config_id: Mapped[str]
    status: Mapped[str] = mapped_column(index=True)
    to_rerun: Mapped[bool | None]
    error: Mapped[str | None]
    warning: Mapped[str | None]
    n_failed: Mapped[int | None]
    on_failed: Mapped[str | None]
    attempt: Mapped[int]
    launch_id: Mapped[int | None] = mapped_column(ForeignKey("launch.id"), index=True)
    started_at: Mapped[str | None]
    finished_at: Mapped[str | None]
    seconds: Mapped[float | None]
    git_commit: Mapped[str | None]
    git_dirty: Mapped[bool | None]
    versions: Mapped[str | None]
    host: Mapped[str | None]
    device: Mapped[str | None]
    artifacts_uri: Mapped[str | None]
    mlflow_run_id: Mapped[str | None]
    mlflow_status: Mapped[str | None]
    stopped_step: Mapped[int | None]
    stopped_value: Mapped[float | None]
    stopped_metric: Mapped[str | None]


class ExperimentTrial(Base):
    """Which trials an experiment's present spec asks for; experiments share trials. `variant`: as which of
    its block's variants, by name; two trials of one `variant_rest` and one seed differ in that alone."""

    __tablename__ = "experiment_trial"
    experiment: Mapped[str] = mapped_column(ForeignKey("experiment.name"), primary_key=True)
    trial_id: Mapped[str] = mapped_column(ForeignKey("trial.id"), primary_key=True, index=True)
    variant: Mapped[str | None]
    variant_rest: Mapped[str | None]


class EarlierTrial(Base):
    """Which trials an earlier form of an experiment asked for, and its present spec does not: kept, and out
    of its tables. No trial stands in both tables for one experiment."""

    __tablename__ = "earlier_trial"
    experiment: Mapped[str] = mapped_column(ForeignKey("experiment.name"), primary_key=True)
    trial_id: Mapped[str] = mapped_column(ForeignKey("trial.id"), primary_key=True, index=True)
    variant: Mapped[str | None]
    variant_rest: Mapped[str | None]


class TrialParam(Base):
    """One knob of a trial: `number` or `text`, `value` as shown, `rest` the pairing key.

    `rest` hashes method, data set and the configuration without this knob: two trials with one
    `rest` and one seed differ in this knob only.
    """

    __tablename__ = "trial_param"
    trial_id: Mapped[str] = mapped_column(ForeignKey("trial.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[float | None]
    text: Mapped[str | None]
    value: Mapped[str]
    rest: Mapped[str]


class Metric(Base):
    """One number of a trial. `step` is set on training curves only; NULL values say why. The index holds all
    that views read, so that they look up a number and not a trial's hundreds."""

    __tablename__ = "metric"
    __table_args__ = (
        _one_of("status", METRIC_STATUS, "metric_status"),
        Index("metric_by_name", "trial_id", "step", "name", "split", "selection", "group_name", "value"),
    )
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    trial_id: Mapped[str] = mapped_column(ForeignKey("trial.id"))
    name: Mapped[str]
    split: Mapped[str]
    group_name: Mapped[str]
    selection: Mapped[str]
    step: Mapped[int | None]
    value: Mapped[float | None]
    status: Mapped[str]


class Stage(Base):
    """The manifest of an artifact, for SQL: images in, rows that failed, model forward inputs."""

    __tablename__ = "stage"
    key: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str | None]
    params: Mapped[str | None]
    dataset: Mapped[str | None]
    images: Mapped[int | None]
    failed: Mapped[int | None]
    model_inputs: Mapped[int | None] = mapped_column(BigInteger)
    bytes: Mapped[int | None] = mapped_column(BigInteger)
    seconds: Mapped[float | None]
    uri: Mapped[str | None]
    manifest: Mapped[str]
    git_commit: Mapped[str | None]
    versions: Mapped[str | None]
    device: Mapped[str | None]
    host: Mapped[str | None]
    created_at: Mapped[str]


class TrialStage(Base):
    """What a trial reads, by the method's own name for it. Trials are entered before stages run,
    so `stage_key` may name a stage that is not there yet."""

    __tablename__ = "trial_stage"
    trial_id: Mapped[str] = mapped_column(ForeignKey("trial.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    stage_key: Mapped[str] = mapped_column(index=True)


class ReferenceResult(Base):
    """A published number with where it stands; `value` and `std` in the unit of the metric. group_name: of
    the metric that is beside it; `setting` tells the numbers of groups apart. knobs: `name=value …`, by the
    names of `trial_param`, of those that are known of the publication; images: of the split."""

    __tablename__ = "reference_result"
    paper: Mapped[str] = mapped_column(primary_key=True)
    table_name: Mapped[str] = mapped_column(primary_key=True)
    row_name: Mapped[str] = mapped_column(primary_key=True)
    setting: Mapped[str] = mapped_column(primary_key=True)
    dataset: Mapped[str] = mapped_column(primary_key=True)
    method: Mapped[str] = mapped_column(primary_key=True)
    metric: Mapped[str] = mapped_column(primary_key=True)
    split: Mapped[str]
    selection: Mapped[str]
    value: Mapped[float]
    std: Mapped[float | None]
    n: Mapped[int | None]
    group_name: Mapped[str] = mapped_column(default="all", server_default="all")
    knobs: Mapped[str | None]
    images: Mapped[int | None]


class Preference(Base):
    """One human vote between the explanations of two trials for one image."""

    __tablename__ = "preference"
    __table_args__ = (_one_of("choice", ("left", "right", "tie"), "preference_choice"),)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    experiment: Mapped[str] = mapped_column(ForeignKey("experiment.name"))
    image_id: Mapped[str]
    left_trial: Mapped[str] = mapped_column(ForeignKey("trial.id"))
    right_trial: Mapped[str] = mapped_column(ForeignKey("trial.id"))
    choice: Mapped[str]
    voter: Mapped[str]
    created_at: Mapped[str]


class ViewState(Base):
    """Digest of the view files that the views were made from: other files, views made anew."""

    __tablename__ = "view_state"
    digest: Mapped[str] = mapped_column(primary_key=True)
