"""Where the mirror is whole, and which trials are to run again."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("experiment", sa.Column("mlflow_place", TEXT))
    op.add_column("trial", sa.Column("to_rerun", sa.Boolean()))
