"""Which node of a cluster is asked, and what is made of it when the leader dies."""

from __future__ import annotations

import pytest

from kai.typesense import Typesense, TypesenseError
from kai.typesense_answers import ImportAnswer
from tests.unit.nodes import FOLLOWER, LEADER, Answer, cluster, settings_of

GONE = b'{"code":404,"error":"Could not find a document with id: x","success":false}'
EMPTY_500: Answer = (500, b"")


def taking(_method: str, path: str, _body: bytes) -> Answer:
    """Takes one line of an import, and has no collection."""
    return (200, b'{"success":true}') if "import" in path else (404, b'{"message": "Not Found"}')


@pytest.mark.parametrize("place", [0, 1, 2])
def test_every_request_goes_to_the_leader_the_official_clients_too(place: int) -> None:
    with cluster(*(LEADER if number == place else FOLLOWER for number in range(3))) as nodes:
        with Typesense(settings_of(*nodes), patience=1) as server:
            server.collections()
            server.schema_changes()
            assert not server.lags
        asked = [node.asked for node in nodes]
        assert asked.pop(place) == ["GET /collections", "GET /operations/schema_changes"]
        assert asked == [[], []]


@pytest.mark.parametrize("dying", [EMPTY_500, (503, b'{"message": "Not Ready or Lagging"}')])
def test_when_the_leader_dies_its_successor_is_found_and_first_asked_whether_it_has_applied_all(dying: Answer) -> None:
    with cluster(LEADER, FOLLOWER) as (first, second), Typesense(settings_of(first, second), patience=5) as server:
        first.answer = second.answer = taking
        server.import_lines("notes", [b"{}"], "update")

        def die(_method: str, _path: str, _body: bytes) -> Answer:
            first.state, second.state = None, LEADER
            return dying

        first.answer = die
        assert server.import_lines("notes", [b"{}"], "update") == [ImportAnswer(True)]
        assert server.collection("others") is None
        assert second.asked == ["POST /collections/notes/documents/import"] * 2 + ["GET /collections/others"]


def test_a_successor_that_has_not_applied_all_is_waited_for() -> None:
    with cluster(LEADER, FOLLOWER) as (first, second), Typesense(settings_of(first, second), patience=10) as server:
        first.answer = taking
        server.import_lines("notes", [b"{}"], "update")
        first.state, second.state = FOLLOWER, LEADER
        first.answer = lambda *_: EMPTY_500
        refusals = [(503, b"{}"), EMPTY_500]
        second.answer = lambda method, *_: (
            (refusals.pop() if refusals else (200, GONE)) if method == "POST" else (200, b"[]")
        )
        assert server.collections() == []
        assert second.asked == ["POST /collections/notes/documents/import"] * 3 + ["GET /collections"]


def test_while_nobody_leads_it_is_waited_for_a_leader_and_a_follower_is_not_read() -> None:
    waits: list[TypesenseError] = []
    with cluster(FOLLOWER, FOLLOWER) as nodes:

        def elect(error: TypesenseError, _seconds: float) -> None:
            waits.append(error)
            if len(waits) == 2:
                nodes[1].state = LEADER

        with Typesense(settings_of(*nodes), patience=10, on_wait=elect) as server:
            assert server.collections() == []
    assert len(waits) == 2
    assert "leads" in str(waits[0])
    assert [node.asked for node in nodes] == [[], ["GET /collections"]]


def test_without_a_leader_patience_ends() -> None:
    with cluster(FOLLOWER, None) as nodes, Typesense(settings_of(*nodes), patience=0.2) as server:
        with pytest.raises(TypesenseError, match="leads the cluster at the moment"):
            server.collections()
        assert nodes[0].asked == []


def test_a_leader_that_stepped_down_without_a_word_is_noticed_where_a_step_begins() -> None:
    with cluster(LEADER, FOLLOWER) as (first, second), Typesense(settings_of(first, second), patience=5) as server:
        server.collections()
        first.state, second.state = FOLLOWER, LEADER
        server.settle()
        server.collections()
        assert (first.asked, second.asked) == (["GET /collections"], ["GET /collections"])


def test_a_server_that_is_alone_does_not_lag_and_nothing_is_waited_for() -> None:
    with cluster(LEADER) as nodes, Typesense(settings_of(*nodes), patience=1) as server:
        nodes[0].answer = taking
        server.import_lines("notes", [b"{}"], "update")
        assert (server.lags, server.lag, server.is_settled) == (False, 0.0, True)


@pytest.mark.parametrize("states", [[FOLLOWER], [LEADER, LEADER, FOLLOWER, LEADER, LEADER]])
def test_a_single_address_lags_where_any_of_its_answers_is_a_followers(states: list[int]) -> None:
    with cluster(LEADER) as (node,), Typesense(settings_of(node), patience=1) as server:
        node.states = states
        assert server.lags
        before = node.connections
        server.collections()
        server.collections()
        assert node.connections == before + 2, "each look is to reach another node behind a load balancer"
        node.answer = taking
        server.import_lines("notes", [b"{}"], "update")
        assert not server.is_settled
        server.settle()
        assert server.is_settled


def test_a_single_address_that_lost_the_lead_lags_from_then_on() -> None:
    with cluster(LEADER) as (node,), Typesense(settings_of(node), patience=5) as server:
        assert not server.lags

        def lose(_method: str, _path: str, _body: bytes) -> Answer:
            node.state, node.answer = FOLLOWER, lambda *_: (200, b"[]")
            return EMPTY_500

        node.answer = lose
        assert server.collections() == []
        assert server.lags


def test_a_key_that_may_not_ask_who_leads_works_at_a_single_address() -> None:
    with cluster(0) as nodes, Typesense(settings_of(*nodes), patience=1) as server:
        assert not server.lags


def test_a_key_that_may_not_ask_who_leads_makes_a_cluster_one_that_lags() -> None:
    with cluster(0, 0) as nodes, Typesense(settings_of(*nodes), patience=1) as server:
        assert server.lags
        assert server.collections() == []


def test_writes_that_are_switched_off_are_waited_for_and_named() -> None:
    with cluster(LEADER) as (node,), Typesense(settings_of(node), patience=0.1) as server:
        node.answer = lambda *_: (422, b'{"message": "Skipping writes."}')
        with pytest.raises(TypesenseError, match="skip-writes") as raised:
            server.set_metadata("notes", {})
        assert raised.value.transient
