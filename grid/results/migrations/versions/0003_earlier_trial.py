"""Trials that an earlier form of an experiment asked for."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "earlier_trial",
        sa.Column("experiment", TEXT, nullable=False),
        sa.Column("trial_id", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["experiment"], ["experiment.name"]),
        sa.ForeignKeyConstraint(["trial_id"], ["trial.id"]),
        sa.PrimaryKeyConstraint("experiment", "trial_id"),
    )
    op.create_index(op.f("ix_earlier_trial_trial_id"), "earlier_trial", ["trial_id"], unique=False)
