"""The tables: models, runs, collection runs, documents, failures, verifications, metrics."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

# Written out rather than taken from `schema.py`, which moves on.
ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
COUNT = sa.BigInteger().with_variant(sa.Integer, "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create all tables."""
    op.create_table(
        "embedding_models",
        sa.Column("id", ID, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("family", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("dimensions", sa.Integer, nullable=False),
        sa.Column("task_type", sa.Text),
        sa.Column("parameters", sa.JSON, nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("tool_source", sa.Text),
        sa.Column("tool_version", sa.Text),
        sa.Column("first_used_at", MOMENT, nullable=False),
        sa.Column("last_used_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_embedding_models"),
        sa.UniqueConstraint("number", name="uq_embedding_models_number"),
        sa.UniqueConstraint("fingerprint", name="uq_embedding_models_fingerprint"),
    )
    op.create_table(
        "runs",
        sa.Column("id", ID, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("alias", sa.Text),
        sa.Column("description", sa.Text),
        sa.Column("model_id", ID),
        sa.Column("reverts_run_id", ID),
        sa.Column("parameters", sa.JSON, nullable=False),
        sa.Column("source", sa.JSON, nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("finished_at", MOMENT),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("totals", sa.JSON, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        sa.UniqueConstraint("number", name="uq_runs_number"),
        sa.UniqueConstraint("name", name="uq_runs_name"),
        sa.UniqueConstraint("alias", name="uq_runs_alias"),
        _set_null("runs", "model_id", "embedding_models"),
        _set_null("runs", "reverts_run_id", "runs"),
    )
    op.create_index("ix_runs_kind", "runs", ["kind"])
    op.create_index("ix_runs_state", "runs", ["state"])
    op.create_index("ix_runs_model_id", "runs", ["model_id"])
    op.create_index("ix_runs_reverts_run_id", "runs", ["reverts_run_id"])
    op.create_table(
        "collection_runs",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID),
        sa.Column("collection", sa.Text, nullable=False),
        sa.Column("strategy", sa.String(16), nullable=False),
        sa.Column("old_dimensions", sa.Integer),
        sa.Column("new_dimensions", sa.Integer),
        sa.Column("eligible", COUNT, nullable=False),
        sa.Column("done", COUNT, nullable=False),
        sa.Column("failed", COUNT, nullable=False),
        sa.Column("skipped", COUNT, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("progress", sa.JSON, nullable=False),
        sa.Column("backup_path", sa.Text),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("finished_at", MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_collection_runs"),
        _set_null("collection_runs", "run_id", "runs"),
    )
    op.create_index("ix_collection_runs_run_id", "collection_runs", ["run_id"])
    op.create_index("ix_collection_runs_collection", "collection_runs", ["collection"])
    op.create_table(
        "document_collections",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("collection", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_document_collections"),
        sa.UniqueConstraint("source", "collection", name="uq_document_collections_source_collection"),
    )
    op.create_table(
        "document_embeddings",
        sa.Column("collection_id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("document_id", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text),
        sa.Column("text_hash", sa.LargeBinary, nullable=False),
        sa.Column("vector_hash", sa.LargeBinary, nullable=False),
        sa.Column("model_number", sa.Integer),
        sa.Column("run_number", sa.Integer),
        sa.Column("embedded_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("collection_id", "document_id", name="pk_document_embeddings"),
        sa.ForeignKeyConstraint(
            ["collection_id"],
            ["document_collections.id"],
            name="fk_document_embeddings_collection_id_document_collections",
        ),
        _set_null("document_embeddings", "model_number", "embedding_models", "number"),
        _set_null("document_embeddings", "run_number", "runs", "number"),
    )
    op.create_index("ix_document_embeddings_tenant", "document_embeddings", ["tenant"])
    op.create_index("ix_document_embeddings_text_hash", "document_embeddings", ["text_hash"])
    op.create_index("ix_document_embeddings_run_number", "document_embeddings", ["run_number"])
    op.create_index(
        "ix_document_embeddings_model_number_collection_id",
        "document_embeddings",
        ["model_number", "collection_id"],
    )
    op.create_table(
        "failures",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID),
        sa.Column("collection", sa.Text, nullable=False),
        sa.Column("document_id", sa.Text, nullable=False),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_failures"),
        sa.UniqueConstraint("run_id", "collection", "document_id", name="uq_failures_run_id_collection_document_id"),
        _set_null("failures", "run_id", "runs"),
    )
    op.create_table(
        "verification_results",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID),
        sa.Column("collection", sa.Text, nullable=False),
        sa.Column("verdict", sa.String(8), nullable=False),
        sa.Column("checks", sa.JSON, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_verification_results"),
        _set_null("verification_results", "run_id", "runs"),
    )
    op.create_index("ix_verification_results_run_id", "verification_results", ["run_id"])
    op.create_table(
        "metrics",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID),
        sa.Column("collection", sa.Text),
        sa.Column("documents_per_second", sa.Float),
        sa.Column("tokens_per_second", sa.Float),
        sa.Column("latency_p50_ms", sa.Float),
        sa.Column("latency_p95_ms", sa.Float),
        sa.Column("requests", COUNT),
        sa.Column("retries", COUNT),
        sa.Column("failures", COUNT),
        sa.Column("bytes_sent", COUNT),
        sa.Column("tokens", COUNT),
        sa.Column("cost_usd", sa.Float),
        sa.Column("seconds", sa.Float),
        sa.PrimaryKeyConstraint("id", name="pk_metrics"),
        _set_null("metrics", "run_id", "runs"),
    )
    op.create_index("ix_metrics_run_id", "metrics", ["run_id"])


def downgrade() -> None:
    """Drop all tables, those that refer to others first."""
    for name in (
        "metrics",
        "verification_results",
        "failures",
        "document_embeddings",
        "document_collections",
        "collection_runs",
        "runs",
        "embedding_models",
    ):
        op.drop_table(name)


def _set_null(table: str, column: str, target: str, key: str = "id") -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [column], [f"{target}.{key}"], name=f"fk_{table}_{column}_{target}", ondelete="SET NULL"
    )
