"""KAI's collections in a cluster, looked at through whichever node leads."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

import httpx
import pytest

from tests.providers.standin import StandIn
from tests.sandbox.server import RunningCluster
from tests.world import EMBEDDING_FIELDS, Document, Finished, World, as_float32, made_up, openai, text_of

NAME = "context_stores"
OLD_DIMENSIONS = 16
MOMENTS: Final[tuple[Literal["received", "applied", "answered"], ...]] = ("received", "applied", "answered")


def eventually(condition: Callable[[], object]) -> None:
    """Return when it holds."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not become true"
        time.sleep(0.02)


class Clustered:
    """A cluster that is filled with questions, migrated, and compared with what it held.

    Attributes:
        cluster: the nodes.
        leader: number of the node that led at the beginning.
        asked: the arguments by which the questions are asked for.
    """

    def __init__(self, cluster: RunningCluster, provider: StandIn, home: Path) -> None:
        self.cluster = cluster
        self.asked: tuple[str, ...] = ("--collections", NAME)
        self._provider = provider
        self._home = home
        leader = cluster.leader()
        assert leader is not None
        self.leader = leader
        self._world = World(cluster.nodes[leader], cluster.api_key, home)
        self._before: dict[str, Any] = {}
        self._writes_to_death = 0

    def clear(self) -> None:
        """No alias, and no collection that any living node still shows."""
        self._world.clear()
        self._shown_everywhere({})

    def close(self) -> None:
        """Close the connections, and take back an order to kill that was not carried out."""
        with contextlib.suppress(httpx.HTTPError):
            for _ in range(self._writes_to_death):
                self._world.http.put("/aliases/filler", json={"collection_name": NAME}).raise_for_status()
        self._world.close()

    @property
    def follower(self) -> str:
        """The address of a node that did not lead at the beginning."""
        return next(url for number, url in enumerate(self.cluster.nodes) if number != self.leader)

    @property
    def nodes(self) -> dict[str, str]:
        """The variable that names every node, a follower first."""
        return {"TYPESENSE_NODES": ",".join([self.follower, *self.cluster.nodes])}

    def kill_leader(self, place: int) -> None:
        """Kill the leader at a write that is yet to come, at one of its three moments."""
        self.cluster.kill_leader(after_writes=place, moment=MOMENTS[place % 3])
        self._writes_to_death = place

    def check_killed(self, *, is_certain: bool) -> None:
        """The run made so many writes that the leader died; else the test has tried nothing."""
        if self.cluster.state(self.leader) is not None:
            assert not is_certain, f"there was no write number {self._writes_to_death}"
            pytest.skip(f"the run makes fewer than {self._writes_to_death} writes")

    def fill(self, questions: int = 60) -> None:
        """KAI's collections, with old vectors, as every living node shows them."""
        self._world.fill(made_up(questions=questions, instructions=8), OLD_DIMENSIONS)
        self._before = self._world.state()
        wanted = {name: (schema["created_at"], len(found)) for name, (schema, found) in self._before.items()}
        self._shown_everywhere(wanted)

    def _shown_everywhere(self, wanted: dict[str, tuple[int, int]]) -> None:
        alive = [url for number, url in enumerate(self.cluster.nodes) if self.cluster.state(number) is not None]
        worlds = [World(url, self.cluster.api_key, self._home) for url in alive]
        eventually(lambda: all(_collections(world) == wanted for world in worlds))
        for world in worlds:
            world.close()

    def migrate(self, dimensions: int, *arguments: str, address: str = "", **variables: str) -> Finished:
        """Run the migration of the questions through an address; by default a follower's."""
        # Whoever hurries does not find out that a load balancer is before the nodes.
        hurry = address != self.cluster.balancer
        world = World(address or self.follower, self.cluster.api_key, self._home, in_a_hurry=hurry)
        try:
            return world.run(*self.asked, *arguments, **openai(self._provider, dimensions), **variables)
        finally:
            world.close()

    def finish(self, **variables: str) -> Finished:
        """Finish what the last run has filled."""
        world = World(self.follower, self.cluster.api_key, self._home)
        try:
            return world.run("finish", "--yes", module="migration", **variables)
        finally:
            world.close()

    def environment(self, dimensions: int) -> dict[str, str]:
        """Of a run that knows a single follower."""
        world = World(self.follower, self.cluster.api_key, self._home)
        world.close()
        return world.environment(**openai(self._provider, dimensions))

    @contextlib.contextmanager
    def written_to(self, name: str = NAME) -> Iterator[dict[str, Document]]:
        """An application adds questions at the leader by this name, meanwhile; those that were acknowledged, by id."""
        acknowledged: dict[str, Document] = {}
        ended = threading.Event()
        like = next(iter(self._before[NAME][1].values()))

        def write() -> None:
            with httpx.Client(base_url=self._world.url, headers=dict(self._world.http.headers), timeout=60) as http:
                while not ended.wait(0.05):
                    new = {**like, "id": f"new{len(acknowledged)}", "prompt_text": f"a new one, {len(acknowledged)}"}
                    del new[EMBEDDING_FIELDS[NAME]]
                    if http.post(f"/collections/{name}/documents", json=new).status_code == 201:
                        acknowledged[new["id"]] = new

        writer = threading.Thread(target=write)
        writer.start()
        try:
            yield acknowledged
        finally:
            ended.set()
            writer.join()
            self._before[NAME][1].update(acknowledged)

    def check_untouched(self) -> None:
        """Everything is as it was filled."""
        assert self._world.state() == self._before

    def give_alias(self, alias: str, folder: Path) -> None:
        """The questions are known, and asked for, by an alias."""
        self._world.http.put(f"/aliases/{alias}", json={"collection_name": NAME}).raise_for_status()
        alive = [url for number, url in enumerate(self.cluster.nodes) if self.cluster.state(number) is not None]
        headers = dict(self._world.http.headers)
        eventually(lambda: all(httpx.get(f"{url}/aliases/{alias}", headers=headers).is_success for url in alive))
        file = folder / "collections.toml"
        file.write_text(f'[{alias}]\nembedding_field = "{EMBEDDING_FIELDS[NAME]}"\ntemplate = "{{prompt_text}}"\n')
        self.asked = ("--collections", alias, "--collections-file", str(file))

    def check(self, dimensions: int, field_name: str = EMBEDDING_FIELDS[NAME], successor: str = "") -> None:
        """Nothing is lost, every question has its vector, and nothing is left beside the collections.

        Where it has a `successor`, this one has the questions, and every alias leads to it.
        """
        eventually(lambda: self.cluster.leader() is not None)
        world = World(self.cluster.nodes[self.cluster.leader() or 0], self.cluster.api_key, self._home)
        try:
            now, names = world.state(), {schema["name"] for schema in world.http.get("/collections").json()}
            if successor:
                now |= {NAME: world.state([successor])[successor]}
                aliases = world.http.get("/aliases").json()["aliases"]
                assert {alias["collection_name"] for alias in aliases} == {successor}
        finally:
            world.close()
        assert names == self._before.keys() | ({successor, f"{successor}__base"} if successor else set())
        old_name = EMBEDDING_FIELDS[NAME]
        for name, (schema, documents) in self._before.items():
            fields = {field["name"]: field for field in now[name][0]["fields"]}
            if name != NAME:
                assert now[name] == (schema, documents)
                continue
            assert fields.keys() == {field["name"] for field in schema["fields"]} - {old_name} | {field_name}
            assert fields[field_name]["num_dim"] == dimensions
            assert now[name][1].keys() == documents.keys()
            for id_, document in now[name][1].items():
                vector = as_float32(document.pop(field_name, None))
                text = text_of(NAME, document)
                assert vector == self._provider.vector_for(text, dimensions=dimensions).tobytes(), id_
                assert document == {key: value for key, value in documents[id_].items() if key != old_name}


def _collections(world: World) -> dict[str, tuple[int, int]]:
    """When each was created, as an earlier test's may show still, and how many documents it has."""
    schemas = world.http.get("/collections").json()
    return {schema["name"]: (schema["created_at"], schema["num_documents"]) for schema in schemas}
