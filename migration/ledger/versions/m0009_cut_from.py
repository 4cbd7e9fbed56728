"""Whether a document's vector was cut from a longer one of the same model, and from which length."""

import sqlalchemy as sa
from alembic import op

from migration.ledger.comments import COMMENTS_0009, change_comments

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the column, empty."""
    op.add_column("document_embeddings", sa.Column("cut_from", sa.Integer))
    change_comments(op, COMMENTS_0009)


def downgrade() -> None:
    """Drop it with what it holds."""
    op.drop_column("document_embeddings", "cut_from")
