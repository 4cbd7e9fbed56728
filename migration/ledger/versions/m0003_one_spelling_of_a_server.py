"""Every server under one spelling of its address; nothing that nobody fills or looks by; how long search was partial.

A server that an older version knew as `127.0.0.1` and as `LocalHost` is one from here on: what was known of a
collection under either name becomes one, and of a document that both knew the later entry stays. Going back keeps
that, as the older form can hold it, and restores the columns empty.
"""

from collections import defaultdict

import sqlalchemy as sa
from alembic import op

from kai.address import canonical_address

revision = "0003"
down_revision = "0002"

COUNT = sa.BigInteger().with_variant(sa.Integer, "sqlite")

runs = sa.table("runs", sa.column("id", sa.Text), sa.column("source", sa.JSON))
collections = sa.table("document_collections", sa.column("id"), sa.column("source"), sa.column("collection"))
documents = sa.table(
    "document_embeddings", sa.column("collection_id"), sa.column("document_id"), sa.column("embedded_at")
)


def upgrade() -> None:
    """Drop what is not used, add the new column, and bring the addresses to one spelling."""
    op.drop_index("ix_document_embeddings_text_hash", "document_embeddings")
    op.drop_index("ix_document_embeddings_tenant", "document_embeddings")
    op.drop_column("embedding_models", "parameters")
    op.drop_column("collection_runs", "progress")
    op.drop_column("collection_runs", "skipped")
    op.add_column("collection_runs", sa.Column("incomplete_seconds", sa.Float))
    context = op.get_context()
    if context.as_sql:
        # An address in IPv6, say, has no shortest form in SQL, and what is to be merged is known only then.
        context.impl.static_output(
            "-- Addresses of servers are brought to one spelling only by `kai-migrate ledger upgrade`."
        )
        return
    connection = op.get_bind()
    _respell_runs(connection)
    _respell_collections(connection)


def downgrade() -> None:
    """Restore columns, empty, and indexes; the addresses stay as they are."""
    op.drop_column("collection_runs", "incomplete_seconds")
    op.add_column("collection_runs", sa.Column("skipped", COUNT, nullable=False, server_default="0"))
    op.add_column("collection_runs", sa.Column("progress", sa.JSON, nullable=False, server_default="{}"))
    op.add_column("embedding_models", sa.Column("parameters", sa.JSON, nullable=False, server_default="{}"))
    op.create_index("ix_document_embeddings_tenant", "document_embeddings", ["tenant"])
    op.create_index("ix_document_embeddings_text_hash", "document_embeddings", ["text_hash"])


def _respell_runs(connection: sa.Connection) -> None:
    # As text: psycopg gives PostgreSQL's UUIDs as objects, which this column of text would not take back.
    identity = sa.cast(runs.c.id, sa.Text)
    for run_id, source in connection.execute(sa.select(identity, runs.c.source)).all():
        server = source.get("server")
        if isinstance(server, str) and server != (canonical := canonical_address(server)):
            respelt = sa.update(runs).where(identity == run_id).values(source={**source, "server": canonical})
            connection.execute(respelt)


def _respell_collections(connection: sa.Connection) -> None:
    spellings = defaultdict(list)
    for identity, source, collection in connection.execute(sa.select(collections).order_by(collections.c.id)).all():
        canonical = canonical_address(source)
        spellings[canonical, collection].append((source != canonical, identity))
    for (canonical, _), known in spellings.items():
        (is_misspelt, kept), *others = sorted(known)
        for _, other in others:
            _merge(connection, kept, other)
        if is_misspelt:
            connection.execute(sa.update(collections).where(collections.c.id == kept).values(source=canonical))


def _merge(connection: sa.Connection, kept: int, other: int) -> None:
    """Take the documents of `other` over into `kept`, but for those of which that knows something later."""
    columns, twin = documents.c, documents.alias("twin")
    same = twin.c.document_id == columns.document_id
    is_earlier = sa.exists().where(twin.c.collection_id == other, same, twin.c.embedded_at > columns.embedded_at)
    is_known = sa.exists().where(twin.c.collection_id == kept, same)
    connection.execute(sa.delete(documents).where(columns.collection_id == kept, is_earlier))
    connection.execute(sa.delete(documents).where(columns.collection_id == other, is_known))
    connection.execute(sa.update(documents).where(columns.collection_id == other).values(collection_id=kept))
    connection.execute(sa.delete(collections).where(collections.c.id == other))
