"""The tables of the ledger, as the newest revision in `versions/` leaves them.

Every reference to a model or a run is nullable with ON DELETE SET NULL: deleting either forgets where data
came from, never the data. No table has a column for a document's text or for a key.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import UUID

from migration.ledger.comments import describe

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009")
"""All revisions, oldest first: opening a ledger that is current need not load Alembic to know that it is."""

VERSION_TABLE = "ledger_version"
"""Not Alembic's default name: in a shared database that table may be another application's."""


class Moment(TypeDecorator[datetime]):
    """A point in time: a datetime with time zone on the Python side, UTC in the database."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """SQLite keeps no zone, so what goes in must be UTC already."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Without a zone it came from SQLite and is UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class AnyText(TypeDecorator[str]):
    r"""Text with every character of Unicode.

    PostgreSQL takes no U+0000, yet a document's id may hold one. It goes in as U+10FFFF 0, and U+10FFFF
    itself, which is no character and therefore in no text that anybody wrote, as U+10FFFF 1.
    """

    impl = Text
    cache_ok = True

    @staticmethod
    def escape(value: str) -> str:
        """The text as it is stored."""
        if "\0" not in value and "\U0010ffff" not in value:
            return value
        return value.replace("\U0010ffff", "\U0010ffff1").replace("\0", "\U0010ffff0")

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Escape."""
        return None if value is None else self.escape(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Unescape."""
        if value is None or "\U0010ffff" not in value:
            return value
        return value.replace("\U0010ffff0", "\0").replace("\U0010ffff1", "\U0010ffff")


# Strings on the Python side: turning 500 of them a page into UUID objects and back would cost more than
# reading the page.
Identity = String(36).with_variant(UUID(as_uuid=False), "postgresql")
Document = JSON(none_as_null=True)
# SQLite's INTEGER holds 64 bits anyway.
Count = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    }
)


def _reference(name: str, target: str, **options: Any) -> Column[Any]:
    return Column(name, ForeignKey(target, ondelete="SET NULL"), **options)  # of the type of what it refers to


embedding_models = Table(
    "embedding_models",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("number", Integer, nullable=False, unique=True),
    Column("family", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("dimensions", Integer, nullable=False),
    Column("task_type", Text),
    Column("fingerprint", String(64), nullable=False, unique=True),
    Column("tool_source", Text),
    Column("tool_version", Text),
    Column("provider_server", Text),
    Column("model_digest", Text),
    Column("first_used_at", Moment, nullable=False),
    Column("last_used_at", Moment, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("number", Integer, nullable=False, unique=True),
    Column("name", Text, nullable=False, unique=True),
    Column("kind", String(16), nullable=False, index=True),
    Column("alias", Text, unique=True),
    Column("description", Text),
    _reference("model_id", "embedding_models.id", index=True),
    _reference("reverts_run_id", "runs.id", index=True),
    Column("parameters", Document, nullable=False),
    Column("source", Document, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("finished_at", Moment),
    Column("state", String(16), nullable=False, index=True),
    Column("totals", Document, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("provider_server", Text),
    Column("model_digest", Text),
)

# A row a start, so that none is overwritten by the next, which may be another program's with other options.
run_starts = Table(
    "run_starts",
    metadata,
    Column("id", Identity, primary_key=True),
    _reference("run_id", "runs.id"),
    Column("number", Integer, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("user_name", Text),
    Column("program_version", Text),
    Column("tool_source", Text),
    Column("tool_version", Text),
    Column("options", Document),
    Column("environment", Document),
    Column("collections_file", Text),
    UniqueConstraint("run_id", "number"),
)

collection_runs = Table(
    "collection_runs",
    metadata,
    Column("id", Identity, primary_key=True),
    _reference("run_id", "runs.id", index=True),
    Column("collection", Text, nullable=False, index=True),
    Column("strategy", String(16), nullable=False),
    Column("old_dimensions", Integer),
    Column("new_dimensions", Integer),
    Column("eligible", Count, nullable=False),
    Column("done", Count, nullable=False),
    Column("failed", Count, nullable=False),
    Column("state", String(16), nullable=False),
    Column("backup_path", Text),
    Column("started_at", Moment, nullable=False),
    Column("finished_at", Moment),
    Column("downtime_seconds", Float),
    Column("incomplete_seconds", Float),
    Column("embedding_field", Text),
    Column("template", Text),
    Column("filter_by", Text),
)

document_collections = Table(
    "document_collections",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("source", Text, nullable=False),
    Column("collection", Text, nullable=False),
    # Empty where an older program noted the collection, which did not name its field.
    Column("field", Text, nullable=False, server_default=""),
    UniqueConstraint("source", "collection", "field"),
)

# One row a document, so every byte counts: collection, model and run by their small numbers rather than by
# names and UUIDs makes the table with its indexes half as large and writing it nearly twice as fast.
document_embeddings = Table(
    "document_embeddings",
    metadata,
    Column("collection_id", Integer, ForeignKey("document_collections.id"), primary_key=True, autoincrement=False),
    Column("document_id", AnyText, primary_key=True),
    Column("tenant", AnyText),
    Column("text_hash", LargeBinary, nullable=False),
    Column("vector_hash", LargeBinary, nullable=False),
    _reference("model_number", "embedding_models.number"),
    _reference("run_number", "runs.number", index=True),
    Column("embedded_at", Moment, nullable=False),
    Column("content_hash", LargeBinary),
    Column("cut_from", Integer),
    # Counting a model's documents by collection reads this index and nothing else.
    Index(None, "model_number", "collection_id"),
)

failures = Table(
    "failures",
    metadata,
    Column("id", Identity, primary_key=True),
    _reference("run_id", "runs.id"),
    Column("collection", Text, nullable=False),
    Column("document_id", AnyText, nullable=False),
    Column("stage", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Moment, nullable=False),
    UniqueConstraint("run_id", "collection", "document_id"),
)

verification_results = Table(
    "verification_results",
    metadata,
    Column("id", Identity, primary_key=True),
    _reference("run_id", "runs.id", index=True),
    Column("collection", Text, nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("checks", Document, nullable=False),
    Column("at", Moment, nullable=False),
)

# By number, in the order in which they were found: the primary key is the only index that a reader needs.
wrong_documents = Table(
    "wrong_documents",
    metadata,
    Column("verification_id", ForeignKey("verification_results.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("check_name", Text, nullable=False),
    Column("document_id", AnyText, nullable=False),
    Column("expected", Text, nullable=False),
    Column("found", Text, nullable=False),
)

metrics = Table(
    "metrics",
    metadata,
    Column("id", Identity, primary_key=True),
    _reference("run_id", "runs.id", index=True),
    Column("collection", Text),
    Column("documents_per_second", Float),
    Column("tokens_per_second", Float),
    Column("latency_p50_ms", Float),
    Column("latency_p95_ms", Float),
    Column("requests", Count),
    Column("retries", Count),
    Column("failures", Count),
    Column("bytes_sent", Count),
    Column("tokens", Count),
    Column("cost_usd", Float),
    Column("seconds", Float),
)

# Models by their names: what was only evaluated is no model that a run has used.
evaluations = Table(
    "evaluations",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("at", Moment, nullable=False, index=True),
    Column("source", Text, nullable=False),
    Column("collection", Text, nullable=False),
    Column("field", Text, nullable=False),
    Column("old_model", Text, nullable=False),
    Column("new_model", Text, nullable=False),
    Column("run", Text),
    Column("questions", Integer, nullable=False),
    Column("questions_from", String(16), nullable=False),
    Column("searched", Count, nullable=False),
    Column("metrics", Document, nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("rule", Document, nullable=False),
)

# Of no run: what is embedded ahead belongs to whichever migration comes.
embedding_batches = Table(
    "embedding_batches",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("model", Text, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("provider_server", Text),
    Column("state", String(16), nullable=False, index=True),
    Column("provider_state", Text),
    Column("texts", Count, nullable=False),
    Column("tokens", Count, nullable=False),
    Column("done", Count, nullable=False),
    Column("failed", Count, nullable=False),
    Column("file", Text, nullable=False),
    Column("input_file_id", Text),
    Column("batch_id", Text),
    Column("failures", Document, nullable=False),
    Column("reason", Text),
    Column("host", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
)

describe(metadata)
