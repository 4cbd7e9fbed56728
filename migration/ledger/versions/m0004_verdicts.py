"""A third verdict, the documents that failed a check, and whose server made the vectors of a model and of a run.

An older program knows PASS and FAIL alone. Going back, NOT CHECKED becomes FAIL, for it was no pass; the checks keep
that they were not made, by which coming here again finds the verdict.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")

results = sa.table(
    "verification_results", sa.column("id", sa.Text), sa.column("verdict", sa.Text), sa.column("checks", sa.JSON)
)


def upgrade() -> None:
    """Widen the verdict, add table and columns, empty, and find the verdicts again that an older form did not know."""
    _widen(8, 16)
    op.create_table(
        "wrong_documents",
        sa.Column("verification_id", ID, nullable=False),
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("check_name", sa.Text, nullable=False),
        sa.Column("document_id", sa.Text, nullable=False),
        sa.Column("expected", sa.Text, nullable=False),
        sa.Column("found", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("verification_id", "number", name="pk_wrong_documents"),
        sa.ForeignKeyConstraint(
            ["verification_id"],
            ["verification_results.id"],
            name="fk_wrong_documents_verification_id_verification_results",
            ondelete="CASCADE",
        ),
    )
    for table in ("embedding_models", "runs"):
        op.add_column(table, sa.Column("provider_server", sa.Text))
        op.add_column(table, sa.Column("model_digest", sa.Text))
    context = op.get_context()
    if context.as_sql:
        context.impl.static_output(
            "-- Verdicts that a downgrade made FAIL become NOT CHECKED again only by `kai-migrate ledger upgrade`."
        )
        return
    connection = op.get_bind()
    # As text: psycopg gives PostgreSQL's UUIDs as objects, which this column of text would not take back.
    identity = sa.cast(results.c.id, sa.Text)
    failed = sa.select(identity, results.c.checks).where(results.c.verdict == "FAIL")
    for result_id, checks in connection.execute(failed).all():
        passed = [check.get("passed") for check in checks]
        if None in passed and False not in passed:
            connection.execute(sa.update(results).where(identity == result_id).values(verdict="NOT CHECKED"))


def downgrade() -> None:
    """Drop table and columns with what they hold, and say FAIL of what was not checked."""
    for table in ("runs", "embedding_models"):
        op.drop_column(table, "model_digest")
        op.drop_column(table, "provider_server")
    op.drop_table("wrong_documents")
    op.execute(sa.update(results).where(results.c.verdict == "NOT CHECKED").values(verdict="FAIL"))
    _widen(16, 8)


def _widen(before: int, after: int) -> None:
    """Another length of the verdict. SQLite has to build the table anew; nothing refers to it in that moment."""
    table = sa.Table(
        "verification_results",
        sa.MetaData(),
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID),
        sa.Column("collection", sa.Text, nullable=False),
        sa.Column("verdict", sa.String(before), nullable=False),
        sa.Column("checks", sa.JSON, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_verification_results"),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name="fk_verification_results_run_id_runs", ondelete="SET NULL"
        ),
        sa.Index("ix_verification_results_run_id", "run_id"),
    )
    with op.batch_alter_table(table.name, copy_from=table) as batch:
        batch.alter_column("verdict", existing_type=sa.String(before), type_=sa.String(after), nullable=False)
