"""What else a recreate has to remember: a hash over the other fields, and the time without the collection.

Columns are added and dropped as they stand. Alembic's batch mode would build the table anew, and dropping
the old one with foreign keys on would set every reference to it to NULL.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add both columns, empty."""
    op.add_column("collection_runs", sa.Column("downtime_seconds", sa.Float))
    op.add_column("document_embeddings", sa.Column("content_hash", sa.LargeBinary))


def downgrade() -> None:
    """Drop both columns with what they hold."""
    op.drop_column("document_embeddings", "content_hash")
    op.drop_column("collection_runs", "downtime_seconds")
