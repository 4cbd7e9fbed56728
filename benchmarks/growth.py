"""How a ledger grows, a document and a run at a time: `python -m benchmarks.growth [URL]`, an empty database's."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path
from uuid import UUID

from sqlalchemy import text

from migration.ledger import Call, CheckResult, DocumentRecord, FailureRecord, Ledger, MetricsRecord
from migration.ledger.schema import metadata

DOCUMENTS, RUNS, FAILURES = 100_000, 500, 5_000
COLLECTIONS = ("context_stores", "instructions")
ENVIRONMENT = {
    "EMBEDDING_FAMILY": "openai",
    "EMBEDDING_MODEL": "text-embedding-3-small",
    "EMBEDDING_DIMENSIONS": "768",
    "OPENAI_API_BASE": "https://api.openai.com/v1",
    "TYPESENSE_HOST": "search",
    "TYPESENSE_PORT": "8108",
    "TYPESENSE_PROTOCOL": "http",
    "TYPESENSE_TIMEOUT": "60",
}


def size(ledger: Ledger, *, is_file: bool) -> int:
    """Bytes of the tables with their indexes."""
    pages = text("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
    relation = text("SELECT pg_total_relation_size(:name)")
    with ledger._reading() as connection:
        if is_file:
            return int(connection.execute(pages).scalar_one())
        return sum(connection.execute(relation, {"name": name}).scalar_one() for name in metadata.tables)


def digest(words: str) -> bytes:
    """What stands for a text or a vector."""
    return hashlib.sha256(words.encode()).digest()


def add_documents(ledger: Ledger, model: str, run: str) -> list[str]:
    """Documents with ids as an application makes them, in pages."""
    ids = [str(UUID(bytes=digest(str(number))[:16])) for number in range(DOCUMENTS)]
    for start in range(0, DOCUMENTS, 250):
        rows = [
            DocumentRecord(
                each, digest(each), digest(f"{each}v"), model, run, "65f1c0ffee0000000000abcd", digest("rest")
            )
            for each in ids[start : start + 250]
        ]
        ledger.record_documents("search:8108", COLLECTIONS[0], rows)
    return ids


def add_run(ledger: Ledger, model: str, number: int) -> None:
    """A run over two collections, with everything that is noted of one."""
    name = f"openai-text-embedding-3-small-768-20261120-{number:06}"
    call = Call(
        user_name="ada", program_version="0.1.0", tool_source="langchain-openai", tool_version="1.0.3",
        options={"strategy": "auto", "max_cost": 5.0}, environment=ENVIRONMENT,
    )  # fmt: skip
    parameters = {"concurrency": 4, "force": False, "backup": True, "typesense": "30.1"}
    source = {"server": "search:8108", "collections": COLLECTIONS}
    run = ledger.start_run(name, "migrate", model_id=model, parameters=parameters, source=source, call=call)
    measured = (10.5, 2000.5, 30.5, 90.5, 60, 1, 1, 50_000_000, 120_000, 0.0024, 61.5)
    for each in COLLECTIONS:
        identity = ledger.start_collection(
            run.id, each, "in place", old_dimensions=768, new_dimensions=768, eligible=6000,
            embedding_field="prompt_embedding", template="{prompt_text}", filter_by="is_default:=false",
            backup_path=f"/var/lib/kai-migration/backups/{name}/{each}",
        )  # fmt: skip
        ledger.update_collection(identity, done=6000, state="completed")
        checks = [CheckResult(f"sample found by its vector {number}", True, 6000) for number in range(6)]
        ledger.record_verification(run.id, each, "PASS", checks)
        ledger.record_metrics(run.id, MetricsRecord(each, *measured))
    ledger.record_metrics(run.id, MetricsRecord(None, *measured))
    ledger.finish_run(run.id, "completed", {each: {"status": "completed", "count": 6000} for each in COLLECTIONS})


def main() -> None:
    """Measure and print."""
    url = sys.argv[1] if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory() as home, Ledger.open(url, Path(home)) as ledger:
        model = ledger.register_model(
            family="openai", model="text-embedding-3-small", dimensions=768, fingerprint="70409b037592a6e6"
        )
        run = ledger.start_run("first", "migrate", model_id=model.id)
        sizes = [size(ledger, is_file=url is None)]
        ids = add_documents(ledger, model.id, run.id)
        sizes.append(size(ledger, is_file=url is None))
        for number in range(RUNS):
            add_run(ledger, model.id, number)
        sizes.append(size(ledger, is_file=url is None))
        reason = "400: This model's maximum context length is 8192 tokens, however you requested 9021 tokens"
        ledger.record_failures(
            run.id, COLLECTIONS[0], [FailureRecord(each, "embed", reason) for each in ids[:FAILURES]]
        )
        sizes.append(size(ledger, is_file=url is None))
        counts = {"document": DOCUMENTS, "run of two collections": RUNS, "failed document": FAILURES}
        print(f"empty: {sizes[0]:,} bytes")
        for (what, count), before, after in zip(counts.items(), sizes, sizes[1:], strict=False):
            print(f"a {what}: {(after - before) / count:,.0f} bytes")


if __name__ == "__main__":
    main()
