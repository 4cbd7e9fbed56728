"""What a look at a collection's vectors finds, without a server and without a provider."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kai.collections import EmbeddedCollection
from kai.families import RequestLimits
from kai.models import EmbeddingSettings, Model, fingerprint
from kai.typesense import Typesense
from kai.typesense_nodes import NodeSeen
from kai.vectors import Vector
from migration.assessment.diagnosis.findings import MOST_IDS, Check, Finding, Named, worst
from migration.assessment.diagnosis.meaning import (
    AnotherModelError,
    Compared,
    Sample,
    compare,
    draw_sample,
    find_shared,
    findings_of_compared,
    findings_of_shared,
)
from migration.assessment.diagnosis.origin import trace
from migration.assessment.diagnosis.schema import check_schema
from migration.assessment.diagnosis.server import check_nodes
from migration.assessment.diagnosis.stored import Place, Stored, findings_by_ledger, findings_of, read_stored
from migration.embedding.cache import VectorCache
from migration.embedding.embed import Embedder, text_hash
from migration.embedding.provider import Provider, RefusedTexts
from migration.ledger import DocumentRecord, Ledger, vector_hash
from migration.runtime.meter import Meter
from tests.providers.vectors import vector_for
from tests.unit.fake_typesense import FakeTypesense
from tests.world import field

SIZE = 32
NOTES = EmbeddedCollection("notes", "vector", "{title}")
SETTINGS = EmbeddingSettings("openai", "text-embedding-3-small", SIZE)
SPACE = fingerprint(SETTINGS, "")
Documents = Mapping[str, dict[str, Any]]


def of(text: str, model: str = "small") -> list[float]:
    return [float(number) for number in vector_for(text, model=model, dimensions=SIZE)]


def healthy(count: int = 40) -> dict[str, dict[str, Any]]:
    return {f"n{number}": {"title": f"note {number}", "vector": of(f"note {number}")} for number in range(count)}


def place_of(documents: Documents, **attributes: Any) -> Place:
    fields = [field("title"), field("vector", "float[]", num_dim=SIZE, optional=True, **attributes)]
    fake = FakeTypesense(fields, documents)
    return Place(cast(Typesense, fake), NOTES, fake.collection("notes") or {})


def ids_by_code(findings: Iterator[Finding] | Sequence[Finding]) -> dict[str, set[str]]:
    found = {finding.code: set(finding.ids) for finding in findings}
    assert all(found.values())
    return found


class Seller:
    """A provider of one model, which does not take some texts."""

    dimensions = SIZE

    def __init__(self, model: str = "small", refused: Sequence[str] = ()) -> None:
        self.model, self.refused, self.sold = model, refused, list[str]()

    def vectors(self, texts: Sequence[str]) -> Vector:
        if set(texts) & set(self.refused):
            raise RefusedTexts("too long")
        self.sold += texts
        return np.stack([vector_for(text, model=self.model, dimensions=SIZE) for text in texts])


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[VectorCache]:
    with VectorCache(tmp_path) as made:
        yield made


@pytest.fixture
def look(cache: VectorCache) -> Callable[..., Compared]:
    """Read a collection and compare it with what a seller gives."""

    def compared(place: Place, seller: Seller, most: int | None = None) -> Compared:
        stored = read_stored(place, None, None)
        limits = RequestLimits(texts=100, tokens=100_000)
        embedder = Embedder(cast(Provider, seller), limits=limits, space=SPACE, cache=cache, meter=Meter())
        return compare(place, stored, draw_sample(stored, SETTINGS.model, most, None), embedder, cache, SPACE)

    return compared


# -- seen without embedding ------------------------------------------------------------------------------


def test_a_healthy_collection_gives_no_finding() -> None:
    place = place_of(healthy())
    stored = read_stored(place, None, None)
    assert (stored.documents, stored.compared) == (40, 40)
    assert list(findings_of(stored, place)) == []
    assert find_shared(place, stored).count == 0


def test_vectors_that_are_none_are_told_from_each_other() -> None:
    documents = healthy() | {
        "none": {"title": "a"},
        "zero": {"title": "b", "vector": [0.0] * SIZE},
        "words": {"title": "c", "vector": ["x"] * SIZE},
        "huge": {"title": "d", "vector": [1e39] * SIZE},
        "short": {"title": "e", "vector": [1.0, 2.0]},
        "no text": {"vector": of("f")},
        "neither": {"title": "  "},
    }
    place = place_of(documents)
    assert ids_by_code(findings_of(read_stored(place, None, None), place)) == {
        "no_vector": {"none"},
        "zero_vector": {"zero"},
        "not_numbers": {"words"},
        "not_finite": {"huge"},
        "mixed_lengths": {"short"},
        "no_text": {"no text", "neither"},
    }


def test_a_field_of_the_template_that_no_document_has_is_told_and_an_empty_one_is_not() -> None:
    documents = healthy() | {"empty": {"title": "x", "vector": of("x"), "body": ""}}
    collection = replace(NOTES, template="{title}: {body}")
    place = replace(place_of(documents), collection=collection)
    assert list(findings_of(read_stored(place, None, None), place)) == []
    place = replace(place_of(healthy()), collection=collection)
    (finding,) = findings_of(read_stored(place, None, None), place)
    assert (finding.severity, finding.code, finding.count) == ("warning", "template", 0)
    assert finding.what.startswith("no document has {body} of the template '{title}: {body}'")


def test_a_text_that_is_certainly_over_the_models_limit_is_named() -> None:
    model = Model("openai", "small", None, SIZE, token_limit=10, usd_per_million_tokens=0.1)
    long = "word " * 11
    place = place_of(healthy() | {"long": {"title": long, "vector": of(long)}})
    assert ids_by_code(findings_of(read_stored(place, None, model), place)) == {"text_too_long": {"long"}}


def test_a_vector_that_is_not_normalised_counts_by_the_inner_product_alone() -> None:
    documents = healthy() | {"twice": {"title": "x", "vector": [2 * number for number in of("x")]}}
    for distance, expected in (("cosine", {}), ("ip", {"not_normalised": {"twice"}})):
        place = place_of(documents, vec_dist=distance)
        assert ids_by_code(findings_of(read_stored(place, None, None), place)) == expected


def test_one_vector_for_several_texts_is_a_hint_unless_they_differ_in_nothing_that_every_model_sees() -> None:
    documents = healthy() | {
        "again": {"title": "note 3", "vector": of("note 3")},
        "loud": {"title": "NOTE, 4!", "vector": of("note 4")},
        "turned": {"title": "5 note", "vector": of("note 5")},
        "wrong": {"title": "something else", "vector": of("note 6")},
    }
    place = place_of(documents)
    shared = find_shared(place, read_stored(place, None, None))
    (finding,) = findings_of_shared(place, shared)
    assert (finding.severity, finding.code, set(finding.ids)) == ("warning", "duplicate_vector", {"n6", "wrong"})


def test_the_ledger_says_whose_vectors_they_are_and_whose_text_was_changed_since(tmp_path: Path) -> None:
    documents = healthy(6) | {"changed": {"title": "the new title", "vector": of("the old title")}}
    place = place_of(documents)
    with Ledger.open(None, tmp_path) as ledger:
        ours = ledger.register_model(family="openai", model="small", dimensions=SIZE, fingerprint="s")
        theirs = ledger.register_model(family="openai", model="large", dimensions=SIZE, fingerprint="l")
        run = ledger.start_run("run", "migrate", model_id=ours.id, source={"server": place.server.address})

        def record(id_: str, text: str, model_id: str) -> DocumentRecord:
            stored = np.asarray(documents[id_]["vector"], np.float32).tobytes()
            return DocumentRecord(id_, text_hash(text), vector_hash(stored), model_id, run.id)

        records = [record(id_, documents[id_]["title"], ours.id) for id_ in ("n0", "n1", "n2", "n3")]
        records += [record("n4", "note 4", theirs.id), record("changed", "the old title", ours.id)]
        ledger.record_documents(place.server.address, "notes", records, field="vector")
        stored = read_stored(place, ledger, None)
        found = list(findings_by_ledger(stored, place, ledger))
    assert ids_by_code(found) == {"mixed_models": {"n4"}, "changed_text": {"changed"}}
    assert found[0].what == (
        f"1 document with vectors of openai/large/{SIZE} by the ledger, where 5 carry those of openai/small/{SIZE}"
    )


# -- the sample ------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.none() | st.integers(0, 70), st.floats(0, 1e-4))
def test_a_sample_is_within_its_bounds_and_has_the_texts_that_it_counts(
    texts: list[int], most: int | None, usd: float
) -> None:
    stored = Stored()
    for text in texts:
        stored.texts.append(text * 2**57)
        stored.tokens.append(100)
    sample = draw_sample(stored, SETTINGS.model, most, usd)
    assert sample.of == len(set(texts))
    assert sample.texts == len({text for text in texts if sample.has(text * 2**57)})
    assert most is None or sample.texts <= most
    assert sample.cost_usd is not None
    assert sample.cost_usd <= usd * 1.000001
    assert sample.tokens == 100 * sample.texts
    if most is None and usd >= sample.whole_cost_usd:  # type: ignore[operator]
        assert sample.is_whole


def test_a_price_that_is_not_known_or_nothing_bounds_no_sample() -> None:
    stored = Stored()
    stored.texts.extend([1, 2, 3])
    stored.tokens.extend([10**6] * 3)
    assert draw_sample(stored, "never heard of", None, 0.01) == Sample(3, 3, 3 * 10**6, None, None, 3)
    assert draw_sample(stored, "l2_supercat", None, 0.0).is_whole


# -- the comparison --------------------------------------------------------------------------------------


def spoilt() -> dict[str, dict[str, Any]]:
    documents = healthy(400)
    documents["n3"]["vector"] = of("note 3", model="large")
    documents["n4"]["vector"] = of("note 5")
    documents["n6"]["vector"], documents["n7"]["vector"] = documents["n7"]["vector"], documents["n6"]["vector"]
    near = np.asarray(of("note 8")) + 0.5 * np.asarray(of("something"))
    documents["n8"]["vector"] = near.tolist()
    return documents


def test_a_vector_that_is_not_its_texts_is_another_texts_or_another_models(look: Callable[..., Compared]) -> None:
    place, seller = place_of(spoilt()), Seller()
    compared = look(place, seller)
    assert (compared.documents, compared.same, compared.is_whole) == (400, 395, True)
    found = list(findings_of_compared(place, compared, "openai/small"))
    assert ids_by_code(found) == {"wrong_text": {"n4", "n6", "n7"}, "changed_text": {"n8"}, "another_model": {"n3"}}
    (wrong,) = (finding.what for finding in found if finding.code == "wrong_text")
    for pair in ("n4 has that of n5", "n6 has that of n7", "n7 has that of n6"):
        assert pair in wrong
    assert compared.shared.count == 0
    assert len(seller.sold) == len(set(seller.sold)) == 400


def test_a_healthy_collection_is_the_models(look: Callable[..., Compared]) -> None:
    place = place_of(healthy())
    compared = look(place, Seller())
    assert (compared.documents, compared.same) == (40, 40)
    assert list(findings_of_compared(place, compared, "openai/small")) == []


def test_of_a_part_it_is_not_said_whose_vector_it_is_that_is_no_texts_of_the_part(
    look: Callable[..., Compared],
) -> None:
    place, seller = place_of(spoilt()), Seller()
    compared = look(place, seller, most=390)
    assert len(seller.sold) == 390
    assert not compared.is_whole
    assert "another_model" not in ids_by_code(findings_of_compared(place, compared, "openai/small"))


def test_what_the_cache_has_is_compared_beside_the_sample(look: Callable[..., Compared], cache: VectorCache) -> None:
    kept = [f"note {number}" for number in range(10, 30)]
    pairs = [(text_hash(text), vector_for(text, model="small", dimensions=SIZE)) for text in kept]
    cache.put_many(SPACE, pairs)
    seller = Seller()
    compared = look(place_of(healthy()), seller, most=0)
    assert (compared.documents, compared.same) == (20, 20)
    assert set(seller.sold) <= set(kept)  # Asked for again, to see that the model is still the same.
    assert len(seller.sold) == 10


def test_a_model_that_gives_other_vectors_than_were_bought_is_another_one(
    look: Callable[..., Compared], cache: VectorCache
) -> None:
    cache.put_many(SPACE, [(text_hash("note 1"), vector_for("note 1", model="small", dimensions=SIZE))])
    with pytest.raises(AnotherModelError, match="another model has the configured name now: of 1 texts"):
        look(place_of(healthy()), Seller("large"))


def test_a_text_that_the_provider_does_not_take_is_named_and_the_others_are_compared(
    look: Callable[..., Compared],
) -> None:
    place = place_of(healthy())
    compared = look(place, Seller(refused=["note 3"]))
    assert (compared.documents, compared.same, compared.is_whole) == (39, 39, True)
    (finding,) = findings_of_compared(place, compared, "openai/small")
    assert (finding.code, finding.ids) == ("text_refused", ("n3",))
    assert "(too long)" in finding.what


def test_where_no_vector_is_the_models_shared_ones_are_still_told(look: Callable[..., Compared]) -> None:
    place = place_of(healthy() | {"wrong": {"title": "something else", "vector": of("note 6")}})
    compared = look(place, Seller("large"))
    assert (compared.documents, compared.same, compared.strays[0].cosine < 0.9) == (41, 0, True)
    assert list(findings_of_compared(place, compared, "openai/large")) == []
    assert set(compared.shared.ids) == {"n6", "wrong"}


def test_a_vector_with_the_neighbours_of_the_models_own_is_of_a_text_that_is_not_there() -> None:
    numbers = np.random.default_rng(3)
    topics = numbers.normal(size=(8, 64))

    def written(count: int) -> Vector:
        vectors: Vector = (topics[np.arange(count) % 8] + 0.4 * numbers.normal(size=(count, 64))).astype(np.float32)
        return vectors

    own, elsewhere, foreign = written(200), written(4), numbers.normal(size=(4, 64)).astype(np.float32)
    parts = [([str(row) for row in range(at, at + 50)], own[at : at + 50]) for at in range(0, 200, 50)]
    origins = trace([*elsewhere, *foreign, own[7]], list(own[:100]), parts)
    assert [origin.is_of_model for origin in origins] == [True] * 4 + [False] * 4 + [True]
    assert [origin.document_id for origin in origins] == [None] * 8 + ["7"]


# -- schemas, nodes, findings ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "length", "expected"),
    [
        ({}, 1.0, {}),
        ({}, 0.7, {}),
        ({"vec_dist": "ip"}, 1.0, {}),
        ({"vec_dist": "ip"}, 0.7, {"vec_dist": "warning"}),
        ({"num_dim": 8}, None, {"num_dim": "info"}),
        ({"num_dim": None}, None, {"schema": "warning"}),
        ({"embed": {"from": ["title"]}}, None, {"schema": "warning"}),
        ({"name": "other"}, None, {"field": "error"}),
        ({"type": "float"}, None, {"field": "error"}),
    ],
)
def test_a_schema_is_held_against_the_model(
    attributes: dict[str, Any], length: float | None, expected: dict[str, str]
) -> None:
    vector = {"name": "vector", "type": "float[]", "num_dim": SIZE, "optional": True, **attributes}
    schema = {"name": "notes", "fields": [field("title"), vector]}
    check = check_schema(NOTES, schema, SETTINGS, length)
    assert {finding.code: finding.severity for finding in check.findings} == expected


def test_metadata_that_name_another_model_are_told_and_the_models_own_are_not() -> None:
    fields = [field("title"), field("vector", "float[]", num_dim=SIZE)]
    stamp = {"family": "openai", "model": "old", "dimensions": SIZE, "fingerprint": "another"}
    schema = {"name": "notes", "fields": fields, "metadata": {"embedding": stamp}}
    (finding,) = check_schema(NOTES, schema, SETTINGS).findings
    assert (finding.severity, finding.code) == ("info", "model_stamp")
    assert f"are of openai/old/{SIZE}, and openai/text-embedding-3-small/{SIZE} is configured" in finding.what
    stamp["fingerprint"] = fingerprint(SETTINGS, NOTES.template)
    assert check_schema(NOTES, schema, SETTINGS).findings == ()


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["leader"], []),
        (["gone"], ["node_not_healthy error"]),
        (["leader", "follower", "follower"], []),
        (["leader", "follower", "gone"], ["node_not_healthy warning"]),
        (["follower", "follower", "gone"], ["node_not_healthy warning", "no_leader error"]),
        (["leader", "leader", "follower"], ["no_leader error"]),
        (["silent", "silent"], []),
        (["gone", "gone"], ["node_not_healthy error", "node_not_healthy error"]),
    ],
)
def test_every_node_should_be_healthy_and_one_lead(states: list[str], expected: list[str]) -> None:
    nodes = [NodeSeen(f"http://n{number}:8108", state != "gone", state) for number, state in enumerate(states)]
    assert [f"{finding.code} {finding.severity}" for finding in check_nodes(nodes).findings] == expected


def test_a_verdict_is_that_of_the_worst_finding_and_a_check_that_was_not_made_has_none() -> None:
    findings = {severity: Finding(severity, "code", "what", "where") for severity in ("error", "warning", "info")}
    assert Check("a", "b", "c").verdict == "PASS"
    assert Check("a", "b", "c", (findings["info"],)).verdict == "PASS"
    assert Check("a", "b", "c", (findings["info"], findings["warning"])).verdict == "WARN"
    assert Check("a", "b", "c", (findings["error"], findings["info"])).verdict == "FAIL"
    assert Check("a", "b", "c", (findings["error"],), is_made=False).verdict == "NOT CHECKED"
    assert worst([findings["info"], findings["warning"]]) == "warning"
    assert worst([]) is None


def test_a_finding_counts_all_of_its_documents_and_names_the_first_thousand() -> None:
    named = Named()
    named.extend(str(number) for number in range(MOST_IDS + 5))
    (finding,) = named.found("error", "code", "are so", "where", "mend")
    assert (finding.count, len(finding.ids), finding.what) == (1005, 1000, "1,005 documents are so")
    assert Named().found("error", "code", "are so", "where", "mend") == ()
