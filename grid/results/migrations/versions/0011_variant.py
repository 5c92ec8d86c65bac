"""As which variant of its block an experiment asks for a trial."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    for table in ("experiment_trial", "earlier_trial"):
        op.add_column(table, sa.Column("variant", TEXT))
        op.add_column(table, sa.Column("variant_rest", TEXT))
