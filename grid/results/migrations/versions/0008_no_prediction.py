"""No table of predictions, which nothing ever filled: a trial leaves them in a file of its folder."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_table("prediction")
