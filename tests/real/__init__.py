"""The whole tool against any server: a real Typesense where one is named, else the sandbox.

`TYPESENSE_TEST_URL` and `TYPESENSE_TEST_API_KEY` name a single node or a node of a cluster; the key needs all
actions. `TYPESENSE_TEST_DOCUMENTS` is the number of documents of each test, 500 by default on a real server. Each
test works in collections whose names begin with a prefix of its own, and removes those and no others.
"""
