"""The ledger and the cache of vectors, on SQLite and on PostgreSQL."""
