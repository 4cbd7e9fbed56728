"""What every table and column of the ledger holds, in words: for the reader of docs/ledger.md, and for PostgreSQL.

By the revision that says so. Like a revision, what was released is never changed: a later one says it anew.
"""

from typing import Any, Final

from sqlalchemy import MetaData

Comments = dict[str, dict[str, str]]
"""By table and column; the empty name is the table's own."""

COMMENTS_0005: Final[Comments] = {
    "embedding_models": {
        "": "Embedding spaces: what makes vectors comparable with each other",
        "id": "UUID",
        "number": "Small number by which documents refer to the model",
        "family": "openai, google, ollama or local",
        "model": "Name of the model, as the provider knows it",
        "dimensions": "Length of its vectors",
        "task_type": "Task type, where the family has one (google)",
        "fingerprint": "Hash over family, model, dimensions and task type; one model each",
        "tool_source": "Library that computed vectors with it last",
        "tool_version": "Version of that library then; of each run see run_starts",
        "provider_server": "Base URL of the provider that was asked last, without login; NULL where nobody is asked",
        "model_digest": "What that server calls the very model (ollama); NULL where it does not say",
        "first_used_at": "When a run first used it",
        "last_used_at": "When a run last used it",
    },
    "runs": {
        "": "Executions that changed or saved something: migrations, ways back, backups",
        "id": "UUID",
        "number": "Order in which runs began, whatever the clock said; documents refer to it",
        "name": "Name for people, unique",
        "kind": "migrate, rollback, restore or backup",
        "alias": "Second name, unique; can be moved and freed (kai-migrate label)",
        "description": "A person's note",
        "model_id": "Target of a migration; NULL for any other run",
        "reverts_run_id": "Run that a rollback takes back",
        "parameters": "What the run went by, such as the server's version and whether it made a backup",
        "source": "Server (host:port) and real names of the collections",
        "started_at": "When it began",
        "finished_at": "When it ended, the last time; NULL while it runs",
        "state": "running, completed, partial (some documents failed), stopped or interrupted",
        "totals": "By collection: status, count, success, failed",
        "host": "Machine of the last start",
        "pid": "Process of the last start",
        "provider_server": "Base URL of the provider, without login; NULL where nobody was asked",
        "model_digest": "What that server called the very model (ollama); NULL where it does not say",
    },
    "run_starts": {
        "": "Every start of a run: the first, and one for each time it was gone on with; never changed afterwards",
        "id": "UUID",
        "run_id": "The run",
        "number": "1 for the first start of the run, 2 for the next",
        "started_at": "When",
        "host": "Machine",
        "pid": "Process",
        "user_name": "Who, as the operating system knows them; NULL where it does not say",
        "program_version": "Version of this program; NULL where it was not recorded",
        "tool_source": "Library that computed the vectors; NULL for a run that embeds nothing",
        "tool_version": "Its version at that time",
        "options": "Every option that was given; NULL where they were not recorded",
        "environment": "Settings that the run went by, without keys and logins; NULL where they were not recorded",
        "collections_file": "Content of the file that described the collections; NULL for KAI's own",
    },
    "collection_runs": {
        "": "Collections within runs: one row for each time that one was taken up",
        "id": "UUID",
        "run_id": "The run",
        "collection": "The collection's real name",
        "strategy": "in place, recreate, rebuild, alter or skipped",
        "embedding_field": "Field that holds the vectors; NULL where it was not recorded",
        "template": "How a document becomes the text that is embedded; NULL for a way back without a description",
        "filter_by": "Filter of the documents that are embedded; empty for all",
        "old_dimensions": "Length of the vectors before",
        "new_dimensions": "Length of the vectors after",
        "eligible": "Documents that were to be done",
        "done": "Documents that carry the run's vector",
        "failed": "Documents that could not be done",
        "state": "running, completed, partial, stopped, interrupted or skipped",
        "backup_path": "Folder with what was overwritten; NULL for none",
        "started_at": "When it was begun",
        "finished_at": "When it ended",
        "downtime_seconds": "Time without the full collection, or without its vector field; NULL where there was none",
        "incomplete_seconds": "Time in which a vector search told only a part; NULL where there was none",
    },
    "document_collections": {
        "": "Collections that documents are known of",
        "id": "Small number by which documents refer to the collection",
        "source": "Server, as host:port in one spelling",
        "collection": "Real name",
    },
    "document_embeddings": {
        "": "What each document carries now: one row a document",
        "collection_id": "The collection",
        "document_id": "The document's id",
        "tenant": "Its db_connection_id, where it has one: whose document it is in KAI",
        "text_hash": "SHA-256 of the text that was embedded",
        "vector_hash": "SHA-256 of the vector as float32",
        "model_number": "Model of the vector; NULL where it is not known",
        "run_number": "Run that wrote or recognised it",
        "embedded_at": "When that was noted",
        "content_hash": "SHA-256 over the other fields; NULL where it was not taken",
    },
    "failures": {
        "": "Documents that a run could not do and that have not succeeded since",
        "id": "UUID",
        "run_id": "The run",
        "collection": "The collection's real name",
        "document_id": "The document's id",
        "stage": "Where it failed: embed, import, copy and so on",
        "reason": "Why, in the words of who refused it; at most 1000 characters",
        "at": "When",
    },
    "verification_results": {
        "": "Verdicts over collections after a run; the latest counts",
        "id": "UUID",
        "run_id": "The run",
        "collection": "The collection's real name",
        "verdict": "PASS, FAIL or NOT CHECKED",
        "checks": "Every check: name, passed, count, failed, confidence, detail",
        "at": "When",
    },
    "wrong_documents": {
        "": "Documents that failed a check",
        "verification_id": "The verdict that the check belongs to",
        "number": "Order in which they were found",
        "check_name": "The check",
        "document_id": "The document's id",
        "expected": "What should stand there; hashes of texts and vectors, at most 1000 characters",
        "found": "What stands there",
    },
    "metrics": {
        "": "How runs went, in numbers: one row for the run as a whole, one for each collection",
        "id": "UUID",
        "run_id": "The run",
        "collection": "The collection's real name; NULL for the run as a whole",
        "documents_per_second": "Documents written a second, from beginning to end",
        "tokens_per_second": "Estimated tokens by the time spent waiting for the provider",
        "latency_p50_ms": "Latency that half of the good embedding requests did not exceed",
        "latency_p95_ms": "Latency that 95 % of them did not exceed",
        "requests": "Embedding requests, failed ones too",
        "retries": "Embedding requests that were repeated",
        "failures": "Embedding requests that failed",
        "bytes_sent": "Bytes of import bodies",
        "tokens": "Estimated tokens of the texts that were embedded",
        "cost_usd": "List price of those tokens; NULL where it is not known",
        "seconds": "How long it took, all starts together",
    },
}

_STATES = "running, rehearsed, waiting (for finish), completed, partial"
COMMENTS_0006: Final[Comments] = {
    "runs": {"state": f"{_STATES} (some documents failed), stopped or interrupted"},
    "collection_runs": {"state": f"{_STATES}, stopped, interrupted or skipped"},
    "document_collections": {"field": "Embedding field; empty where an older version, which did not note it, knew one"},
}

COMMENTS_0007: Final[Comments] = {
    "evaluations": {
        "": "Models compared by questions with known answers: one row for each new model of an evaluation",
        "id": "UUID",
        "at": "When",
        "source": "Server, as host:port in one spelling",
        "collection": "The collection's real name",
        "field": "Embedding field of the old vectors",
        "old_model": "Model of the vectors that stood there, as family/model/dimensions",
        "new_model": "Model that was compared with it",
        "run": "Name of the run whose vectors the new ones were; NULL where they were computed for the evaluation",
        "questions": "How many were asked",
        "questions_from": "file, or documents where they were made from those",
        "searched": "Documents that were searched in",
        "metrics": "Figures of both models, and their differences with intervals",
        "verdict": "GO, NO-GO or CANNOT TELL",
        "rule": "By what it was judged",
    },
}

COMMENTS_0008: Final[Comments] = {
    "embedding_batches": {
        "": "Batches of texts that a provider embeds within a day (kai-migrate embed --via batch)",
        "id": "UUID",
        "name": "Name of ours, unique, which the provider keeps with the batch: by it one is found again",
        "model": "Model as family/name/dimensions",
        "fingerprint": "Hash over family, model, dimensions and task type, as in embedding_models",
        "provider_server": "Base URL of the provider, without login",
        "state": "intended, uploaded, submitted, collected, failed or cancelled",
        "provider_state": "What the provider said of it last",
        "texts": "Texts in it",
        "tokens": "Estimated tokens of them",
        "done": "Texts whose vectors are in the cache",
        "failed": "Texts that came back without a vector",
        "file": "File in MIGRATION_HOME with the texts as they were sent; gone once it is collected",
        "input_file_id": "The provider's name of that file; NULL before it is uploaded, and once it is deleted there",
        "batch_id": "The provider's name of the batch; NULL before it is submitted",
        "failures": "By SHA-256 of the text, why the provider refuses it",
        "reason": "Why the batch as a whole failed or was cancelled",
        "host": "Machine that began it",
        "created_at": "When it was intended",
        "updated_at": "When this row last changed",
    },
}

COMMENTS_0009: Final[Comments] = {
    "document_embeddings": {
        "cut_from": "Length of the same model's vector that this one was cut from; NULL where it was embedded, "
        "or where that is not known",
    },
}

_ALL: Final = (COMMENTS_0005, COMMENTS_0006, COMMENTS_0007, COMMENTS_0008, COMMENTS_0009)
COMMENTS: Final[Comments] = {
    table: {column: words for each in _ALL for column, words in each.get(table, {}).items()}
    for table in dict.fromkeys(table for each in _ALL for table in each)
}
"""As the newest revision leaves them."""


def change_comments(op: Any, new: Comments, earlier: Comments | None = None) -> None:
    """Say what tables and columns hold, in an Alembic revision, where the database keeps that.

    Args:
        op: Alembic's operations.
        new: what is to be said.
        earlier: in place of it, what was said before; a column that it does not name is silent again.
    """
    if not op.get_context().dialect.supports_comments:
        return
    for table, words in new.items():
        for column, comment in words.items():
            told = comment if earlier is None else earlier.get(table, {}).get(column)
            if column:
                op.alter_column(table, column, comment=told)
            else:
                op.create_table_comment(table, told)


def describe(metadata: MetaData) -> None:
    """Give tables and columns their comments, which only a database that knows them keeps.

    Raises:
        KeyError: one has none.
    """
    for table in metadata.sorted_tables:
        words = COMMENTS[table.name]
        table.comment = words[""]
        for column in table.columns:
            column.comment = words[column.name]
