"""A small server compatible with Typesense 29 and 30, for demonstrations and tests.

It is **not a search engine for production**: it keeps every document in memory, ranks text crudely and
compares vectors one by one. What it does do is answer the calls of the embedding migration the way a real
server was recorded to answer them, hold its data through `kill -9`, and reproduce the hazards that a
migration must survive: references by sequence number, cascading deletes, slow schema changes, curations that
hide documents.

Left out: facets and grouping, typo tolerance, embedding by the server itself (`embed` is kept in the schema),
geo filters, scoped search keys, presets, stopwords, analytics; of curations all but hiding and pinning documents
for an exact query. Values of `store: false` fields are checked and then forgotten.

A cluster with lagging followers, whose nodes can be killed, is `kai.sandbox.cluster`.

    python -m kai.sandbox --port 8108 --api-key xyz --data-dir ./sandbox-data --sample
    python -m kai.sandbox --nodes 3 --balancer --api-key xyz --data-dir ./sandbox-data
"""
