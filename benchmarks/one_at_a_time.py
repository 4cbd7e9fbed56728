"""What somebody would write in an afternoon: embed one document, store it, go on to the next.

LangChain's `embed_query` and the official client's update of one document, as they are. Run by the
benchmark as a process of its own; prints what the loop took as JSON. Reading the documents is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from typing import Any

import typesense
from langchain_openai import OpenAIEmbeddings
from pydantic import SecretStr

from benchmarks.scene import FIELD


def main() -> None:
    """Migrate the first documents of a collection."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("collection")
    parser.add_argument("documents", type=int)
    options = parser.parse_args()
    embeddings = OpenAIEmbeddings(
        model=os.environ["EMBEDDING_MODEL"],
        dimensions=int(os.environ["EMBEDDING_DIMENSIONS"]),
        api_key=SecretStr(os.environ["OPENAI_API_KEY"]),
        base_url=os.environ["OPENAI_API_BASE"],
        check_embedding_ctx_length=False,  # else it downloads a vocabulary
    )
    node: Any = {
        "host": os.environ["TYPESENSE_HOST"],
        "port": os.environ["TYPESENSE_PORT"],
        "protocol": os.environ["TYPESENSE_PROTOCOL"],
    }
    client = typesense.Client(
        {"api_key": os.environ["TYPESENSE_API_KEY"], "nodes": [node], "connection_timeout_seconds": 60}
    )
    documents = client.collections[options.collection].documents
    texts: dict[str, str] = {}
    for page in range(1, -(-options.documents // 250) + 1):
        wanted: Any = {"q": "*", "per_page": 250, "page": page, "exclude_fields": FIELD}
        found: Any = documents.search(wanted)
        texts.update({hit["document"]["id"]: hit["document"]["question"] for hit in found["hits"]})
    chosen = list(texts.items())[: options.documents]

    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    for document_id, text in chosen:
        documents[document_id].update({FIELD: embeddings.embed_query(text)})
    seconds, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_SELF)

    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"documents": len(chosen), "seconds": seconds, "cpu_seconds": cpu}))


if __name__ == "__main__":
    main()
