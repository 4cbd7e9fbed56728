"""The commands of docs/tutorial.md work, one after the other, and say what it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.sandbox.server import RunningSandbox
from tests.world import REPOSITORY, World

_BLOCK = re.compile(r"^```(ini|console)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def test_every_command_does_what_it_shows(tmp_path: Path) -> None:
    blocks = _BLOCK.findall((REPOSITORY / "docs" / "tutorial.md").read_text(encoding="utf-8"))
    settings: dict[str, str] = {}
    ran = 0
    with RunningSandbox(tmp_path / "data", "--sample") as sandbox:
        world = World(sandbox.url, sandbox.api_key, tmp_path / "work" / "home")
        for kind, block in blocks:
            if kind == "ini":
                settings |= dict(line.split("=", 1) for line in block.splitlines())
                continue
            output = ""
            for line in block.splitlines():
                if line.startswith("$ kai-migrate "):
                    chosen = {name: value for name, value in settings.items() if name.startswith("EMBEDDING_")}
                    done = world.run(*shlex.split(line)[2:], module="migration", **chosen)
                    assert done.status == 0, f"{line}\n{done.text}"
                    output = done.out
                    ran += 1
                else:
                    assert line in output, f"{line!r} is not in\n{output}"
        world.close()
    assert ran == 15
