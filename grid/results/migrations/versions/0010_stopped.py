"""Trials that were stopped early: a status of their own, and what was known of them then.

SQLite cannot change a constraint, so the table is made anew: its rows wait in a temporary table, and keys
that point to them are looked at when the transaction ends.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.String(collation="C"), "postgresql")
BEFORE = "status IN ('pending', 'running', 'done', 'failed', 'interrupted')"
NOW = "status IN ('pending', 'running', 'done', 'failed', 'interrupted', 'stopped')"


def upgrade() -> None:
    op.add_column("trial", sa.Column("stopped_step", sa.Integer()))
    op.add_column("trial", sa.Column("stopped_value", sa.Double()))
    op.add_column("trial", sa.Column("stopped_metric", TEXT))
    if op.get_bind().dialect.name == "sqlite":
        _make_anew()
    else:
        op.drop_constraint("trial_status", "trial")
        op.create_check_constraint("trial_status", "trial", NOW)


def _make_anew() -> None:
    query = "SELECT sql FROM sqlite_master WHERE tbl_name = 'trial' AND sql IS NOT NULL ORDER BY type DESC"
    table, *indexes = op.get_bind().scalars(sa.text(query)).all()
    if BEFORE not in table:
        raise ValueError(f"the table trial is not as it was made: {table}")
    for statement in (
        "PRAGMA defer_foreign_keys = ON",
        "CREATE TEMPORARY TABLE kept_trial AS SELECT * FROM trial",
        "DROP TABLE trial",
        table.replace(BEFORE, NOW),
        "INSERT INTO trial SELECT * FROM kept_trial",
        "DROP TABLE kept_trial",
        *indexes,
    ):
        op.get_bind().exec_driver_sql(statement)
