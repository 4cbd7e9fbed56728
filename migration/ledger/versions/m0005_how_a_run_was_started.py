"""How each run was started, and from what each collection was embedded: enough to do it again. And words on all of it.

Of an older ledger's runs is known when, where and by which process they were started last; of the last migration of a
model, also the library, which was noted with the model alone.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migration.ledger.comments import COMMENTS_0005, change_comments

revision = "0005"
down_revision = "0004"

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
_FROM_WHAT = ("embedding_field", "template", "filter_by")

_KNOWN_STARTS = """
INSERT INTO run_starts (id, run_id, number, started_at, host, pid, tool_source, tool_version)
SELECT runs.id, runs.id, 1, runs.started_at, runs.host, runs.pid, models.tool_source, models.tool_version
FROM runs LEFT JOIN embedding_models AS models ON models.id = runs.model_id AND runs.number = (
    SELECT max(others.number) FROM runs AS others WHERE others.model_id = models.id AND others.kind = 'migrate'
)
"""


def upgrade() -> None:
    """Add the table and the columns, with what is known already, and the comments."""
    op.create_table(
        "run_starts",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("user_name", sa.Text),
        sa.Column("program_version", sa.Text),
        sa.Column("tool_source", sa.Text),
        sa.Column("tool_version", sa.Text),
        sa.Column("options", sa.JSON),
        sa.Column("environment", sa.JSON),
        sa.Column("collections_file", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_run_starts"),
        sa.UniqueConstraint("run_id", "number", name="uq_run_starts_run_id_number"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_run_starts_run_id_runs", ondelete="SET NULL"),
    )
    op.execute(_KNOWN_STARTS)
    for name in _FROM_WHAT:
        op.add_column("collection_runs", sa.Column(name, sa.Text))
    change_comments(op, COMMENTS_0005)


def downgrade() -> None:
    """Drop the comments, the columns and the table, with what only they hold."""
    change_comments(op, COMMENTS_0005, {})
    for name in reversed(_FROM_WHAT):
        op.drop_column("collection_runs", name)
    op.drop_table("run_starts")
