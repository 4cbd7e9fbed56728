"""What belongs to a collection survives; what cannot survive is refused, or told beforehand."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from kai.typesense import Typesense
from migration.ledger import Ledger
from tests.killing import Ended, run_watched
from tests.providers.vectors import vector_for
from tests.recreate.small import (
    LINKS,
    MODEL,
    NAME,
    OLD_DIMENSIONS,
    SOURCES,
    SmallWorld,
    check_documents,
    text_of,
    wrong_joins,
)
from tests.world import as_float32, field

TARGET = 32
pytestmark = pytest.mark.usefixtures("warm")


def run(small: SmallWorld, folder: Path, **options: Any) -> Ended:
    """A run to the target."""
    return run_watched(small.options(**options), small.environment(TARGET, folder / "home"), folder)


# -- references of others --------------------------------------------------------------------------------


def test_the_server_joins_to_wrong_documents_when_a_collection_is_recreated_by_hand(small: SmallWorld) -> None:
    http = small.world.http
    documents = list(small.world.documents(NAME).values())
    schema = small.world.schema(NAME)
    assert wrong_joins(small.world) == {}
    http.delete(f"/collections/{NAME}").raise_for_status()
    http.post("/collections", json={k: v for k, v in schema.items() if k != "created_at"}).raise_for_status()
    small.world.import_(NAME, documents)
    assert len(wrong_joins(small.world)) > 30


def test_references_of_other_collections_are_renewed(small: SmallWorld, tmp_path: Path) -> None:
    before = small.world.documents(LINKS)
    ended = run(small, tmp_path)
    assert ended.status == 0, ended.text
    assert f"{len(before)} references of 'links' renewed" in ended.text
    assert wrong_joins(small.world) == {}
    assert small.world.documents(LINKS) == before
    # Deleting a note takes the links to it along, and no others.
    gone = {id_ for id_, link in before.items() if "n20" in (link["note_id"], *link["others"])}
    small.world.http.delete(f"/collections/{NAME}/documents/n20").raise_for_status()
    assert set(small.world.documents(LINKS)) == set(before) - gone


def test_documents_that_a_delete_takes_along_by_a_number_of_another_are_told_and_offered(
    small: SmallWorld, tmp_path: Path
) -> None:
    http = small.world.http
    before = small.world.documents(LINKS)

    def at_request(_: int, name: str) -> None:
        if name.startswith(f"POST /collections/{LINKS}/documents/import") and not deleted:
            http.delete(f"/collections/{NAME}/documents/n20").raise_for_status()
            deleted.append("n20")

    deleted: list[str] = []
    ended = run_watched(small.options(), small.environment(TARGET, tmp_path / "home"), tmp_path, at_request=at_request)
    assert ended.status == 0, ended.text
    now = small.world.documents(LINKS)
    gone = {id_: link for id_, link in before.items() if id_ not in now}
    wrong = {id_: link for id_, link in gone.items() if "n20" not in (link["note_id"], *link["others"])}
    assert wrong
    note = next(line for line in ended.text.splitlines() if f"documents of '{LINKS}' went while" in line)
    file = tmp_path / "home" / "runs" / note.split("/runs/")[1].split(";")[0]
    assert file.stat().st_mode & 0o077 == 0
    offered = {document["id"]: document for document in map(json.loads, file.read_text().splitlines())}
    assert offered == wrong
    assert not list(file.parent.glob("referring-*"))
    put_back = http.post(f"/collections/{LINKS}/documents/import?action=create", content=file.read_bytes())
    assert put_back.text.count('"success":true') == len(offered)


def test_references_by_an_alias_are_renewed_too(small: SmallWorld, tmp_path: Path) -> None:
    schema = {"name": "marks", "fields": [field("note_id", reference="current.id")]}
    small.world.http.post("/collections", json=schema).raise_for_status()
    small.world.import_("marks", [{"id": id_, "note_id": id_} for id_ in small.expected])
    ended = run(small, tmp_path)
    assert ended.status == 0, ended.text
    assert f"{len(small.expected)} references of 'marks' renewed" in ended.text
    small.world.http.delete(f"/collections/{NAME}/documents/n20").raise_for_status()
    assert set(small.world.documents("marks")) == set(small.expected) - {"n20"}


def test_a_collection_that_refers_to_itself_is_refused(small_29: SmallWorld, tmp_path: Path) -> None:
    altered = {"fields": [field("parent", reference=f"{NAME}.id", optional=True)]}
    small_29.world.http.patch(f"/collections/{NAME}", json=altered).raise_for_status()
    ended = run(small_29, tmp_path)
    assert ended.status == 2, ended.text
    assert "refers to itself by parent" in ended.text


# -- the schema ------------------------------------------------------------------------------------------


def test_where_a_vector_is_required_the_documents_outside_the_filter_are_embedded_too(
    small: SmallWorld, tmp_path: Path
) -> None:
    for id_ in ("n7", "n8"):
        small.expected[id_]["vector"] = [0.5] * OLD_DIMENSIONS
    documents = dict(small.expected)
    small.world.clear()
    http = small.world.http
    http.post("/collections", json={"name": SOURCES, "fields": [field("label")]}).raise_for_status()
    small.world.import_(SOURCES, [{"id": f"s{number}", "label": "x"} for number in range(3)])
    fields = [
        field("source_id", reference=f"{SOURCES}.id"),
        field("title"),
        field("text"),
        field("draft", "bool"),
        field("vector", "float[]", num_dim=OLD_DIMENSIONS),
    ]
    http.post("/collections", json={"name": NAME, "fields": fields}).raise_for_status()
    small.world.import_(NAME, documents.values())
    dry = run(small, tmp_path, dry_run=True)
    assert "7 documents outside the filter are embedded too, because the field is not optional" in dry.text
    ended = run(small, tmp_path)
    assert ended.status == 0, ended.text
    now = small.world.documents(NAME)
    assert list(now) == list(documents)
    for document in now.values():
        wanted = vector_for(text_of(document), model=MODEL, dimensions=TARGET)
        assert as_float32(document["vector"]) == wanted.tobytes()


def test_every_attribute_of_a_rich_schema_survives(small: SmallWorld, tmp_path: Path) -> None:
    rich = {
        "name": "rich",
        "enable_nested_fields": True,
        "token_separators": ["-", "/"],
        "symbols_to_index": ["+", "#"],
        "default_sorting_field": "rank",
        "metadata": {"owner": "search team"},
        "fields": [
            field("title", infix=True, locale="en", stem=True),
            field("rank", "int32"),
            field("price", "float", range_index=True, optional=True),
            field("tags", "string[]", facet=True),
            field("loc", "geopoint", optional=True),
            field("v", "float[]", num_dim=4, vec_dist="ip", hnsw_params={"M": 8, "ef_construction": 100}),
            field("other", "float[]", num_dim=3, optional=True),
            field("raw", "object", optional=True),
        ],
    }
    http = small.world.http
    http.post("/collections", json=rich).raise_for_status()
    documents = [
        {
            "id": f"r/{number} ü&?",
            "title": f"title {number}",
            "rank": number,
            "price": number / 7,
            "tags": ["a", "b"],
            "loc": [48.1, 11.5],
            "v": [0.1, 0.2, 0.3, 0.4],
            "other": [1.5, 2.5, number],
            "raw": {"x": {"y": number}},
        }
        for number in range(5)
    ]
    small.world.import_("rich", documents)
    before, everything = small.world.schema("rich"), small.world.documents("rich")
    file = tmp_path / "rich.toml"
    file.write_text('[rich]\nembedding_field = "v"\ntemplate = "{title}"\n')
    options = small.options()
    options = type(options)(collections=("rich",), collections_file=file)
    ended = run_watched(options, small.environment(TARGET, tmp_path / "home"), tmp_path)
    assert ended.status == 0, ended.text
    after, now = small.world.schema("rich"), small.world.documents("rich")
    after["metadata"].pop("embedding")
    by_name = {f["name"]: f for f in after.pop("fields")}
    wanted = {f["name"]: f for f in before.pop("fields")}
    wanted["v"]["num_dim"] = TARGET
    assert by_name == wanted
    before.pop("created_at"), after.pop("created_at")
    assert after == before
    assert list(now) == list(everything)
    for id_, document in now.items():
        assert len(document.pop("v")) == TARGET
        assert document == {key: value for key, value in everything[id_].items() if key != "v"}


@pytest.mark.parametrize(("attribute", "said"), [("store", "`store: false`"), ("embed", "has an `embed` setting")])
def test_what_a_copy_cannot_have_is_refused(small: SmallWorld, tmp_path: Path, attribute: str, said: str) -> None:
    http = small.world.http
    if attribute == "store":
        altered = {"fields": [field("hidden", store=False, optional=True)]}
        http.patch(f"/collections/{NAME}", json=altered).raise_for_status()
    else:
        http.delete(f"/collections/{LINKS}").raise_for_status()
        http.delete(f"/collections/{NAME}").raise_for_status()
        embed = {"from": ["title"], "model_config": {"model_name": "openai/x", "api_key": "sk-secret-key"}}
        fields = [field("title"), field("text"), field("draft", "bool")]
        fields.append(field("vector", "float[]", num_dim=OLD_DIMENSIONS, embed=embed))
        http.post("/collections", json={"name": NAME, "fields": fields}).raise_for_status()
    before = small.world.state((NAME,))
    ended = run(small, tmp_path)
    assert ended.status == 2, ended.text
    assert said in ended.text
    assert small.world.state((NAME,)) == before


def test_synonyms_and_metadata_that_change_while_the_shadow_is_built_are_taken_along(
    small_29: SmallWorld, tmp_path: Path
) -> None:
    def change(number: int, _: str) -> None:
        if number != 25:
            return
        import httpx

        with httpx.Client(base_url=small_29.world.url, headers={"X-TYPESENSE-API-KEY": small_29.world.key}) as http:
            http.put(f"/collections/{NAME}/synonyms/new", json={"synonyms": ["a", "b"]})
            http.delete(f"/collections/{NAME}/synonyms/houses")
            http.patch(f"/collections/{NAME}", json={"metadata": {"revision": 8}})

    environment = small_29.environment(TARGET, tmp_path / "home")
    ended = run_watched(small_29.options(), environment, tmp_path, at_request=change)
    assert ended.status == 0, ended.text
    synonyms = small_29.world.http.get(f"/collections/{NAME}/synonyms").json()["synonyms"]
    assert [synonym["id"] for synonym in synonyms] == ["new"]
    metadata = small_29.world.schema(NAME)["metadata"]
    metadata.pop("embedding")
    assert metadata == {"revision": 8}
    check_documents(small_29.world, small_29.expected, TARGET)


# -- names -----------------------------------------------------------------------------------------------


def test_the_old_collection_can_be_kept(small: SmallWorld, tmp_path: Path) -> None:
    before = small.world.documents(NAME)
    ended = run(small, tmp_path, keep_old=True)
    assert ended.status == 0, ended.text
    (kept,) = [s["name"] for s in small.world.http.get("/collections").json() if "__before_" in s["name"]]
    assert f"kept as '{kept}'; remove it with `curl -X DELETE" in ended.text
    assert small.world.key not in ended.text
    assert small.world.documents(kept) == before
    schema = small.world.schema(kept)
    assert schema["metadata"] == {"owner": {"team": "search"}, "revision": 7}
    assert next(f["num_dim"] for f in schema["fields"] if f["name"] == "vector") == OLD_DIMENSIONS
    small.check(TARGET, kept=kept)


def test_a_copy_that_is_kept_is_told_also_by_a_run_that_is_stopped_before_the_drop(
    small: SmallWorld, tmp_path: Path
) -> None:
    def stop_once_it_is_kept(_: int, name: str) -> None:
        if name == f"PATCH /collections/{NAME}" and not asked:
            asked.append(name)
            os.kill(os.getpid(), signal.SIGINT)

    asked: list[str] = []
    environment = small.environment(TARGET, tmp_path / "home")
    ended = run_watched(small.options(keep_old=True), environment, tmp_path, at_request=stop_once_it_is_kept)
    assert ended.status == 130, ended.text
    (kept,) = [s["name"] for s in small.world.http.get("/collections").json() if "__before_" in s["name"]]
    assert f"kept as '{kept}'; remove it with `curl -X DELETE" in ended.text


def test_a_run_that_died_while_it_kept_the_old_collection_leaves_no_half_of_it(
    small: SmallWorld, tmp_path: Path
) -> None:
    environment = small.environment(TARGET, tmp_path / "home")
    whole = run_watched(small.options(keep_old=True), environment, tmp_path)
    at = next(n for n, name in enumerate(whole.requests, 1) if "__before_" in name and "import" in name)
    small.fill()
    killed = run_watched(small.options(keep_old=True), environment, tmp_path, kill_at=at)
    assert killed.killed
    other = small.environment(TARGET, tmp_path / "other")
    assert run_watched(small.options(), other, tmp_path).status == 0
    small.check(TARGET)


def test_an_alias_may_be_asked_for_even_after_its_target_was_dropped(small: SmallWorld, tmp_path: Path) -> None:
    small.file.write_text(small.file.read_text().replace(f"[{NAME}]", "[current]"))
    options = type(small.options())(collections=("current",), collections_file=small.file)
    environment = small.environment(TARGET, tmp_path / "home")
    whole = run_watched(options, environment, tmp_path)
    assert whole.status == 0, whole.text
    small.check(TARGET)
    small.fill()
    at = whole.requests.index(f"DELETE /collections/{NAME}") + 1
    environment = small.environment(TARGET, tmp_path / "another home")  # With nothing to look at beforehand.
    killed = run_watched(options, environment, tmp_path, kill_at=at, moment="after")
    assert killed.killed
    assert small.world.http.get("/collections/current").status_code == 404
    again = run_watched(options, environment, tmp_path)
    assert again.status == 0, again.text
    small.check(TARGET)


# -- what is told ----------------------------------------------------------------------------------------


def test_a_dry_run_tells_what_would_happen_and_writes_nothing(small: SmallWorld, tmp_path: Path) -> None:
    ended = run(small, tmp_path, dry_run=True)
    assert ended.status == 0, ended.text
    for line in (
        "Strategy: recreate",
        f"Dimensions: {OLD_DIMENSIONS} -> {TARGET}",
        "7 documents outside the filter come along without a vector",
        "'links' refers to this collection by note_id, others: its references are renewed afterwards",
        "documents refer to sources.id by 'source_id'",
        "the shadow needs about",
        "MB free: ",
    ):
        assert line in ended.text, ended.text
    assert not [name for name in ended.requests if not name.startswith("GET")]
    small.untouched()


def test_where_an_application_seems_to_write_the_way_without_loss_is_named(
    small: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Typesense, "stats", lambda _: {"write_requests_per_second": 3.5})
    ended = run(small, tmp_path, dry_run=True)
    assert "an application seems to be writing to this server (3.5 write requests a second)" in ended.text
    assert "nothing is dropped and --strategy alter goes on" in ended.text
    assert "or use --strategy alter" in run(small, tmp_path, dry_run=True, strategy="recreate").text
    assert "is lost" not in run(small, tmp_path, dry_run=True, strategy="alter").text


def test_a_run_tells_what_is_out_of_the_ordinary_before_it_begins(small: SmallWorld, tmp_path: Path) -> None:
    ended = run(small, tmp_path)
    lines = ended.text.splitlines()
    told = "  ! 7 documents outside the filter come along without a vector: one of the old length cannot be stored"
    place = next(place for place, line in enumerate(lines) if line.startswith(told))
    assert lines[place - 1].endswith("documents to migrate") or lines[place - 1].startswith("  ! ")


def test_a_dry_run_after_a_crash_in_the_cut_over_says_where_it_stands(small: SmallWorld, tmp_path: Path) -> None:
    environment = small.environment(TARGET, tmp_path / "home")
    whole = run_watched(small.options(), environment, tmp_path)
    small.fill()
    at = whole.requests.index(f"DELETE /collections/{NAME}") + 1
    assert run_watched(small.options(), environment, tmp_path, kill_at=at, moment="after").killed
    before = small.world.state((f"{NAME}__shadow",))
    ended = run(small, tmp_path, dry_run=True)
    assert ended.status == 0, ended.text
    assert "left a shadow behind (cutting over); this run goes on from there" in ended.text
    assert small.world.state((f"{NAME}__shadow",)) == before


def test_ids_that_no_filter_can_name_come_along(small: SmallWorld, tmp_path: Path) -> None:
    strange = ["back`tick", "a,b", "slash/and?mark", "per%20cent", " space ", "]&&[", "back\\", "*", "ü\u2028"]
    template = {key: value for key, value in small.expected["n1"].items() if key != "vector"}
    small.world.import_(NAME, [{**template, "id": id_} for id_ in strange])
    small.world.import_(LINKS, [{"id": f"{id_}`", "note_id": id_} for id_ in strange])
    small.expected |= {id_: {**template, "id": id_} for id_ in strange}
    ended = run(small, tmp_path)
    assert ended.status == 0, ended.text
    small.check(TARGET)


def test_the_time_without_the_full_collection_is_told_and_kept(small: SmallWorld, tmp_path: Path) -> None:
    ended = run(small, tmp_path)
    assert "Full collection not searchable for " in ended.text
    with sqlite3.connect(next((tmp_path / "home").glob("ledger*"))) as ledger:
        ((seconds,),) = ledger.execute("select downtime_seconds from collection_runs").fetchall()
    assert seconds > 0
    assert f"not searchable for {seconds:.2f} s" in ended.text


def test_documents_that_came_along_without_a_vector_do_not_count_as_the_model_s(
    small: SmallWorld, tmp_path: Path
) -> None:
    ended = run(small, tmp_path)
    assert ended.status == 0, ended.text
    carrying = [document for document in small.world.documents(NAME).values() if document.get("vector")]
    assert 0 < len(carrying) < len(small.expected)
    with Ledger.open(None, tmp_path / "home") as ledger:
        ((use,),) = (known.collections for known in ledger.models())
    assert (use.collection, use.documents) == (NAME, len(carrying))


def test_an_export_that_ends_too_early_without_a_sign_of_it_loses_no_document(
    small: SmallWorld, tmp_path: Path
) -> None:
    def cut_the_exports_of_the_shadow() -> None:
        whole = Typesense.export_lines
        ended_early: list[str] = []

        def export_lines(server: Typesense, name: str, params: dict[str, str] | None = None) -> Iterator[bytes]:
            early = name.endswith("__shadow") and not params and len(ended_early) < 2
            if early:
                ended_early.append(name)
            return islice(whole(server, name, params), 20 if early else None)

        Typesense.export_lines = export_lines  # type: ignore[method-assign,assignment]

    environment = small.environment(TARGET, tmp_path / "home")
    ended = run_watched(small.options(), environment, tmp_path, in_child=cut_the_exports_of_the_shadow)
    assert ended.status == 0, ended.text
    assert "were deleted while" not in ended.text
    small.check(TARGET)


def test_what_an_export_withholds_in_a_catch_up_is_not_taken_for_deleted(small: SmallWorld, tmp_path: Path) -> None:
    def cut_the_catch_ups() -> None:
        whole = Typesense.export_lines
        ended_early: list[str] = []

        def export_lines(server: Typesense, name: str, params: dict[str, str] | None = None) -> Iterator[bytes]:
            early = name == NAME and params == {"exclude_fields": "vector"} and len(ended_early) < 2
            if early:
                ended_early.append(name)
                print("cut short")
            return islice(whole(server, name, params), 10 if early else None)

        Typesense.export_lines = export_lines  # type: ignore[method-assign,assignment]

    environment = small.environment(TARGET, tmp_path / "home")
    ended = run_watched(small.options(), environment, tmp_path, in_child=cut_the_catch_ups)
    assert ended.status == 0, ended.text
    assert ended.text.count("cut short") == 2
    assert not [name for name in ended.requests if name.startswith("DELETE") and "/documents/" in name]
    small.check(TARGET)


def test_force_embeds_again_in_a_recreate_too(small: SmallWorld, tmp_path: Path) -> None:
    assert run(small, tmp_path).status == 0
    assert run_watched(small.options(), small.environment(OLD_DIMENSIONS, tmp_path / "home"), tmp_path).status == 0
    paid = len(small.provider.embedded)
    assert run(small, tmp_path, force=True).status == 0
    assert len(small.provider.embedded) - paid > 20


def test_what_an_override_hides_or_pins_in_every_search_is_migrated_all_the_same(
    small: SmallWorld, tmp_path: Path
) -> None:
    first, *others = small.world.documents(NAME)
    rule = {"query": "*", "match": "exact"}
    hidden = {"rule": rule, "excludes": [{"id": id_} for id_ in others[:5]], "includes": [{"id": first, "position": 1}]}
    small.world.curate(NAME, {}, {"all": hidden})

    def change(number: int, _: str) -> None:
        if number == 25:
            import httpx

            changed = small.world.documents(NAME)[others[0]] | {"rank": 77}
            changed.pop("vector", None)
            with httpx.Client(base_url=small.world.url, headers={"X-TYPESENSE-API-KEY": small.world.key}) as http:
                body = {k: v for k, v in changed.items() if k in ("id", "rank")}
                http.patch(f"/collections/{NAME}/documents/{others[0]}", json=body).raise_for_status()

    environment = small.environment(TARGET, tmp_path / "home")
    ended = run_watched(small.options(), environment, tmp_path, at_request=change)
    assert ended.status == 0, ended.text
    after = small.world.documents(NAME)
    assert list(after) == [first, *others]
    assert after[others[0]]["rank"] == 77
    assert as_float32(after[others[1]].get("vector")) is not None
