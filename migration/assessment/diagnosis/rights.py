"""What the key may do, right by right, tried without changing anything.

Typesense asks whether a key may before it looks at what is asked for: 401 or 403 says that it may not, any other
answer that it may. So what cannot be read is tried with requests that every version refuses, or that do nothing
(29.0 and 30; where not recorded, said so):

- `documents:import`: an import of no line, with 200.
- `documents:delete`: the deletion of a document whose id nobody has, 404.
- `collections:create`: a collection of a name that nobody has, without `fields`, 400.
- `collections:update`: a change of nothing, `{}`, 400.
- `collections:delete`, `aliases:delete`: the deletion of a collection, or alias, of a name that nobody has, 404.
- `aliases:create`: an alias that leads nowhere, `{}`, 400 (by the source).
- `synonym_sets:create`, `curation_sets:create` (from 30 on): a set without items, or with a rule of nothing, 400.
- `synonyms:delete`, `overrides:delete` (29): the deletion of one whose id nobody has, 404; `:create` is not tried,
  for no request that is certainly refused was recorded.

The name that nobody has begins with the collection's, so that a key for names that begin so may use it: the copy of
a recreate has such a name, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote
from uuid import uuid4

import orjson

from kai.typesense import Typesense, TypesenseError
from kai.typesense_curation import PART_KINDS
from migration.assessment.diagnosis.findings import Check, Finding, Severity

KEY: Final = "TYPESENSE_API_KEY"
_EVERY_RUN: Final = "every run needs it"
_COPIES: Final = "a recreate, `--strategy alias` and `kai-migrate restore` need it"


@dataclass(frozen=True, slots=True)
class Right:
    """Something that a key may be allowed to do, and the request that shows whether it is.

    Attributes:
        action: as Typesense names it.
        severity: how bad it is to lack it.
        needed: who needs it.
        method, path, body, params: the request.
    """

    action: str
    severity: Severity
    needed: str
    method: str
    path: str
    body: bytes | None = None
    params: tuple[tuple[str, str], ...] = ()


def check_rights(
    server: Typesense,
    collections: Sequence[str],
    *,
    copies: bool,
    moves_aliases: bool,
    unused: Callable[[], str] = lambda: uuid4().hex,
) -> Check:
    """Try what the key may do, one right after the other.

    Args:
        server: that is asked; each request is made once.
        collections: the real names of those that are to be migrated.
        copies: whether one of them would be copied, as by a recreate.
        moves_aliases: whether that would be behind an alias.
        unused: makes a name, or the end of one, that nothing has.
    """
    needs: Severity = "error" if copies else "info"
    has_sets = server.objection("GET", "/synonym_sets")
    with_sets = has_sets is None or not has_sets.missing
    rights = [*_of_server(unused(), needs, moves_aliases=moves_aliases)]
    if with_sets:
        rights += _of_sets(unused(), needs)
    tried = [("", right) for right in rights]
    for name in collections:
        tried += [(name, right) for right in _of_collection(name, unused(), needs, with_parts=not with_sets)]
    lacking: dict[str, tuple[Right, list[str]]] = {}
    unknown: dict[str, TypesenseError] = {}
    for name, right in tried:
        error = server.objection(right.method, right.path, right.body, **dict(right.params))
        if error is None:
            continue
        if error.unauthorized:
            lacking.setdefault(right.action, (right, []))[1].extend(filter(None, [name]))
        elif error.transient or error.status is None:
            unknown[right.action] = error
    findings = [_lacking(right, names) for right, names in lacking.values()]
    findings += _unknown(unknown)
    actions = {right.action for _, right in tried}
    may = len(actions) - len(lacking) - len(unknown.keys() - lacking.keys())
    if len(lacking) == len(actions):
        refused = "the key is refused whatever it is used for: it is wrong, or has expired"
        findings = [Finding("error", "key_refused", refused, KEY, "use a key with all actions")]
    return Check("rights of the key", server.url, f"{may} of {len(actions)} that were tried", tuple(findings))


def _lacking(right: Right, names: list[str]) -> Finding:
    where = f" for {', '.join(map(repr, names))}" if names else ""
    return Finding(
        right.severity,
        "key_right",
        f"the key may not {right.action}{where}; {right.needed}",
        KEY,
        f"use a key with all actions, or give this one {right.action.partition(':')[0]}:*",
    )


def _unknown(unknown: dict[str, TypesenseError]) -> Iterator[Finding]:
    """That some could not be tried; a server whose writes are switched off says so to each of them."""
    alike: dict[str, list[str]] = {}
    for action, error in unknown.items():
        alike.setdefault(str(error), []).append(action)
    for text, actions in alike.items():
        # An alter keeps other writes waiting for as long as it takes.
        is_busy = unknown[actions[0]].status is None or "in progress" in text
        what = f"whether the key may {', '.join(actions)} cannot be told: {text}"
        remedy = "look again once the server takes writes"
        yield Finding("warning" if is_busy else "error", "not_answered", what, KEY, remedy)


def _of_server(unused: str, copies: Severity, *, moves_aliases: bool) -> Iterator[Right]:
    aliases: Severity = "error" if moves_aliases else "info"
    alias = f"/aliases/kai_migrate_doctor_{unused}"
    moves = "`--strategy alias` needs it"
    yield Right("collections:list", "error", _EVERY_RUN, "GET", "/collections")
    looks = "recreate, `verify`, `search`, `backup` and `rollback` need it"
    yield Right("aliases:list", "error" if copies == "error" else "warning", looks, "GET", "/aliases")
    yield Right("aliases:create", aliases, moves, "PUT", alias, b"{}")
    yield Right("aliases:delete", aliases, moves, "DELETE", alias)
    told = "without it nobody knows the server's version, nor whether this is the leader of a cluster"
    yield Right("debug:list", "warning", told, "GET", "/debug")
    changes = "without it a run cannot tell when a change of a schema is complete"
    yield Right("operations:list", "info", changes, "GET", "/operations/schema_changes")
    room = "without it nobody knows how much memory and disk the server has"
    yield Right("metrics.json:list", "info", room, "GET", "/metrics.json")
    yield Right("stats.json:list", "info", "`--max-load` needs it", "GET", "/stats.json")


def _of_sets(unused: str, copies: Severity) -> Iterator[Right]:
    whole = "a backup of whole documents needs it, and with it a recreate"
    comes_back = "`kai-migrate restore` needs it"
    bodies = {"synonym_sets": b"{}", "curation_sets": b'{"items":[{"rule":{}}]}'}
    for kind, refused in bodies.items():
        path = f"/{kind}/kai_migrate_doctor_{unused}"
        yield Right(f"{kind}:list", "info", comes_back, "GET", f"/{kind}")
        yield Right(f"{kind}:get", copies, whole, "GET", path)
        yield Right(f"{kind}:create", "info", comes_back, "PUT", path, refused)


def _of_collection(name: str, unused: str, copies: Severity, *, with_parts: bool) -> Iterator[Right]:
    path, nobody = f"/collections/{quote(name, safe='')}", f"{name}__{unused}"
    documents = f"{path}/documents"
    nothing = ("filter_by", f"id:=`{unused}`")
    always = [
        Right("collections:get", "error", _EVERY_RUN, "GET", path),
        Right("collections:update", "error", _EVERY_RUN, "PATCH", path, b"{}"),
        Right(
            "documents:search",
            "error",
            _EVERY_RUN,
            "GET",
            f"{documents}/search",
            params=(("q", "*"), ("per_page", "0"), nothing),
        ),
        Right("documents:export", "error", _EVERY_RUN, "GET", f"{documents}/export", params=(nothing,)),
        Right(
            "documents:import", "error", _EVERY_RUN, "POST", f"{documents}/import", b"", params=(("action", "emplace"),)
        ),
    ]
    copied = [
        Right("documents:delete", copies, _COPIES, "DELETE", f"{documents}/{unused}"),
        Right("collections:create", copies, _COPIES, "POST", "/collections", orjson.dumps({"name": nobody})),
        Right("collections:delete", copies, _COPIES, "DELETE", f"/collections/{quote(nobody, safe='')}"),
    ]
    yield from always
    yield from copied
    if with_parts:
        whole = "a backup of whole documents needs it, and with it a recreate"
        for kind in PART_KINDS:
            listed = Right(f"{kind}:list", copies, whole, "GET", f"{path}/{kind}")
            yield listed
            comes_back = "`kai-migrate restore` needs it"
            gone = replace(listed, action=f"{kind}:delete", severity="info", needed=comes_back, method="DELETE")
            yield replace(gone, path=f"{path}/{kind}/{unused}")
