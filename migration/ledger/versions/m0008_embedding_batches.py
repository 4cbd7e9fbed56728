"""Batches of texts that a provider embeds within a day: noted before they are sent, so that none is sent twice."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migration.ledger.comments import COMMENTS_0008, change_comments

revision = "0008"
down_revision = "0007"

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
COUNT = sa.BigInteger().with_variant(sa.Integer, "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "embedding_batches",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("provider_server", sa.Text),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("provider_state", sa.Text),
        sa.Column("texts", COUNT, nullable=False),
        sa.Column("tokens", COUNT, nullable=False),
        sa.Column("done", COUNT, nullable=False),
        sa.Column("failed", COUNT, nullable=False),
        sa.Column("file", sa.Text, nullable=False),
        sa.Column("input_file_id", sa.Text),
        sa.Column("batch_id", sa.Text),
        sa.Column("failures", sa.JSON, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_embedding_batches"),
        sa.UniqueConstraint("name", name="uq_embedding_batches_name"),
    )
    op.create_index("ix_embedding_batches_state", "embedding_batches", ["state"])
    change_comments(op, COMMENTS_0008)


def downgrade() -> None:
    """Drop the table; what is under way at a provider is not known any more."""
    op.drop_table("embedding_batches")
