"""Which embedding field: a collection may have several, and each of its documents a vector in each.

What an older program has noted is of a collection's only field, whose name it did not note: empty until the next run
that writes there names it. Going back keeps of each collection the field that was known first.
"""

import sqlalchemy as sa
from alembic import op

from migration.ledger.comments import COMMENTS_0005, COMMENTS_0006, change_comments

revision = "0006"
down_revision = "0005"

COLUMNS = ("source", "collection")
documents = sa.table("document_embeddings", sa.column("collection_id"))
collections = sa.table("document_collections", sa.column("id"), *map(sa.column, COLUMNS))


def upgrade() -> None:
    """Add the field; one collection may be known by several."""
    op.add_column("document_collections", sa.Column("field", sa.Text, nullable=False, server_default=""))
    _make_unique(*COLUMNS, "field", instead_of=COLUMNS)
    change_comments(op, COMMENTS_0006)


def downgrade() -> None:
    """Forget the fields, and what was known of any but the first of a collection."""
    change_comments(op, COMMENTS_0006, COMMENTS_0005)
    twin = collections.alias("twin")
    same = [twin.c[name] == collections.c[name] for name in COLUMNS]
    is_later = sa.exists().where(*same, twin.c.id < collections.c.id)
    later = sa.select(collections.c.id).where(is_later).scalar_subquery()
    op.execute(sa.delete(documents).where(documents.c.collection_id.in_(later)))
    op.execute(sa.delete(collections).where(is_later))
    _make_unique(*COLUMNS, instead_of=(*COLUMNS, "field"))
    op.drop_column("document_collections", "field")


def _make_unique(*names: str, instead_of: tuple[str, ...]) -> None:
    """SQLite cannot drop a constraint, so there the table is built anew."""
    standing = sa.Table(
        "document_collections",
        sa.MetaData(),
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("collection", sa.Text, nullable=False),
        sa.Column("field", sa.Text, nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name="pk_document_collections"),
        sa.UniqueConstraint(*instead_of, name=_unique(instead_of)),
    )
    with op.batch_alter_table("document_collections", copy_from=standing) as table:
        table.drop_constraint(_unique(instead_of), type_="unique")
        table.create_unique_constraint(_unique(names), list(names))


def _unique(names: tuple[str, ...]) -> str:
    return f"uq_document_collections_{'_'.join(names)}"
