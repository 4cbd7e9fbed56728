"""Propose a collections file from what is on a server: a beginning, with every guess said to be one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from kai.collections import KAI_COLLECTIONS, EmbeddedCollection, described_as
from kai.settings import Settings, load_settings
from kai.typesense import Schema, Typesense, TypesenseError
from kai.typesense_schemas import serving_field
from migration.ledger import Ledger
from migration.operations.discovery.collections_file import Proposal, as_toml, write_new
from migration.operations.discovery.text_fields import TextField, text_fields
from migration.operations.setup import TYPESENSE_ONLY, ledger_if_there, open_server
from migration.runtime.console import SILENT, Console
from migration.strategies.alias.state import swapped_pairs
from migration.strategies.refusals import Refused, explain, field_problem
from migration.strategies.second_field.mark import next_of
from migration.strategies.shadow_state import read_mark, role_of, unfinished_refill

_SAMPLE: Final = 100
"""Documents of each collection that are looked at, the newest: what the application writes today."""
_SHORTEST: Final = 16
"""Numbers from which on lists of one length are taken for vectors, where the schema does not say that they are."""
_MOST_ALTERNATIVES: Final = 4
_LEFT_BEHIND: Final = {
    "kept": "a collection as it was before a run",
    "intruder": "made by the application while a run had taken the name away",
    "restored": "a collection that comes back, not whole yet",
    "replaced": "another collection has taken its place",
    "base": "what a run behind an alias compares with",
}


@dataclass(frozen=True, slots=True)
class Discovered:
    """What a server's schemas say of its embeddings.

    Attributes:
        server: its address.
        proposals: by collection, those of one collection with the likeliest first.
        passed_over: what looks like an embedding field and is none of the application's: its name and why.
        toml: the collections file.
        output: where it was written; None where it was not.
    """

    server: str
    proposals: tuple[Proposal, ...]
    passed_over: tuple[tuple[str, str], ...]
    toml: str
    output: Path | None

    @property
    def usable(self) -> tuple[Proposal, ...]:
        """Those that are more than a comment in the file."""
        return tuple(each for each in self.proposals if not each.left_out)


def discover(
    output: Path | None = None,
    *,
    force: bool = False,
    settings: Settings | None = None,
    console: Console = SILENT,
) -> Discovered:
    """Look at every collection's schema and a sample of its documents. Writes nothing but the file, and embeds nothing.

    Args:
        output: the file to write; None for none.
        force: whether to replace a file that is there.
        settings: Typesense, and where the ledger is; None reads `.env` and the environment.
        console: where to tell of waiting; nothing by default.

    Raises:
        SettingsError: the settings cannot be used.
        Refused: Typesense cannot be read, has no embedding field, or the file is there already or cannot be
            written.
        LedgerError: the ledger cannot be read.
    """
    settings = settings or load_settings(needs=TYPESENSE_ONLY)
    if output is not None and output.exists() and not force:
        raise Refused(f"--output: {output} is there already; name another file, or replace it with --force")
    with open_server(settings, console) as server, ledger_if_there(settings) as ledger:
        try:
            everything, aliases = server.collections(), server.aliases()
            passed_over = dict(_passed_over(everything))
            proposals = [
                proposal
                for schema in sorted(everything, key=lambda each: str(each["name"]))
                if str(schema["name"]) not in passed_over
                for proposal in _proposals(server, ledger, schema, everything, aliases)
            ]
        except TypesenseError as error:
            raise Refused(explain(server, error)) from error
        if not proposals:
            raise Refused(
                f"TYPESENSE_HOST, TYPESENSE_PORT: no collection on {server.url} has an embedding field (float[] with "
                "num_dim), so there is nothing to propose"
            )
        found = Discovered(server.url, tuple(proposals), tuple(passed_over.items()), "", output)
    found = replace(found, toml=as_toml(found.server, found.proposals, found.passed_over))
    if output is not None:
        write_new(output, found.toml, force=force)
    return found


def _passed_over(everything: Sequence[Schema]) -> Iterator[tuple[str, str]]:
    """Collections that runs of this program have made or left, by name, and what they are."""
    serving = {pair.new for pair in swapped_pairs(everything)}
    for schema in everything:
        name, role, mark = str(schema["name"]), role_of(schema), read_mark(schema)
        if mark is not None and name not in serving:
            yield name, f"a copy that run {mark.run} made of {mark.of!r}"
        elif role in _LEFT_BEHIND:
            yield name, _LEFT_BEHIND[role]


def _proposals(
    server: Typesense,
    ledger: Ledger | None,
    schema: Schema,
    everything: Sequence[Schema],
    aliases: Mapping[str, str],
) -> list[Proposal]:
    """What a collection's embedding fields may be, the likeliest first and the others left out beside it."""
    name, names = str(schema["name"]), {str(each["name"]) for each in everything}
    leading = sorted(alias for alias, target in aliases.items() if target == name and alias not in names)
    kai = _as_kai_has_it(schema, aliases)
    next_ = next_of(schema)
    leaving = "" if next_ is None else next_.of if next_.phase == "contracting" else next_.field
    candidates = [field for field in _embedding_fields(schema, kai) if field["name"] != leaving]
    if not candidates:
        return []
    sample = _sample(server, name)
    notes = [f"the alias {alias!r} leads to {name!r}" for alias in leading]
    if next_ is not None:
        notes.append(f"run {next_.run} is not finished with the field {leaving!r}, which is not proposed")
    if unfinished_refill(schema) is not None:
        notes.append("a run has taken the vector field out and did not finish; run that migration again first")
    table = kai.name if kai else (leading or [name])[0]
    found = [
        _proposal(ledger, server.address, table, schema, field, sample, kai, notes)
        for field in candidates
        if field.get("num_dim") or (kai and field["name"] == kai.embedding_field) or _holds_vectors(field, sample)
    ]
    found.sort(key=lambda each: (bool(each.left_out), each.is_guess))
    return [found[0], *(_beside(each, found[0]) for each in found[1:])] if found else []


def _as_kai_has_it(schema: Schema, aliases: Mapping[str, str]) -> EmbeddedCollection | None:
    """KAI's description of a collection, by the field that serves now; None for another's of the same name."""
    known = described_as({each.name: each for each in KAI_COLLECTIONS}, str(schema["name"]), aliases)
    if known is None or not {field["name"] for field in schema["fields"]}.issuperset(known.text_fields):
        return None
    return replace(known, embedding_field=serving_field(schema, known.embedding_field))


def _embedding_fields(schema: Schema, kai: EmbeddedCollection | None) -> list[dict[str, Any]]:
    """Fields that may hold vectors, one that a run has taken out for the moment among them."""
    fields = [field for field in schema["fields"] if field["type"] == "float[]" and "*" not in field["name"]]
    if (refill := unfinished_refill(schema)) is not None:
        known = {field["name"] for field in fields}
        fields += [refill["field"]] if refill["field"].get("name") not in known else []
    return sorted(fields, key=lambda field: bool(kai) and field["name"] != (kai.embedding_field if kai else ""))


def _sample(server: Typesense, name: str) -> list[dict[str, Any]]:
    return [hit["document"] for hit in server.search(name, {"q": "*", "per_page": _SAMPLE})["hits"]]


def _holds_vectors(field: Mapping[str, Any], sample: Sequence[Mapping[str, Any]]) -> bool:
    values = [value for document in sample if isinstance(value := document.get(field["name"]), list)]
    return len({len(value) for value in values}) == 1 and len(values[0]) >= _SHORTEST


def _proposal(
    ledger: Ledger | None,
    address: str,
    table: str,
    schema: Schema,
    field: Mapping[str, Any],
    sample: Sequence[Mapping[str, Any]],
    kai: EmbeddedCollection | None,
    notes: Sequence[str],
) -> Proposal:
    name, field_name = str(schema["name"]), str(field["name"])
    proposal = Proposal(
        table,
        name,
        field_name,
        field.get("num_dim"),
        int(schema["num_documents"]),
        template="",
        filter_guess=_filter(schema, field_name, sample),
        notes=(*notes, *_filled(field_name, sample)),
    )
    if kai is not None and kai.embedding_field == field_name:
        known = replace(proposal, template=kai.template, filter_by=kai.filter_by, filter_guess="", left_out=kai.skipped)
        if kai.on_request:
            return replace(known, reason="it is taken from KAI's schema, not from its code")
        return replace(known, known_by="KAI embeds it so")
    if embed := field.get("embed"):
        template = " ".join(f"{{{source}}}" for source in embed.get("from", ()))
        model = (embed.get("model_config") or {}).get("model_name", "unknown")
        computed = f"the server computes these vectors itself, by its model {model!r}; change that in the schema"
        return replace(proposal, template=template, known_by="the schema says so", left_out=computed)
    proposal = _by_the_ledger(ledger, address, proposal) or _guessed(proposal, text_fields(schema, field_name, sample))
    problem = field_problem(EmbeddedCollection(name, field_name, proposal.template), schema)
    if problem is not None and unfinished_refill(schema) is None:
        return replace(proposal, left_out=problem)
    if not field.get("num_dim"):
        return replace(
            proposal, left_out="without num_dim the server has no index of it; the field may hold something else"
        )
    return proposal


def _by_the_ledger(ledger: Ledger | None, address: str, proposal: Proposal) -> Proposal | None:
    """As the last run over the collection found it described."""
    run = ledger.last_run_over(address, [proposal.collection]) if ledger is not None else None
    if ledger is None or run is None:
        return None
    for each in ledger.collection_runs(run.id):
        if (each.collection, each.embedding_field) == (proposal.collection, proposal.embedding_field) and each.template:
            known_by = f"by the ledger, run {run.name} embedded it so"
            return replace(
                proposal, template=each.template, filter_by=each.filter_by or "", filter_guess="", known_by=known_by
            )
    return None


def _guessed(proposal: Proposal, fields: Sequence[TextField]) -> Proposal:
    if not fields:
        return replace(proposal, left_out="no field with text was found; write the template of your application")
    best, *others = fields
    single = [f"{{{field.name}}}" for field in others[: _MOST_ALTERNATIVES - 1]]
    both = [f"{{{others[0].name}}}: {{{best.name}}}"] if others else []
    return replace(proposal, template=f"{{{best.name}}}", reason=best.reason, alternatives=(*both, *single))


def _filled(field: str, sample: Sequence[Mapping[str, Any]]) -> list[str]:
    have = sum(document.get(field) is not None for document in sample)
    return [f"{have} of {len(sample)} sampled documents have a vector in {field!r}"] if sample else []


def _filter(schema: Schema, field: str, sample: Sequence[Mapping[str, Any]]) -> str:
    """What tells the documents that have a vector from those that have none, where one field of yes and no does."""
    for known in schema["fields"]:
        if known["type"] != "bool" or known.get("index") is False:
            continue
        name = str(known["name"])
        values = {True: set[Any](), False: set[Any]()}
        for document in sample:
            values[document.get(field) is not None].add(document.get(name))
        if values in ({True: {True}, False: {False}}, {True: {False}, False: {True}}):
            return f"{name}:={str(True in values[True]).lower()}"
    return ""


def _beside(proposal: Proposal, first: Proposal) -> Proposal:
    """A further embedding field of a collection: a file has one table for each."""
    if proposal.left_out:
        return proposal
    reason = f"{first.embedding_field!r} is proposed, and a file has one table for each collection; use a second file"
    return replace(proposal, left_out=reason)
