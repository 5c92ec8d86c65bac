"""Stage manifests and plans that are JSON again.

Secrets used to be hidden in the written JSON, where a flag named like one (`class_token: false`) became
a bare `***`, which is no JSON. A stage's knobs stand in `params` too, untouched, and are taken from there.
"""

import json
import re

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

BARE = re.compile(r'(?<=": )\*\*\*(?=[,}\]])')


def upgrade() -> None:
    stage = sa.table("stage", sa.column("key"), sa.column("manifest"), sa.column("params"))
    launch = sa.table("launch", sa.column("id"), sa.column("plan"))
    connection = op.get_bind()
    for key, text, params in connection.execute(
        sa.select(stage).where(stage.c.manifest.contains(": ***"))
    ).all():
        healed = _healed(text, {} if params is None else {"params": json.loads(params)})
        connection.execute(sa.update(stage).where(stage.c.key == key).values(manifest=healed))
    for id_, text in connection.execute(sa.select(launch).where(launch.c.plan.contains(": ***"))).all():
        connection.execute(sa.update(launch).where(launch.c.id == id_).values(plan=_healed(text, {})))


def _healed(text: str, known: dict[str, object]) -> str:
    try:
        json.loads(text)
    except ValueError:
        return json.dumps(json.loads(BARE.sub('"***"', text)) | known, sort_keys=True)
    return text
