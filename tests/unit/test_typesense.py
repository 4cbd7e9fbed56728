"""The client of Typesense against answers that a test makes up."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx
import orjson
import pytest

from kai.settings import TypesenseSettings
from kai.typesense import PAGE_LIMIT, Typesense, nameable
from kai.typesense_answers import TypesenseError, raise_for_status
from migration.documents.fetch import Selection, export_pages, fetch_documents
from migration.strategies.planning.hazards import hazards_of_version
from tests.sandbox.server import RunningSandbox
from tests.world import World, field


def settings_of(sandbox: RunningSandbox) -> TypesenseSettings:
    """How a client reaches it."""
    return TypesenseSettings(sandbox.host, urlsplit(sandbox.url).port or 0, api_key=sandbox.api_key)


@pytest.fixture
def server(shared_sandbox: RunningSandbox, world: World) -> Iterator[Typesense]:
    """A client of a server with the empty collection `notes`."""
    with Typesense(settings_of(shared_sandbox), patience=2) as client:
        client.create_collection({"name": "notes", "fields": [field("text")]})
        yield client


@pytest.fixture
def server_29(sandbox_29: RunningSandbox, world_29: World) -> Iterator[Typesense]:
    """The same of version 29."""
    with Typesense(settings_of(sandbox_29), patience=2) as client:
        client.create_collection({"name": "notes", "fields": [field("text")]})
        yield client


def client_that_is_told(answer: object) -> Typesense:
    """A client of a server that answers everything with 200 and this."""
    client = Typesense(TypesenseSettings(api_key="key"), patience=0)
    client.http._transport = httpx.MockTransport(lambda _: httpx.Response(200, content=orjson.dumps(answer)))
    return client


def refusal(status: int, message: str, **headers: str) -> TypesenseError:
    """What an answer that is not 2xx becomes."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    with pytest.raises(TypesenseError) as raised:
        raise_for_status(httpx.Response(status, json={"message": message}, headers=names))
    return raised.value


@pytest.mark.parametrize("resource", ["OUT_OF_DISK", "OUT_OF_MEMORY"])
def test_a_server_that_runs_out_of_a_resource_is_waited_for(resource: str) -> None:
    assert refusal(422, f"Rejecting write: running out of resource type: {resource}").transient
    assert not refusal(422, "Only upto 250 hits can be fetched per page.").transient


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), ("9999", 300.0), ("nan", None), ("inf", None), ("-1", None)]
)
def test_only_a_number_of_seconds_is_a_time_to_wait(header: str, seconds: float | None) -> None:
    assert refusal(503, "Not Ready or Lagging", Retry_After=header).retry_after == seconds


def test_an_answer_is_gone_with_its_last_use_and_does_not_wait_for_the_collector() -> None:
    with client_that_is_told({"found": 0}) as client:
        gc.disable()
        try:
            answer = weakref.ref(client.http.get("/collections/notes/documents/search"))
            assert answer() is None
        finally:
            gc.enable()


@pytest.mark.parametrize("count", [0, 1, PAGE_LIMIT, PAGE_LIMIT + 1])
def test_every_synonym_is_listed_also_where_they_fill_their_pages(server_29: Typesense, count: int) -> None:
    wanted = {f"s{number}" for number in range(count)}
    for name in wanted:
        server_29.put_part("notes", "synonyms", {"id": name, "synonyms": ["a", name]})
    assert {synonym["id"] for synonym in server_29.parts("notes", "synonyms")} == wanted


@pytest.mark.parametrize("letter", ["x", "ü"])
@pytest.mark.parametrize("length", [500, 900, 3300, 5000])
def test_a_search_of_any_length_is_answered(server: Typesense, letter: str, length: int) -> None:
    assert server.search("notes", {"q": "*", "filter_by": f"id:=`{letter * length}`"})["found"] == 0


@pytest.mark.parametrize("count", [0, 50, 51, 120])
def test_any_number_of_searches_is_answered_in_order(server: Typesense, count: int) -> None:
    server.import_lines("notes", [b'{"id": "%d", "text": "x"}' % number for number in range(count)], "upsert")
    searches = [{"collection": "notes", "q": "*", "filter_by": f"id:={number}"} for number in range(count)]
    answers = server.multi_search(searches)
    assert [answer["hits"][0]["document"]["id"] for answer in answers] == [str(number) for number in range(count)]


@pytest.mark.parametrize("answer", [[1], "text", 7, {"message": "from a proxy"}, {"aliases": 3, "synonyms": {"a": 1}}])
@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.aliases(),
        lambda client: client.parts("notes", "synonyms"),
        lambda client: client.schema_changes(),
        lambda client: client.search("notes", {"q": "*"}),
        lambda client: client.multi_search([{"q": "*"}]),
    ],
    ids=["aliases", "synonyms", "schema changes", "search", "multi_search"],
)
def test_other_json_than_expected_is_an_error_of_the_server(ask: Callable[[Typesense], object], answer: object) -> None:
    with pytest.raises(TypesenseError):
        ask(client_that_is_told(answer))


@pytest.mark.parametrize("answer", [[1], "text", 7])
@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.version(),
        lambda client: client.metrics(),
        lambda client: client.drop_collection_once("notes"),
        lambda client: client.create_collection({"name": "notes"}),
        lambda client: client.clone_collection("notes", "copies"),
    ],
    ids=["version", "metrics", "drop", "create", "clone"],
)
def test_an_answer_that_is_no_object_is_an_error_of_the_server(
    ask: Callable[[Typesense], object], answer: object
) -> None:
    with pytest.raises(TypesenseError):
        ask(client_that_is_told(answer))


def test_no_schema_change_is_shown_as_null_or_as_an_empty_list() -> None:
    assert client_that_is_told(None).schema_changes() == []
    assert client_that_is_told([]).schema_changes() == []


@pytest.mark.parametrize("strange", ["back`tick", "slash\\", "\\", " before", "after ", "*", "a,b", "a\\b", "]&&["])
def test_a_document_is_read_by_whatever_id_it_has_and_hides_no_other(server: Typesense, strange: str) -> None:
    lines = [orjson.dumps({"id": id_, "text": id_}) for id_ in ("0", strange, "9")]
    server.import_lines("notes", lines, "upsert")
    assert server.document("notes", strange) == {"id": strange, "text": strange}
    assert server.document("notes", f"{strange}?") is None
    found = fetch_documents(server, "notes", Selection(""), ["0", strange, "9"])
    assert {document.id for document in found} == {"0", "9"} | ({strange} if nameable(strange) else set())


def client_that_is_away(until: int, stopped: threading.Event, stop_at: int) -> tuple[Typesense, list[str]]:
    """A client of a server that is away up to a request, and its requests; it is told to stop at one of them."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/debug":
            return httpx.Response(200, json={"state": 1})
        asked.append(request.url.path)
        if len(asked) == stop_at:
            stopped.set()
        if len(asked) < until:
            raise httpx.ConnectError("nobody there")
        return httpx.Response(200, json={"ok": True})

    client = Typesense(TypesenseSettings(api_key="key"), patience=60, stopped=stopped)
    client.http._transport = httpx.MockTransport(answer)
    return client, asked


def test_whoever_stops_the_run_ends_the_waiting_for_a_server_that_is_away() -> None:
    client, asked = client_that_is_away(until=10, stopped=threading.Event(), stop_at=2)
    with client, pytest.raises(TypesenseError):
        client.health()
    assert len(asked) == 2


def test_what_must_not_be_left_half_done_waits_on_although_the_run_is_stopped() -> None:
    client, asked = client_that_is_away(until=3, stopped=threading.Event(), stop_at=1)
    with client, client.unstoppable():
        client.health()
    assert len(asked) == 3


def test_reading_gives_up_after_one_patience() -> None:
    waits: list[float] = []
    away = TypesenseSettings("127.0.0.1", 1, api_key="key")
    with Typesense(away, patience=0.5, on_wait=lambda _, seconds: waits.append(seconds)) as client:
        with pytest.raises(TypesenseError):
            list(export_pages(client, "notes", Selection("")))
        assert sum(waits) <= client.patience


def test_an_error_that_the_server_puts_into_an_export_is_no_document_and_read_past_the_next_time() -> None:
    junk = b"Error while getting seq_id of `b`: nothing found."
    bodies = [b'{"id":"a","text":"1"}\n' + junk, b'{"id":"a","text":"1"}\n' + junk + b'\n{"id":"c","text":"3"}']
    whole = b'{"id":"a","text":"1"}\n{"id":"b","text":"2"}\n{"id":"c","text":"3"}'
    waiting = [*bodies, whole]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/export"):
            return httpx.Response(200, content=waiting.pop(0))
        return httpx.Response(200, json={"found": 3 if "filter_by" not in request.url.params else 1, "hits": []})

    client = Typesense(TypesenseSettings(api_key="key"), patience=0)
    client.http._transport = httpx.MockTransport(answer)
    selection = Selection("vector", with_vector=False)
    assert [d.id for page in export_pages(client, "notes", selection) for d in page] == ["a", "b", "c"]
    assert waiting == []


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("29.0", ""),
        ("30.2", ""),
        ("v30.1.rc1", ""),
        ("28.0", "never tried"),
        ("31.0", "never tried"),
        ("nightly", "not known"),
    ],
)
def test_a_version_that_was_never_tried_is_told(version: str, told: str) -> None:
    hazards = hazards_of_version(version)
    assert bool(hazards) == bool(told)
    assert told in "".join(hazards)
