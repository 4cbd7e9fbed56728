"""The server: its nodes, its version, its room, and changes of schemas that are under way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kai.typesense import Typesense, TypesenseError
from kai.typesense_nodes import NodeSeen
from migration.assessment.diagnosis.findings import Check, Finding
from migration.backup.files import roughly
from migration.strategies.planning.hazards import hazards_of_version
from migration.strategies.planning.inspection import lagging

_ADDRESS = "TYPESENSE_HOST, TYPESENSE_PORT, TYPESENSE_PROTOCOL, TYPESENSE_NODES"
_TO_SPARE = 1.5
"""How many times the memory that a copy takes should be free."""


def check_nodes(nodes: Sequence[NodeSeen]) -> Check:
    """Whether every node is healthy, and one of them leads."""
    findings = list(_sick(nodes))
    leaders = sum(node.state == "leader" for node in nodes)
    asked = all(node.state != "silent" for node in nodes)
    if len(nodes) > 1 and asked and leaders != 1 and any(node.is_healthy for node in nodes):
        what = "no node leads the cluster: it takes no writes" if not leaders else f"{leaders} nodes say that they lead"
        remedy = "wait until the nodes have chosen one; see that a majority of them runs and reaches each other"
        findings.append(Finding("error", "no_leader", what, ", ".join(node.url for node in nodes), remedy))
    told = ", ".join(f"{node.url} ({node.state})" for node in nodes)
    return Check("nodes", nodes[0].url, told, tuple(findings))


def _sick(nodes: Sequence[NodeSeen]) -> Iterator[Finding]:
    goes_on = any(node.is_healthy for node in nodes)
    for node in nodes:
        if node.is_healthy:
            continue
        if node.state == "gone":
            what, remedy = "the node does not answer", f"check that it is running, and that {_ADDRESS} name it"
        else:
            what, remedy = "the node is not healthy", "it may be replaying its log after a start; see its own log"
        yield Finding("warning" if goes_on else "error", "node_not_healthy", what, node.url, remedy)


def check_version(server: Typesense) -> Check:
    """Whether this program was tried with the server's version."""
    version = server.told_version()
    findings = tuple(
        Finding("warning", "version", sentence, server.url, "rehearse on a copy: `kai-migrate run --rehearse`")
        for sentence in hazards_of_version(version)
    )
    return Check("version", server.url, f"Typesense {version}", findings)


def check_lag(server: Typesense) -> Check:
    """Whether what is read is what was written."""
    if not (told := lagging(server)):
        return Check("reads", server.url, "what was written shows at once")
    finding = Finding("warning", "reads_lag", told, server.url, "set TYPESENSE_NODES to every node")
    return Check("reads", server.url, f"up to {server.lag:g} s behind", (finding,))


def check_room(server: Typesense, needed: int) -> Check:
    """Whether the server has the memory and disk for a second copy of what would be copied.

    Args:
        server: that is asked.
        needed: bytes that the copies take in memory, and about as many on the disk; 0 where nothing is copied.
    """
    try:
        figures = server.metrics()
        free = {
            kind: int(figures[f"system_{kind}_total_bytes"]) - int(figures[f"system_{kind}_used_bytes"])
            for kind in ("memory", "disk")
        }
    except (TypesenseError, KeyError, TypeError, ValueError) as error:
        return Check("memory and disk", server.url, f"the server does not say it: {error}", is_made=False)
    findings = tuple(
        Finding(
            "warning",
            f"little_{kind}",
            f"a second copy needs about {roughly(needed)} of {kind}, and {roughly(room)} are free",
            server.url,
            "free some, or use --strategy alter, which copies nothing",
        )
        for kind, room in free.items()
        if needed and room < _TO_SPARE * needed
    )
    told = ", ".join(f"{roughly(room)} of {kind} free" for kind, room in free.items())
    return Check("memory and disk", server.url, told, findings)


def check_changes(server: Typesense) -> Check:
    """Whether a schema is being changed right now."""
    name = "schema changes"
    try:
        changes = server.schema_changes()
    except TypesenseError as error:
        return Check(name, server.url, str(error), is_made=False)
    names = ", ".join(sorted({str(change.get("collection")) for change in changes}))
    if not names:
        return Check(name, server.url, "none under way")
    what = f"the schema of {names} is being changed; writes to it wait until that is complete"
    return Check(
        name, server.url, what, (Finding("warning", "schema_change", what, names, "wait until it is complete"),)
    )
