"""Others refer to the collection asynchronously: every document comes back, and every join leads where it led."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from migration.documents.fetch import Page, export_pages
from tests.killing import Ended, run_command_watched, run_watched
from tests.providers import OpenAIStandIn
from tests.recreate.small import NAME, NOWHERE, OLD_DIMENSIONS, SOURCES, SmallWorld, check_documents, schemas
from tests.world import Document, World, field

TARGET = 32
REFUSED = "Error while updating async reference field"
pytestmark = pytest.mark.usefixtures("warm")

VERSIONS = (29,)
_WRITES = 12
"""Of an application, around the drop and while the collection is filled."""

MARKS, LISTS, PLACES, ASIDES = "marks", "lists", "places", "asides"
LATE: dict[str, Any] = {"async_reference": True, "optional": True}


def refer_asynchronously(small: SmallWorld) -> None:
    """Four collections: by a value beside a synchronous one, by a list, by a field of an object, by an alias."""
    to_notes: dict[str, Any] = {"reference": f"{NAME}.id", **LATE}
    by_alias: dict[str, Any] = {"reference": "current.id", **LATE}
    fields = {
        MARKS: [field("about", **to_notes), field("source_id", optional=True, reference=f"{SOURCES}.id")],
        LISTS: [field("notes_named", "string[]", **to_notes)],
        PLACES: [field("place", "object", optional=True), field("place.note_id", **to_notes)],
        ASIDES: [field("note_id", **by_alias)],
    }
    for name, specs in fields.items():
        schema = {"name": name, "enable_nested_fields": name == PLACES, "fields": specs}
        small.world.http.post("/collections", json=schema).raise_for_status()
    ids = list(small.expected)
    marks: list[Document] = [{"id": f"m{id_}", "about": id_, "source_id": "s1"} for id_ in ids]
    strange = {"id": "tick`", "about": "n20"}
    small.world.import_(MARKS, [*marks, strange, {"id": "orphan", "about": NOWHERE}, {"id": "absent"}])
    small.world.import_(LISTS, [{"id": f"i{id_}", "notes_named": [id_, NOWHERE, ids[-1]]} for id_ in ids[::4]])
    small.world.import_(PLACES, [{"id": f"p{id_}", "place": {"note_id": id_, "name": "x"}} for id_ in ids[::4]])
    small.world.import_(ASIDES, [{"id": f"a{id_}", "note_id": id_} for id_ in ids[::4]])


def joined(small: SmallWorld) -> dict[str, dict[str, Document]]:
    """What a search of each of these collections shows, the joined notes' titles with it."""
    shown: dict[str, dict[str, Document]] = {}
    for name in (MARKS, LISTS, PLACES, ASIDES):
        target = "current" if name == ASIDES else NAME
        parameters: dict[str, Any] = {"q": "*", "per_page": 250, "include_fields": f"*,${target}(title)"}
        answer = small.world.http.get(f"/collections/{name}/documents/search", params=parameters)
        answer.raise_for_status()
        shown[name] = {hit["document"]["id"]: hit["document"] for hit in answer.json()["hits"]}
    return shown


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """On the newest version, unless the test asks for another one."""
    version = getattr(request, "param", 30)
    sandbox = request.getfixturevalue("sandbox_29" if version == 29 else "shared_sandbox")
    made = World(sandbox.url, sandbox.api_key, tmp_path / "work" / "home")
    yield made
    made.close()


@pytest.fixture
def referred(world: World, provider: OpenAIStandIn, tmp_path: Path) -> SmallWorld:
    """The small world, and what refers to it asynchronously."""
    small = SmallWorld(world, provider, tmp_path / "small")
    small.fill()
    refer_asynchronously(small)
    return small


def run(small: SmallWorld, folder: Path, sample: int = 10, **how: Any) -> Ended:
    """A run to the target."""
    return run_watched(small.options(verify_sample=sample), small.environment(TARGET, folder / "home"), folder, **how)


@pytest.mark.parametrize("world", VERSIONS, indirect=True)
def test_every_join_leads_where_it_led_after_a_recreate_and_after_its_rollback(
    referred: SmallWorld, tmp_path: Path
) -> None:
    before = joined(referred)
    assert before[MARKS]["mn5"][NAME] == {"title": "note 5"}
    assert NAME not in before[MARKS]["orphan"]
    ended = run(referred, tmp_path)
    assert ended.status == 0, ended.text
    assert REFUSED not in ended.text
    assert joined(referred) == before
    check_documents(referred.world, referred.expected, TARGET)
    assert referred.world.schema(NAME)["num_documents"] == len(referred.expected)

    environment = referred.environment(TARGET, tmp_path / "home")
    back = run_command_watched(["rollback", "--yes"], environment, tmp_path)
    assert back.status == 0, back.text
    assert joined(referred) == before
    assert len(referred.world.documents(NAME)["n5"]["vector"]) == OLD_DIMENSIONS


def test_what_the_application_refers_to_meanwhile_is_joined_too(referred: SmallWorld, tmp_path: Path) -> None:
    expected = joined(referred)
    ids = list(referred.expected)

    def write(number: int, _: str) -> None:
        is_away = referred.world.http.get(f"/collections/{NAME}").json().get("num_documents", 0) < len(ids)
        if is_away and len(written) < _WRITES:
            about = ids[number % len(ids)]
            referred.world.import_(MARKS, [{"id": f"new{number}", "about": about}])
            referred.world.import_(MARKS, [{"id": "mn5", "about": about}], "update")
            written.append(about)
            print(f"WROTE new{number} {about}", flush=True)

    written: list[str] = []
    ended = run(referred, tmp_path, at_request=write)
    assert ended.status == 0, ended.text
    wrote = [line.split()[1:] for line in ended.text.splitlines() if line.startswith("WROTE ")]
    assert len(wrote) == _WRITES
    for id_, about in wrote:
        shown = {"about": about, NAME: {"title": f"note {about[1:]}"}}
        expected[MARKS][id_] = {"id": id_, **shown}
        expected[MARKS]["mn5"] |= shown
    assert joined(referred) == expected


def test_numbers_that_came_from_a_collection_of_the_applications_own_are_forgotten_too(
    referred: SmallWorld, tmp_path: Path
) -> None:
    before = joined(referred)
    other = {**schemas(TARGET)[1], "symbols_to_index": []}
    changed = {key: value for key, value in referred.expected["n5"].items() if key != "vector"} | {"text": "newer"}

    def create(_: int, name: str) -> None:
        # The old numbers are forgotten by then.
        if name == f"POST /collections?src_name={NAME}__shadow" and not created:
            created.append(name)
            referred.world.http.post("/collections", json=other).raise_for_status()
            referred.world.import_(NAME, [changed])

    created: list[str] = []
    ended = run(referred, tmp_path, at_request=create)
    assert ended.status == 0, ended.text
    assert "with another schema; 1 documents of it were taken over" in ended.text
    assert joined(referred) == before
    assert referred.world.documents(NAME)["n5"]["text"] == "newer"
    # Nothing was refused on the way, which the server would count for good.
    assert referred.world.schema(NAME)["num_documents"] == len(referred.expected)


def forget_nothing() -> None:
    """As a version of this program that knew nothing of asynchronous references."""
    for module in ("successor", "copying"):
        patch(f"migration.strategies.shadow.{module}.forget_old_numbers", lambda *_: None).start()


@pytest.mark.parametrize("world", VERSIONS, indirect=True)
def test_a_collection_that_was_left_with_a_part_of_its_documents_is_finished_by_the_next_start(
    referred: SmallWorld, tmp_path: Path
) -> None:
    before = joined(referred)
    stuck = run(referred, tmp_path, in_child=forget_nothing)
    assert stuck.status == 3, stuck.text
    assert REFUSED in stuck.text
    left = referred.world.documents(NAME)
    assert 0 < len(left) < len(referred.expected)
    id_ = next(iter(left))
    referred.world.import_(NAME, [{"id": id_, "rank": 99}], "update")
    referred.expected[id_]["rank"] = 99
    paid = len(referred.provider.embedded)

    ended = run(referred, tmp_path, sample=0)
    assert ended.status == 0, ended.text
    assert joined(referred) == before
    check_documents(referred.world, referred.expected, TARGET)
    assert referred.provider.embedded[paid:] == ["probe"]
    # What was refused is counted for good; the collection is another one.
    assert f"'{NAME}' had to be made anew; 1 documents of it were taken over" in ended.text
    assert referred.world.schema(NAME)["num_documents"] == len(referred.expected)
    referred.check_schema(TARGET)


def miss_the_last_document_once() -> None:
    """As a node does that lags behind."""
    missed: list[str] = []

    def pages(server: Any, collection: str, selection: Any, **how: Any) -> Iterator[Page]:
        for page in export_pages(server, collection, selection, **how):
            if collection == LISTS and collection not in missed:
                missed.append(collection)
                print("missed", page.pop().id)
            yield page

    patch("migration.strategies.shadow.references.export_pages", pages).start()


def test_a_reference_that_was_overlooked_is_made_up_for_when_the_server_refuses_its_target(
    referred: SmallWorld, tmp_path: Path
) -> None:
    before = joined(referred)
    ended = run(referred, tmp_path, in_child=miss_the_last_document_once)
    assert ended.status == 0, ended.text
    assert "missed" in ended.text
    assert joined(referred) == before
    check_documents(referred.world, referred.expected, TARGET, written=True)


def test_the_dry_run_names_who_refers_asynchronously_and_what_is_done_about_it(
    referred: SmallWorld, tmp_path: Path
) -> None:
    ended = run_watched(referred.options(dry_run=True), referred.environment(TARGET, tmp_path / "home"), tmp_path)
    assert ended.status == 0, ended.text
    for name, by in ((MARKS, "about"), (LISTS, "notes_named"), (PLACES, "place.note_id"), (ASIDES, "note_id")):
        assert f"'{name}' refers to this collection by {by} (asynchronously)" in ended.text
    assert "answers 404" in ended.text
    assert "'links' refers to this collection by note_id, others: its references are renewed afterwards" in ended.text


def test_documents_whose_own_asynchronous_reference_leads_nowhere_are_copied(small: SmallWorld, tmp_path: Path) -> None:
    late = field("source_id", reference=f"{SOURCES}.id", async_reference=True)
    http = small.world.http
    for change in ({"name": "source_id", "drop": True}, late):
        http.patch(f"/collections/{NAME}", json={"fields": [change]}).raise_for_status()
    http.delete(f"/collections/{SOURCES}").raise_for_status()
    environment = small.environment(TARGET, tmp_path / "home")
    dry = run_watched(small.options(dry_run=True), environment, tmp_path)
    assert "cannot be copied and stops" not in dry.text
    ended = run_watched(small.options(), environment, tmp_path)
    assert ended.status == 0, ended.text
    check_documents(small.world, small.expected, TARGET)


def test_a_collection_that_is_gone_is_restored_although_others_have_its_old_numbers(
    referred: SmallWorld, tmp_path: Path
) -> None:
    before, documents = joined(referred), referred.world.documents(NAME)
    environment = referred.environment(TARGET, tmp_path / "home")
    assert run_command_watched(["backup", *referred.arguments()], environment, tmp_path).status == 0
    referred.world.http.delete(f"/collections/{NAME}").raise_for_status()
    (folder,) = tmp_path.glob(f"home/backups/backup-*/{NAME}")
    ended = run_command_watched(["restore", str(folder), "--yes"], environment, tmp_path)
    assert ended.status == 0, ended.text
    assert referred.world.documents(NAME) == documents
    assert joined(referred) == before
