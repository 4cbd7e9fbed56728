"""Alembic's entry: runs the revisions in `versions/` on the connection that `upgrade.py` hands over.

Without a connection it prints the statements instead of executing them.
"""

from alembic import context

from migration.ledger.schema import VERSION_TABLE, metadata


def run() -> None:
    """Carry out what the command asks for."""
    options = context.config.attributes
    if context.is_offline_mode():
        context.configure(
            dialect_name=options["dialect"],
            target_metadata=metadata,
            version_table=VERSION_TABLE,
            literal_binds=True,
        )
    else:
        context.configure(connection=options["connection"], target_metadata=metadata, version_table=VERSION_TABLE)
    with context.begin_transaction():
        context.run_migrations()


run()
