"""What these tests leave on a server: nothing of their own, and everything of others."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.providers import OpenAIStandIn
from tests.real.conftest import tell_leftovers
from tests.real.corner import SCHEME, Corner, Server, names_on
from tests.world import World


def test_a_corner_is_removed_with_its_shadows_and_what_an_earlier_run_left_is_told_and_left_alone(
    server: Server, provider: OpenAIStandIn, tmp_path: Path
) -> None:
    world = World(server.url, server.key, tmp_path)
    left = f"{SCHEME}{secrets.token_hex(4)}_notes"
    fields = [{"name": "title", "type": "string"}]
    world.http.post("/collections", json={"name": left, "fields": fields}).raise_for_status()
    try:
        with pytest.warns(UserWarning, match=left):
            tell_leftovers(server)
        corner = Corner(server, provider, tmp_path / "work")
        corner.fill()
        shadow = {"name": f"{corner.notes}__shadow", "fields": fields}
        world.http.post("/collections", json=shadow).raise_for_status()
        corner.remove()
        assert names_on(world, corner.prefix) == []
        assert left in names_on(world)
    finally:
        world.http.delete(f"/collections/{left}").raise_for_status()
        world.close()
