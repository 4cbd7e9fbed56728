"""The client of Typesense against answers that a test makes up."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from kai.settings import TypesenseSettings
from kai.typesense import PAGE_LIMIT, Typesense
from kai.typesense_answers import TypesenseError, raise_for_status
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


@pytest.mark.parametrize("count", [0, 1, PAGE_LIMIT, PAGE_LIMIT + 1])
def test_every_synonym_is_listed_also_where_they_fill_their_pages(server: Typesense, count: int) -> None:
    wanted = {f"s{number}" for number in range(count)}
    for name in wanted:
        server.put_synonym("notes", {"id": name, "synonyms": ["a", name]})
    assert {synonym["id"] for synonym in server.synonyms("notes")} == wanted
