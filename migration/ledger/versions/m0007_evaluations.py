"""Models that were compared by questions with known answers, before they are used."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migration.ledger.comments import COMMENTS_0007, change_comments

revision = "0007"
down_revision = "0006"

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
COUNT = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add the table, with its comments."""
    op.create_table(
        "evaluations",
        sa.Column("id", ID, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("collection", sa.Text, nullable=False),
        sa.Column("field", sa.Text, nullable=False),
        sa.Column("old_model", sa.Text, nullable=False),
        sa.Column("new_model", sa.Text, nullable=False),
        sa.Column("run", sa.Text),
        sa.Column("questions", sa.Integer, nullable=False),
        sa.Column("questions_from", sa.String(16), nullable=False),
        sa.Column("searched", COUNT, nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("rule", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_evaluations"),
    )
    op.create_index("ix_evaluations_at", "evaluations", ["at"])
    change_comments(op, COMMENTS_0007)


def downgrade() -> None:
    """Drop the table with what it holds."""
    op.drop_table("evaluations")
