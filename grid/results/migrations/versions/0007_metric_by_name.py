"""An index of a trial's numbers by name in place of one by trial alone: views look up what they need.

The view planned_seeds, which has no file any more, goes.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    columns = ["trial_id", "step", "name", "split", "selection", "group_name", "value"]
    op.create_index("metric_by_name", "metric", columns)
    op.drop_index("ix_metric_trial_id", "metric")
    op.execute("DROP VIEW IF EXISTS planned_seeds")
