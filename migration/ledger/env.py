"""Alembic's entry: runs the revisions in `versions/` on the connection that `upgrade.py` hands over.

Without a connection it prints the statements instead of executing them.
"""

from alembic import context

from migration.ledger.schema import VERSION_TABLE, metadata

context.configure(
    **context.config.attributes,
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    literal_binds=context.is_offline_mode(),
)
with context.begin_transaction():
    context.run_migrations()
