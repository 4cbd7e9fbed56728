"""A cluster shows what three nodes of Typesense 29.0 were seen to show, when one of them is killed too.

A time that must not be over yet is an hour here, and one that must pass is short and waited for: nothing depends
on how fast this machine is.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from kai.sandbox.store import Store
from tests.sandbox.server import RunningCluster

Json = dict[str, Any]

HOUR = 3600.0
GIVE_UP_SECONDS = 30.0

_numbers = count()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """Followers show what was written soon."""
    folder = tmp_path_factory.mktemp("running")
    with RunningCluster(folder, "--alter-seconds", "1") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def running_lagging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """Followers show what was written in an hour."""
    with RunningCluster(tmp_path_factory.mktemp("lagging"), lag=HOUR) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: RunningCluster) -> RunningCluster:
    """Three living nodes; followers show what was written soon."""
    return made_whole(running)


@pytest.fixture
def lagging(running_lagging: RunningCluster) -> RunningCluster:
    """Three living nodes; followers show what was written in an hour, or if they are elected."""
    return made_whole(running_lagging)


def made_whole(cluster: RunningCluster) -> RunningCluster:
    for number in range(cluster.size):
        cluster.start_node(number)
    eventually(lambda: sorted(cluster.state(number) or 0 for number in range(cluster.size)) == [1, 4, 4])
    return cluster


def eventually(condition: Callable[[], object]) -> None:
    """Wait until it is true."""
    until = time.monotonic() + GIVE_UP_SECONDS
    while not condition():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)


def grows(items: list[str]) -> None:
    """Wait until there is one more."""
    before = len(items)
    eventually(lambda: len(items) > before)


def everywhere(cluster: RunningCluster, condition: Callable[[str], object]) -> None:
    """Wait until it is true of the address of every node."""
    for url in cluster.nodes:
        eventually(partial(condition, url))


def leader_of(cluster: RunningCluster) -> int:
    """The number of the leader, which is waited for."""
    eventually(lambda: cluster.leader() is not None)
    leader = cluster.leader()
    assert leader is not None
    return leader


def followers_of(cluster: RunningCluster) -> list[int]:
    return [number for number in range(cluster.size) if cluster.state(number) == 4]


def created(cluster: RunningCluster, url: str) -> str:
    """The name of a collection that has just been created there."""
    name = f"c{next(_numbers)}"
    schema = {"name": name, "fields": [{"name": "text", "type": "string", "optional": True}]}
    answer = cluster.http.post(f"{url}/collections", json=schema)
    assert answer.status_code == 201, answer.text
    return name


def written(cluster: RunningCluster, url: str, name: str, *ids: str) -> httpx.Response:
    """The answer to an import of so many documents."""
    body = "\n".join(json.dumps({"id": document_id}) for document_id in ids)
    return cluster.http.post(f"{url}/collections/{name}/documents/import", content=body)


def ids_in(cluster: RunningCluster, url: str, name: str) -> list[str] | None:
    """The ids that an export finds there; None without such a collection."""
    answer = cluster.http.get(f"{url}/collections/{name}/documents/export")
    return [json.loads(line)["id"] for line in answer.text.splitlines()] if answer.status_code == 200 else None


def has_field(cluster: RunningCluster, url: str, name: str, field: str) -> bool:
    return any(spec["name"] == field for spec in cluster.http.get(f"{url}/collections/{name}").json()["fields"])


# ---------------------------------------------------------------------- reading and writing


def test_one_node_is_the_leader_and_the_others_are_followers(cluster: RunningCluster) -> None:
    assert len(set(cluster.nodes)) == 3
    assert cluster.url == cluster.nodes[0]
    assert sorted(cluster.state(number) or 0 for number in range(3)) == [1, 4, 4]


def test_the_leader_shows_at_once_what_was_written_through_a_follower_which_shows_it_later(
    lagging: RunningCluster,
) -> None:
    leader, follower = lagging.nodes[leader_of(lagging)], lagging.nodes[followers_of(lagging)[0]]

    name = created(lagging, follower)

    assert written(lagging, follower, name, "a", "b").text == '{"success":true}\n{"success":true}'
    assert ids_in(lagging, leader, name) == ["a", "b"]
    assert ids_in(lagging, follower, name) is None
    search = {"searches": [{"collection": name, "q": "*"}]}
    assert lagging.http.post(f"{leader}/multi_search", json=search).json()["results"][0]["found"] == 2
    assert lagging.http.post(f"{follower}/multi_search", json=search).json()["results"][0]["code"] == 404
    assert lagging.http.get(f"{follower}/collections/{name}/documents/search?q=*").status_code == 404
    assert name not in [item["name"] for item in lagging.http.get(f"{follower}/collections").json()]


def test_every_node_shows_in_the_end_what_was_written(cluster: RunningCluster) -> None:
    follower = cluster.nodes[followers_of(cluster)[0]]
    kept, dropped = created(cluster, follower), created(cluster, follower)
    written(cluster, follower, kept, "a", "b")
    cluster.http.delete(f"{cluster.nodes[leader_of(cluster)]}/collections/{kept}/documents/a")
    everywhere(cluster, lambda url: ids_in(cluster, url, kept) == ["b"] and ids_in(cluster, url, dropped) == [])

    assert cluster.http.delete(f"{follower}/collections/{dropped}").status_code == 200

    everywhere(cluster, lambda url: ids_in(cluster, url, dropped) is None)


def test_a_schema_change_runs_on_the_leader_and_shows_on_a_follower_later(cluster: RunningCluster) -> None:
    leader, follower = cluster.nodes[leader_of(cluster)], cluster.nodes[followers_of(cluster)[0]]
    name = created(cluster, leader)
    written(cluster, leader, name, "a")
    eventually(lambda: ids_in(cluster, follower, name) == ["a"])

    change = altering(cluster, follower, name)

    everywhere(cluster, lambda url: name in changing(cluster, url))
    assert has_field(cluster, leader, name, "rank")
    change.join()
    eventually(lambda: has_field(cluster, follower, name, "rank"))
    eventually(lambda: changing(cluster, follower) == [] == changing(cluster, leader))


def altering(cluster: RunningCluster, url: str, name: str, errors: list[Exception] | None = None) -> threading.Thread:
    """A thread that adds a field `rank`."""
    fields = [{"name": "rank", "type": "int32", "optional": True}]

    def patch() -> None:
        try:
            cluster.http.patch(f"{url}/collections/{name}", json={"fields": fields})
        except httpx.TransportError as error:
            (errors if errors is not None else []).append(error)

    thread = threading.Thread(target=patch)
    thread.start()
    return thread


def changing(cluster: RunningCluster, url: str) -> list[str]:
    changes = cluster.http.get(f"{url}/operations/schema_changes").json() or []
    return [change["collection"] for change in changes]


def test_a_follower_does_not_list_a_schema_change_that_it_has_not_heard_of(lagging: RunningCluster) -> None:
    leader, follower = lagging.nodes[leader_of(lagging)], lagging.nodes[followers_of(lagging)[0]]
    before = lagging.http.get(f"{follower}/operations/schema_changes").json()

    altering(lagging, leader, created(lagging, leader)).join()

    assert lagging.http.get(f"{leader}/operations/schema_changes").json() == []
    assert lagging.http.get(f"{follower}/operations/schema_changes").json() == before


# ---------------------------------------------------------------------- killed and started again


def test_a_killed_node_refuses_connections_and_a_request_under_way_is_broken_off(cluster: RunningCluster) -> None:
    leader = leader_of(cluster)
    name = created(cluster, cluster.nodes[leader])
    written(cluster, cluster.nodes[leader], name, "a")
    errors: list[Exception] = []
    change = altering(cluster, cluster.nodes[leader], name, errors)
    eventually(lambda: name in changing(cluster, cluster.nodes[leader]))

    cluster.kill_leader()
    change.join()

    assert len(errors) == 1
    with pytest.raises(httpx.ConnectError):
        cluster.http.get(f"{cluster.nodes[leader]}/health")
    # What had begun is committed, so the new leader carries it out.
    successor = cluster.nodes[leader_of(cluster)]
    eventually(lambda: changing(cluster, successor) == [] and has_field(cluster, successor, name, "rank"))


def test_without_a_leader_writes_fail_and_nothing_else_shows_it_and_a_node_that_comes_back_is_not_ready(
    tmp_path: Path,
) -> None:
    with RunningCluster(tmp_path, election=HOUR, rejoin=HOUR) as cluster:
        name = created(cluster, cluster.url)
        everywhere(cluster, lambda url: ids_in(cluster, url, name) == [])

        cluster.kill_node(0)

        for number in (1, 2):
            url = cluster.nodes[number]
            refused = written(cluster, url, name, "a")
            assert (refused.status_code, refused.content) == (500, b"")
            assert cluster.http.get(f"{url}/health").json() == {"ok": True}
            assert cluster.state(number) == 4
            assert ids_in(cluster, url, name) == []
            assert cluster.http.get(f"{url}/collections/{name}/documents/search?q=*").json()["found"] == 0

        cluster.start_node(0)

        health = cluster.http.get(f"{cluster.url}/health")
        assert (health.status_code, health.json()) == (503, {"ok": False})
        for answer in (cluster.http.get(f"{cluster.url}/debug"), written(cluster, cluster.url, name, "a")):
            assert (answer.status_code, answer.json()) == (503, {"message": "Not Ready or Lagging"})


def test_a_new_leader_has_every_acknowledged_write_though_it_lagged(lagging: RunningCluster) -> None:
    old = leader_of(lagging)
    name = created(lagging, lagging.nodes[old])
    written(lagging, lagging.nodes[followers_of(lagging)[0]], name, "a", "b")

    lagging.kill_leader()

    new = leader_of(lagging)
    assert new != old
    assert ids_in(lagging, lagging.nodes[new], name) == ["a", "b"]
    assert written(lagging, lagging.nodes[followers_of(lagging)[0]], name, "c").text == '{"success":true}'
    assert ids_in(lagging, lagging.nodes[new], name) == ["a", "b", "c"]


def test_a_node_that_comes_back_is_a_follower_with_everything(lagging: RunningCluster) -> None:
    killed = leader_of(lagging)
    lagging.kill_leader()
    leader = lagging.nodes[leader_of(lagging)]
    name = created(lagging, leader)
    written(lagging, leader, name, "a")

    lagging.start_node(killed)

    eventually(lambda: lagging.state(killed) == 4)
    assert ids_in(lagging, lagging.nodes[killed], name) == ["a"]


def test_a_node_that_becomes_ready_in_the_middle_of_a_write_does_not_carry_it_out_itself(
    lagging: RunningCluster,
) -> None:
    leader, follower = lagging.nodes[leader_of(lagging)], followers_of(lagging)[0]
    name = created(lagging, leader)
    lagging.kill_node(follower)
    lagging.start_node(follower)

    def body() -> Iterator[bytes]:
        eventually(lambda: lagging.state(follower) == 4)
        written(lagging, leader, name, "a")
        yield b'{"id":"b"}'

    url = f"{lagging.nodes[follower]}/collections/{name}/documents/import"
    answer = lagging.http.post(url, content=body())

    # It may have been ready when the write came, and passed it on.
    kept = {200: ["a", "b"], 503: ["a"]}[answer.status_code]
    assert ids_in(lagging, leader, name) == kept
    assert ids_in(lagging, lagging.nodes[follower], name) == []


def test_a_node_that_comes_back_follows_on(cluster: RunningCluster) -> None:
    follower = followers_of(cluster)[0]
    cluster.kill_node(follower)
    name = created(cluster, cluster.nodes[leader_of(cluster)])
    cluster.start_node(follower)

    written(cluster, cluster.nodes[leader_of(cluster)], name, "a")

    eventually(lambda: cluster.state(follower) == 4)
    eventually(lambda: ids_in(cluster, cluster.nodes[follower], name) == ["a"])


def test_without_a_majority_nothing_is_written(cluster: RunningCluster) -> None:
    leader, followers = leader_of(cluster), followers_of(cluster)
    name = created(cluster, cluster.nodes[leader])

    for number in followers:
        cluster.kill_node(number)

    refused = written(cluster, cluster.nodes[leader], name, "a")
    assert (refused.status_code, refused.content) == (500, b"")
    assert cluster.state(leader) == 4
    assert ids_in(cluster, cluster.nodes[leader], name) == []

    cluster.start_node(followers[0])
    successor = cluster.nodes[leader_of(cluster)]
    assert written(cluster, successor, name, "b").text == '{"success":true}'
    assert ids_in(cluster, successor, name) == ["b"]


def test_no_acknowledged_write_is_lost_when_leaders_are_killed_in_the_middle_of_imports(
    cluster: RunningCluster,
) -> None:
    name = created(cluster, cluster.nodes[leader_of(cluster)])
    acknowledged: list[str] = []
    done = threading.Event()

    def write() -> None:
        for step in count():
            ids = [f"{step}-{number}" for number in range(20)]
            try:
                if written(cluster, cluster.balancer, name, *ids).status_code == 200:
                    acknowledged.extend(ids)
            except httpx.TransportError:
                pass
            if done.is_set():
                return

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(2):
        killed = leader_of(cluster)
        grows(acknowledged)
        cluster.kill_node(killed)
        leader_of(cluster)
        made_whole(cluster)
    done.set()
    writer.join()

    everywhere(cluster, lambda url: set(ids_in(cluster, url, name) or ()) >= set(acknowledged))


# ---------------------------------------------------------------------- killed at a certain write


@pytest.mark.parametrize(
    ("moment", "status", "kept"),
    [("received", 500, ["1"]), ("applied", 500, ["1", "2"]), ("answered", 200, ["1", "2"])],
)
def test_the_leader_can_be_killed_at_a_certain_write_through_a_follower(
    cluster: RunningCluster, moment: Literal["received", "applied", "answered"], status: int, kept: list[str]
) -> None:
    leader, follower = leader_of(cluster), cluster.nodes[followers_of(cluster)[0]]
    name = created(cluster, follower)
    cluster.kill_leader(after_writes=2, moment=moment)

    assert written(cluster, follower, name, "1").status_code == 200
    assert cluster.state(leader) == 1
    assert written(cluster, follower, name, "2").status_code == status

    assert cluster.state(leader) is None
    assert ids_in(cluster, cluster.nodes[leader_of(cluster)], name) == kept


@pytest.mark.parametrize(("moment", "kept"), [("received", []), ("applied", ["1"])])
def test_whoever_writes_to_the_leader_itself_sees_a_broken_connection(
    cluster: RunningCluster, moment: Literal["received", "applied"], kept: list[str]
) -> None:
    leader = cluster.nodes[leader_of(cluster)]
    name = created(cluster, leader)
    cluster.kill_leader(after_writes=1, moment=moment)

    with pytest.raises(httpx.TransportError):
        written(cluster, leader, name, "1")

    assert ids_in(cluster, cluster.nodes[leader_of(cluster)], name) == kept


def test_the_answer_after_which_the_leader_is_killed_arrives(cluster: RunningCluster) -> None:
    leader = cluster.nodes[leader_of(cluster)]
    name = created(cluster, leader)
    cluster.kill_leader(after_writes=1)

    assert written(cluster, leader, name, "1").text == '{"success":true}'

    # Refused, or reset where it came in the instant in which the node died.
    with pytest.raises((httpx.ConnectError, httpx.ReadError)):
        cluster.http.get(f"{leader}/health")


# ---------------------------------------------------------------------- the load balancer, the process


def test_the_load_balancer_asks_the_living_nodes_in_turn(cluster: RunningCluster) -> None:
    def states(requests: int) -> list[int]:
        return sorted(cluster.http.get(f"{cluster.balancer}/debug").json()["state"] for _ in range(requests))

    assert states(6) == [1, 1, 4, 4, 4, 4]
    cluster.kill_node(followers_of(cluster)[0])
    assert states(6) == [1, 1, 1, 4, 4, 4]


def test_the_load_balancer_answers_an_error_for_a_leader_that_is_killed_meanwhile(cluster: RunningCluster) -> None:
    name = created(cluster, cluster.balancer)
    leader = leader_of(cluster)
    while cluster.http.get(f"{cluster.balancer}/debug").json()["state"] != 1:
        pass
    for _ in range(2):  # The followers have their turn, and then the leader.
        cluster.http.get(f"{cluster.balancer}/health")
    cluster.kill_leader(after_writes=1, moment="applied")

    answer = written(cluster, cluster.balancer, name, "1")

    assert (answer.status_code, answer.content) == (502, b"")
    assert cluster.state(leader) is None


def test_a_cluster_killed_as_a_whole_has_everything_when_it_is_started_again(tmp_path: Path) -> None:
    with RunningCluster(tmp_path, "--sample", lag=HOUR) as cluster:
        name = created(cluster, cluster.nodes[1])
        written(cluster, cluster.nodes[2], name, "a", "b")
        cluster.kill()
        cluster.start()
        for url in cluster.nodes:
            assert ids_in(cluster, url, name) == ["a", "b"]
            assert len(ids_in(cluster, url, "context_stores") or ()) == 50
        assert cluster.leader() == 0
        written(cluster, cluster.nodes[1], name, "c")

    assert list(Store(tmp_path).collections[name].ids) == ["a", "b", "c"]
