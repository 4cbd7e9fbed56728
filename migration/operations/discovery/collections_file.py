"""A collections file as `--collections-file` takes it, written with a comment on everything that is a guess."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tomlkit
from tomlkit.items import Table

from migration.strategies.refusals import Refused


@dataclass(frozen=True, slots=True)
class Proposal:
    """An embedding field, and how a collections file would describe it.

    Attributes:
        table: the name of its table: the collection's, or an alias that leads to it.
        collection: its real name.
        embedding_field: the field that holds the vectors.
        dimensions: their length; None where the schema does not say.
        documents: in the collection.
        template: the likeliest; empty where no text was found.
        known_by: who says so; empty where it is a guess.
        reason: what speaks for it, where it is one.
        alternatives: other templates that may be right.
        filter_by: a filter that is known.
        filter_guess: one that may be right.
        notes: what else is to be known, a sentence each.
        left_out: why it is only a comment in the file; empty where it is not.
    """

    table: str
    collection: str
    embedding_field: str
    dimensions: int | None
    documents: int
    template: str
    known_by: str = ""
    reason: str = ""
    alternatives: tuple[str, ...] = ()
    filter_by: str = ""
    filter_guess: str = ""
    notes: tuple[str, ...] = ()
    left_out: str = ""

    @property
    def is_guess(self) -> bool:
        """Whether nobody says that the template is the application's."""
        return not self.known_by


def as_toml(server: str, proposals: Sequence[Proposal], passed_over: Sequence[tuple[str, str]]) -> str:
    """The file: a table for each proposal, those that are left out as comments.

    Args:
        server: where it was looked.
        proposals: in the order of the file.
        passed_over: what is not proposed at all, and why.
    """
    lines = [
        f"Collections with embeddings on {server}, as `kai-migrate discover` found them.",
        "A template must give exactly the text that your application embeds: of another text come vectors that no",
        "search finds. Compare each that is marked GUESS with your application's code. `--dry-run` shows a text.",
    ]
    for name, why in passed_over:
        lines.append(f"Passed over: {name!r}, {why}")
    parts = ["\n".join(map(_comment, lines)), *(_part(proposal) for proposal in proposals)]
    return "\n\n".join(parts) + "\n"


def write_new(file: Path, text: str, *, force: bool) -> None:
    """Write a file, whole or not at all.

    Raises:
        Refused: there is one already, and it is not to be replaced, or it cannot be written.
    """
    temporary = file.with_name(f".{file.name}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        if not force:
            file.touch(exist_ok=False)  # What has come meanwhile is not replaced either.
        temporary.replace(file)
    except FileExistsError as error:
        raise Refused(f"--output: {file} is there already; name another file, or replace it with --force") from error
    except OSError as error:
        raise Refused(f"--output: {file} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _part(proposal: Proposal) -> str:
    """Comments and table of one proposal."""
    document = tomlkit.document()
    document.add(proposal.table, _table(proposal))
    table = tomlkit.dumps(document).strip()
    if proposal.left_out:
        table = "\n".join(_comment(line) for line in table.splitlines())
    return "\n".join([*map(_comment, _said_of(proposal)), table])


def _table(proposal: Proposal) -> Table:
    table = tomlkit.table()
    dimensions = f"float[] of {proposal.dimensions} dimensions" if proposal.dimensions else "float[] without num_dim"
    table.add("embedding_field", tomlkit.item(proposal.embedding_field).comment(dimensions))
    template = tomlkit.item(proposal.template or "{...}")
    table.add("template", template.comment("GUESS") if proposal.is_guess else template)
    if proposal.filter_by:
        table.add("filter_by", proposal.filter_by)
    return table


def _said_of(proposal: Proposal) -> Iterator[str]:
    yield f"{proposal.collection!r}: {proposal.documents:,} documents"
    for note in proposal.notes:
        yield _sentence(note)
    if proposal.left_out:
        yield f"Left out: {proposal.left_out}"
    if proposal.known_by:
        yield f"The template: {proposal.known_by}"
    elif proposal.template:
        yield f"GUESS, the template: {proposal.reason}"
    if proposal.alternatives:
        yield "Instead, perhaps:"
        for template in proposal.alternatives:
            yield f"    template = {tomlkit.item(template).as_string()}"
    if proposal.filter_guess:
        yield "GUESS, a filter: by it the sampled documents that have a vector are told from those that have none"
        yield f"    filter_by = {tomlkit.item(proposal.filter_guess).as_string()}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _comment(text: str) -> str:
    """On one line, for a name may have a line break in it."""
    return f"# {''.join(character if character.isprintable() else ' ' for character in text)}"
