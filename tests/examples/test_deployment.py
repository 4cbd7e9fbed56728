"""The files that start a Typesense agree with what it takes, with each other, and with what is promised elsewhere."""

from __future__ import annotations

import importlib
import ipaddress
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.server import RunningSandbox

REPOSITORY = Path(__file__).resolve().parents[2]
COMPOSED = ("compose.yaml", "compose.cluster.yaml")
WORKFLOW = ".github/workflows/tests.yml"
FLAGS = {"data-dir", "api-key", "api-address", "api-port", "peering-address", "peering-port", "peering-subnet", "nodes"}
"""Of the server, those that could be used here."""


def read(name: str) -> Any:
    """What a YAML file says."""
    # Comes with langchain-core, without types.
    return importlib.import_module("yaml").safe_load((REPOSITORY / name).read_text(encoding="utf-8"))


def flags(service: dict[str, Any]) -> dict[str, str]:
    """The arguments of a service's server."""
    return dict(re.fullmatch(r"--([a-z-]+)=(.+)", word, re.DOTALL).groups() for word in shlex.split(service["command"]))  # type: ignore[union-attr,misc]


SERVICES = [(name, service) for name in COMPOSED for service in read(name)["services"]]


@pytest.mark.parametrize(("name", "service"), SERVICES)
def test_a_composed_server_keeps_its_documents_in_a_volume_and_listens_on_this_machine_only(
    name: str, service: str
) -> None:
    everything = read(name)
    composed = everything["services"][service]
    assert composed["image"] == "typesense/typesense:30.2"
    given = flags(composed)
    assert given.keys() <= FLAGS
    assert given["api-key"] == "${TYPESENSE_API_KEY:-xyz}"
    (mount,) = composed["volumes"]
    volume, folder = mount.split(":")
    assert volume in everything["volumes"]
    assert given["data-dir"] == folder
    (port,) = composed["ports"]
    assert re.fullmatch(r"127\.0\.0\.1:(\d+|\$\{TYPESENSE_PORT:-8108\}):8108", port), port


def test_the_nodes_of_the_cluster_know_each_other_by_fixed_addresses() -> None:
    everything = read("compose.cluster.yaml")
    nodes = everything["configs"]["nodes"]["content"].split(",")
    (pool,) = everything["networks"]["cluster"]["ipam"]["config"]
    found, volumes, ports = [], set(), set()
    for service in everything["services"].values():
        address, given = service["networks"]["cluster"]["ipv4_address"], flags(service)
        assert ipaddress.ip_address(address) in ipaddress.ip_network(pool["subnet"])
        assert given["peering-address"] == address
        assert service["configs"] == ["nodes"]
        assert given["nodes"] == "/nodes"
        found.append(f"{address}:{given['peering-port']}:{given['api-port']}")
        volumes.add(service["volumes"][0])
        ports.add(service["ports"][0])
        # A node alone is not healthy: one that waited for another's health would wait for ever.
        assert "depends_on" not in service
    assert found == nodes
    assert len(nodes) == len(set(nodes)) == len(volumes) == len(ports) == 3


@pytest.mark.parametrize(("name", "service"), SERVICES)
def test_the_health_of_a_composed_server_is_what_it_answers(
    shared_sandbox: RunningSandbox, name: str, service: str
) -> None:
    kind, *command = read(name)["services"][service]["healthcheck"]["test"]
    assert kind == "CMD"
    assert (
        subprocess.run([word.replace("8108", str(shared_sandbox.port)) for word in command], check=False).returncode
        == 0
    )
    assert subprocess.run(
        [word.replace("8108", "9") for word in command], check=False, stderr=subprocess.DEVNULL
    ).returncode


def test_the_workflow_tries_every_python_that_is_promised() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    promised = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert read(WORKFLOW)["jobs"]["suite"]["strategy"]["matrix"]["python"] == promised
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert sorted(re.findall(r"python(3\.\d+)(?= )", makefile.split("for python in")[1].split(";")[0])) == promised


def test_the_workflow_tests_against_typesense_as_its_services_are_started() -> None:
    job = read(WORKFLOW)["jobs"]["real"]
    service = job["services"]["typesense"]
    assert service["image"] == "typesense/typesense:${{ matrix.typesense }}"
    (mount,) = service["volumes"]
    assert service["env"]["TYPESENSE_DATA_DIR"] == mount.split(":")[1]
    assert service["env"]["TYPESENSE_API_KEY"] == job["env"]["TYPESENSE_TEST_API_KEY"]
    assert job["env"]["TYPESENSE_TEST_URL"].endswith(service["ports"][0].split(":")[0])


def test_the_workflow_runs_what_the_makefile_has_with_actions_of_a_known_major_version() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    steps = [step for job in read(WORKFLOW)["jobs"].values() for step in job["steps"]]
    targets = [target for step in steps for target in re.findall(r"^make ([a-z-]+)", step.get("run", ""))]
    assert set(targets) >= {"test", "lint", "test-real"}
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]) for step in steps if "uses" in step)
