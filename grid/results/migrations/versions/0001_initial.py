"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "experiment",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("created_at", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "reference_result",
        sa.Column("paper", TEXT, nullable=False),
        sa.Column("table_name", TEXT, nullable=False),
        sa.Column("row_name", TEXT, nullable=False),
        sa.Column("setting", TEXT, nullable=False),
        sa.Column("dataset", TEXT, nullable=False),
        sa.Column("method", TEXT, nullable=False),
        sa.Column("metric", TEXT, nullable=False),
        sa.Column("split", TEXT, nullable=False),
        sa.Column("selection", TEXT, nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("std", sa.Double()),
        sa.Column("n", sa.Integer()),
        sa.PrimaryKeyConstraint("paper", "table_name", "row_name", "setting", "dataset", "method", "metric"),
    )
    op.create_table(
        "stage",
        sa.Column("key", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("name", TEXT),
        sa.Column("params", TEXT),
        sa.Column("dataset", TEXT),
        sa.Column("images", sa.Integer()),
        sa.Column("failed", sa.Integer()),
        sa.Column("model_inputs", sa.BigInteger()),
        sa.Column("bytes", sa.BigInteger()),
        sa.Column("seconds", sa.Double()),
        sa.Column("uri", TEXT),
        sa.Column("manifest", TEXT, nullable=False),
        sa.Column("git_commit", TEXT),
        sa.Column("versions", TEXT),
        sa.Column("device", TEXT),
        sa.Column("host", TEXT),
        sa.Column("created_at", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "view_state", sa.Column("digest", TEXT, nullable=False), sa.PrimaryKeyConstraint("digest")
    )
    op.create_table(
        "launch",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("experiment", TEXT, nullable=False),
        sa.Column("spec", TEXT, nullable=False),
        sa.Column("plan", TEXT, nullable=False),
        sa.Column("started_at", TEXT, nullable=False),
        sa.Column("heartbeat_at", TEXT, nullable=False),
        sa.Column("finished_at", TEXT),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("host", TEXT, nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("process_started", sa.Double(), nullable=False),
        sa.Column("git_commit", TEXT),
        sa.Column("git_dirty", sa.Boolean()),
        sa.Column("command", TEXT, nullable=False),
        sa.Column("mlflow_run_id", TEXT),
        sa.Column("mlflow_status", TEXT),
        sa.CheckConstraint("status IN ('running', 'done', 'failed', 'interrupted')", name="launch_status"),
        sa.ForeignKeyConstraint(
            ["experiment"],
            ["experiment.name"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_launch_experiment"), "launch", ["experiment"], unique=False)
    op.create_table(
        "trial",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("method", TEXT, nullable=False),
        sa.Column("method_version", sa.Integer(), nullable=False),
        sa.Column("dataset", TEXT, nullable=False),
        sa.Column("data_fingerprint", TEXT, nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("config", TEXT, nullable=False),
        sa.Column("config_id", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("error", TEXT),
        sa.Column("n_failed", sa.Integer()),
        sa.Column("on_failed", TEXT),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("launch_id", sa.Integer()),
        sa.Column("started_at", TEXT),
        sa.Column("finished_at", TEXT),
        sa.Column("seconds", sa.Double()),
        sa.Column("git_commit", TEXT),
        sa.Column("git_dirty", sa.Boolean()),
        sa.Column("versions", TEXT),
        sa.Column("host", TEXT),
        sa.Column("device", TEXT),
        sa.Column("artifacts_uri", TEXT),
        sa.Column("mlflow_run_id", TEXT),
        sa.Column("mlflow_status", TEXT),
        sa.CheckConstraint(
            "status IN ('pending', 'running', 'done', 'failed', 'interrupted')", name="trial_status"
        ),
        sa.ForeignKeyConstraint(
            ["launch_id"],
            ["launch.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_trial_launch_id"), "trial", ["launch_id"], unique=False)
    op.create_index(op.f("ix_trial_status"), "trial", ["status"], unique=False)
    op.create_index("trial_by_config", "trial", ["dataset", "method", "config_id"], unique=False)
    op.create_table(
        "experiment_trial",
        sa.Column("experiment", TEXT, nullable=False),
        sa.Column("trial_id", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment"],
            ["experiment.name"],
        ),
        sa.ForeignKeyConstraint(
            ["trial_id"],
            ["trial.id"],
        ),
        sa.PrimaryKeyConstraint("experiment", "trial_id"),
    )
    op.create_index(op.f("ix_experiment_trial_trial_id"), "experiment_trial", ["trial_id"], unique=False)
    op.create_table(
        "metric",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("trial_id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("split", TEXT, nullable=False),
        sa.Column("group_name", TEXT, nullable=False),
        sa.Column("selection", TEXT, nullable=False),
        sa.Column("step", sa.Integer()),
        sa.Column("value", sa.Double()),
        sa.Column("status", TEXT, nullable=False),
        sa.CheckConstraint("status IN ('ok', 'nan', 'inf')", name="metric_status"),
        sa.ForeignKeyConstraint(
            ["trial_id"],
            ["trial.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_metric_trial_id"), "metric", ["trial_id"], unique=False)
    op.create_table(
        "prediction",
        sa.Column("trial_id", TEXT, nullable=False),
        sa.Column("split", TEXT, nullable=False),
        sa.Column("selection", TEXT, nullable=False),
        sa.Column("image_id", TEXT, nullable=False),
        sa.Column("label", TEXT, nullable=False),
        sa.Column("group_name", TEXT),
        sa.Column("predicted", TEXT),
        sa.ForeignKeyConstraint(
            ["trial_id"],
            ["trial.id"],
        ),
        sa.PrimaryKeyConstraint("trial_id", "split", "selection", "image_id"),
    )
    op.create_table(
        "preference",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("experiment", TEXT, nullable=False),
        sa.Column("image_id", TEXT, nullable=False),
        sa.Column("left_trial", TEXT, nullable=False),
        sa.Column("right_trial", TEXT, nullable=False),
        sa.Column("choice", TEXT, nullable=False),
        sa.Column("voter", TEXT, nullable=False),
        sa.Column("created_at", TEXT, nullable=False),
        sa.CheckConstraint("choice IN ('left', 'right', 'tie')", name="preference_choice"),
        sa.ForeignKeyConstraint(
            ["experiment"],
            ["experiment.name"],
        ),
        sa.ForeignKeyConstraint(
            ["left_trial"],
            ["trial.id"],
        ),
        sa.ForeignKeyConstraint(
            ["right_trial"],
            ["trial.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "trial_param",
        sa.Column("trial_id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("number", sa.Double()),
        sa.Column("text", TEXT),
        sa.Column("value", TEXT, nullable=False),
        sa.Column("rest", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["trial_id"],
            ["trial.id"],
        ),
        sa.PrimaryKeyConstraint("trial_id", "name"),
    )
    op.create_table(
        "trial_stage",
        sa.Column("trial_id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("stage_key", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["trial_id"],
            ["trial.id"],
        ),
        sa.PrimaryKeyConstraint("trial_id", "name"),
    )
    op.create_index(op.f("ix_trial_stage_stage_key"), "trial_stage", ["stage_key"], unique=False)
