"""Published numbers of groups."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("reference_result", sa.Column("group_name", TEXT, nullable=False, server_default="all"))
