"""Which field holds the text: by its name, by what is in it, and never a code, a date or a category."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from kai.collections import EmbeddedCollection
from migration.operations.discovery.text_fields import text_fields
from tests.world import field, kai_schemas, made_up


def schema(*fields: dict[str, Any]) -> dict[str, Any]:
    """A schema of these fields and a vector."""
    return {"name": "x", "fields": [*fields, field("vector", "float[]", num_dim=4)]}


def names(*fields: dict[str, Any], sample: list[dict[str, Any]], embedding: str = "vector") -> list[str]:
    """The fields that may hold text, the likeliest first."""
    return [found.name for found in text_fields(schema(*fields), embedding, sample)]


def test_the_field_whose_name_fits_the_vectors_comes_first() -> None:
    stores = kai_schemas(4)[1]
    found = text_fields(stores, "prompt_embedding", made_up(questions=40)["context_stores"])
    assert found[0].name == "prompt_text"
    assert (
        found[0].reason == "its name fits the embedding field's; text in 40 of 40 sampled documents, 9 words on average"
    )


def test_codes_dates_addresses_and_references_are_no_text() -> None:
    sample = [
        {
            "id": "words that are an id",
            "at": "2026-01-01 10:00:00",
            "uri": "postgresql://localhost/x",
            "code": "AB-12",
            "owner": "words that lead elsewhere",
            "body": "a sentence of words",
        }
    ]
    assert names(field("owner", reference="owners.id"), sample=sample) == ["body"]


def test_what_stands_in_many_documents_alike_comes_last() -> None:
    sample = [{"kind": "a kind of thing", "remark": f"remark about thing {number} of many"} for number in range(40)]
    assert names(field("kind"), field("remark"), sample=sample) == ["remark", "kind"]


def test_texts_inside_objects_and_beside_the_schema_are_found() -> None:
    sample = [{"page": {"body": "words in an object"}, "tags": ["red bicycle", "blue boat"]}]
    assert names(sample=sample) == ["page.body", "tags"]


def test_without_documents_names_alone_speak() -> None:
    assert names(field("sku"), field("title"), field("count", "int32"), sample=[]) == ["title"]


@given(
    st.lists(
        st.dictionaries(
            st.text(min_size=1, max_size=6),
            st.one_of(
                st.none(), st.text(max_size=30), st.lists(st.text(max_size=5)), st.floats(), st.just("two words")
            ),
            max_size=5,
        ),
        max_size=6,
    )
)
@example([{"[": "two words"}, {"a]": "two words"}])
def test_whatever_is_found_is_a_template_by_which_a_document_has_a_text(sample: list[dict[str, Any]]) -> None:
    for found in text_fields(schema(), "vector", sample):
        collection = EmbeddedCollection("x", "vector", f"{{{found.name}}}")
        assert sum(bool(collection.text_of(document)) for document in sample) >= found.filled > 0
