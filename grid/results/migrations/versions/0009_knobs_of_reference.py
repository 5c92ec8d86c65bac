"""What a published number was measured with: knobs and the number of images, beside it."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("reference_result", sa.Column("knobs", TEXT))
    op.add_column("reference_result", sa.Column("images", sa.Integer()))
