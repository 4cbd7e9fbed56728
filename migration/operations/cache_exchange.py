"""The vector cache as a Parquet file, and vectors that were computed elsewhere from one: checked like a provider's.

Both ways go a few megabytes at a time, whatever the size of the file. What a file must hold is in docs/cache.md.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from kai.families import FAMILIES, find_family
from kai.models import EmbeddingSettings, find_model, fingerprint
from kai.settings import Settings, load_settings
from kai.vectors import LEAST_COSINE, Vector, WrongVectors, as_float32, check_vectors, cosine
from migration.embedding.embed import TextFailure, text_hash
from migration.embedding.provider import ProviderStopped
from migration.operations.cache import named_spaces, spaces_of, standing_cache
from migration.operations.runs.results import DONE, SOME_FAILED
from migration.operations.setup import embedder_of, open_cache
from migration.runtime.control import Control
from migration.runtime.meter import Meter
from migration.strategies.context import MigrationOptions
from migration.strategies.refusals import Refused

_GROUP_BYTES: Final = 8_000_000
"""Of vectors in one row group of a file that is written."""
_BATCH: Final = 1000
"""Rows that are read at once."""
_NAMED: Final = 20
_REQUIRED: Final = ("family", "model", "dimensions", "vector")
_READ: Final = (*_REQUIRED, "task_type", "text", "text_hash", "cut_from")


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: where, how many vectors, and how many are left out because nobody knows their model."""

    file: Path
    entries: int
    unnamed: int


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row of a file that is not taken: its number, from 1, and why."""

    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of a file.

    Attributes:
        rows: of the file.
        kept: vectors that are in the cache now; of a text that had one there, that one.
        refused: rows that were not taken.
        first_refused: the first of them.
        compared: vectors that were compared with the provider's.
    """

    rows: int
    kept: int
    refused: int
    first_refused: tuple[RefusedRow, ...]
    compared: int = 0

    @property
    def exit_status(self) -> int:
        """1 if a row was refused."""
        return SOME_FAILED if self.refused else DONE


@dataclass(frozen=True, slots=True)
class _Row:
    """A row that is sound: its number, its model, of which text it is, and its vector."""

    number: int
    embedding: EmbeddingSettings
    digest: bytes
    text: str | None
    vector: Vector
    cut_from: int | None


class _Unsound(Exception):  # noqa: N818
    """Why a row is not taken."""


def export_cache(file: Path, *, model: str | None = None, settings: Settings | None = None) -> Exported:
    """Write the vector cache, or what it has of one model, to a Parquet file.

    Args:
        file: which must not be there yet.
        model: only of this model, as for `prune_cache`; None for all.
        settings: where the cache is; None reads `.env` and the environment.

    Raises:
        Refused: the file is there, or there is no cache or nothing of the model; or pyarrow is missing.
        CacheError, OSError: the cache cannot be read, or the file not be written.
    """
    pa, pq = _pyarrow()
    settings = settings or load_settings(needs=())
    if file.exists():
        raise Refused(f"FILE: {file} is there already; name another, or remove it")
    schema = pa.schema(
        [
            ("family", pa.string()),
            ("model", pa.string()),
            ("dimensions", pa.int32()),
            ("task_type", pa.string()),
            ("text_hash", pa.binary(32)),
            ("vector", pa.list_(pa.float32())),
            ("cut_from", pa.int32()),
            ("added_at", pa.timestamp("s", tz="UTC")),
        ]
    )
    partial = file.with_name(f"{file.name}.partial")
    entries = 0
    with standing_cache(settings) as cache:
        spaces = named_spaces(settings, cache)
        meant = spaces_of(spaces, model) if model is not None else spaces
        by_name = {space.fingerprint: space for space in meant if space.model}
        try:
            with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
                for group in _groups(cache.pages(list(by_name)) if by_name else iter(())):
                    of = [by_name[entry.space] for entry in group]
                    columns = [
                        [space.family for space in of],
                        [space.model for space in of],
                        [len(entry.vector) for entry in group],
                        [space.task_type for space in of],
                        [entry.text_hash for entry in group],
                        [entry.vector for entry in group],
                        [entry.cut_from for entry in group],
                        [entry.added_at for entry in group],
                    ]
                    arrays = [pa.array(each, field.type) for each, field in zip(columns, schema, strict=True)]
                    writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
                    entries += len(group)
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
    return Exported(file, entries, sum(space.entries for space in meant if not space.model))


def import_cache(file: Path, *, check: int = 0, settings: Settings | None = None) -> Imported:
    """Bring vectors that were computed elsewhere into the vector cache; of a text that has one there, that one stays.

    Args:
        file: a Parquet file.
        check: so many of them, of the configured model and with their texts, are embedded again first and compared.
        settings: where the cache is, and the model where `check` is given; None reads `.env` and the environment.

    Raises:
        Refused: the file cannot be read or lacks a column, or the comparison fails; nothing was kept.
        CacheError: the cache cannot be written; what came before is in it.
    """
    _pyarrow()
    settings = settings or load_settings(needs=["embedding"] if check else [])
    compared = _compare(file, check, settings) if check else 0
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    rows = kept = 0
    refused: list[RefusedRow] = []
    count_refused = 0
    named: set[str] = set()
    with open_cache(settings) as cache:
        if not cache.keeps:
            raise Refused("MIGRATION_HOME: there is no place for the vector cache; see the warning above")
        for batch in _read(file):
            sound: dict[tuple[str, int | None], dict[bytes, Vector]] = {}
            for row in batch:
                rows += 1
                if isinstance(row, RefusedRow):
                    count_refused += 1
                    refused += [row] if len(refused) < _NAMED else []
                    continue
                space = fingerprint(row.embedding, "")
                if space not in named:
                    cache.name(space, row.embedding)
                    named.add(space)
                sound.setdefault((space, row.cut_from), {})[row.digest] = row.vector
                kept += 1
            for (space, cut_from), vectors in sound.items():
                cache.put_many(space, vectors.items(), cut_from=cut_from, replaces=False)
    return Imported(rows, kept, count_refused, tuple(refused), compared)


def _compare(file: Path, most: int, settings: Settings) -> int:
    """Embed some of the file's texts again; how many were compared.

    Raises:
        Refused: none could be, or one has another vector.
    """
    pick = random.Random(most)  # noqa: S311 - repeatable, not secret
    drawn: list[_Row] = []
    seen = 0
    target = fingerprint(settings.embedding, "")
    for batch in _read(file):
        for row in batch:
            if isinstance(row, RefusedRow) or not row.text or fingerprint(row.embedding, "") != target:
                continue
            seen += 1
            if len(drawn) < most:
                drawn.append(row)
            elif (place := pick.randrange(seen)) < most:
                drawn[place] = row
    described = settings.embedding.describe()
    if not drawn:
        raise Refused(f"--check: no row of {file} has a `text` and is of the configured model {described}")
    embedder = embedder_of(settings, MigrationOptions(), Control(), Meter())
    try:
        again = embedder.embed([row.text or "" for row in drawn], cache="bypass")
    except ProviderStopped as error:
        raise Refused(f"{settings.family.where}: the embedding provider: {error}") from error
    given = [(row, again[row.text or ""]) for row in drawn]
    cosines = sorted(
        (cosine(row.vector, vector), row.number) for row, vector in given if not isinstance(vector, TextFailure)
    )
    wrong = [row for similar, row in cosines if similar < LEAST_COSINE]
    if wrong or not cosines:
        named = ", ".join(f"row {row}" for row in wrong[:_NAMED])
        least = f"; least cosine {cosines[0][0]:.6f}" if cosines else ""
        raise Refused(
            f"--check: of {len(cosines)} texts of {file} embedded again by {described}, {len(wrong)} have other "
            f"vectors ({named}{least}); nothing was imported"
        )
    return len(cosines)


def _groups(pages: Iterator[list[Any]]) -> Iterator[list[Any]]:
    """Pages of entries put together into row groups."""
    group: list[Any] = []
    size = 0
    for page in pages:
        group += page
        size += sum(entry.vector.nbytes for entry in page)
        if size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _read(file: Path) -> Iterator[list[_Row | RefusedRow]]:
    """The rows of a file, a batch at a time, each checked.

    Raises:
        Refused: it cannot be read, or lacks a column.
    """
    pa, pq = _pyarrow()
    try:
        with pq.ParquetFile(file) as parquet:
            there = parquet.schema_arrow
            _refuse_columns(file, there, pa)
            number = 0
            columns = [name for name in _READ if name in there.names]
            for batch in parquet.iter_batches(batch_size=_BATCH, columns=columns):
                vectors = batch.column("vector")
                others = batch.drop_columns(["vector"]).to_pylist()
                rows: list[_Row | RefusedRow] = []
                for position, values in enumerate(others):
                    number += 1
                    try:
                        rows.append(_row_of(number, values, vectors[position]))
                    except _Unsound as unsound:
                        rows.append(RefusedRow(number, str(unsound)))
                yield rows
    except FileNotFoundError as error:
        raise Refused(f"FILE: there is no file {file}") from error
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise Refused(f"FILE: {file} cannot be read as Parquet: {reason}") from error


def _refuse_columns(file: Path, schema: Any, pa: Any) -> None:
    problems = [f"FILE: {file} has no column {name!r}" for name in _REQUIRED if name not in schema.names]
    if not {"text", "text_hash"} & set(schema.names):
        problems.append(f"FILE: {file} has neither a column 'text' nor 'text_hash'")
    if "vector" in schema.names:
        kind = schema.field("vector").type
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        if not is_list or not pa.types.is_floating(kind.value_type):
            problems.append(f"FILE: the column 'vector' of {file} is {kind}, not a list of floats")
    if problems:
        raise Refused(*problems)


def _row_of(number: int, values: dict[str, Any], numbers: Any) -> _Row:
    """A row, checked as a provider's answer is.

    Raises:
        _Unsound: it is not taken.
    """
    embedding = _embedding_of(values)
    text, digest = _text_of(values)
    cut_from = values.get("cut_from")
    if cut_from is not None and (not isinstance(cut_from, int) or cut_from <= embedding.dimensions):
        raise _Unsound(f"cut_from is {cut_from!r}, which is no more than the dimensions")
    if not numbers.is_valid:
        raise _Unsound("there is no vector")
    vector = as_float32(numbers.values.to_numpy(zero_copy_only=False))
    try:
        check_vectors(vector[np.newaxis], [text or ""], embedding.dimensions)
    except WrongVectors as error:
        raise _Unsound(str(error).replace("the provider returned", "the file has")) from error
    return _Row(number, embedding, digest, text, vector, cut_from)


def _embedding_of(values: dict[str, Any]) -> EmbeddingSettings:
    family, name, dimensions, task_type = (values.get(each) for each in ("family", "model", "dimensions", "task_type"))
    row = find_family(family) if isinstance(family, str) else None
    if row is None or not isinstance(family, str):
        raise _Unsound(f"family is {family!r}, not one of {', '.join(FAMILIES)}")
    if not isinstance(name, str) or not name:
        raise _Unsound("there is no model")
    if not isinstance(dimensions, int) or dimensions < 1:
        raise _Unsound(f"dimensions is {dimensions!r}, not a number from 1")
    known = find_model(family, name)
    if known is not None and known.dimensions is not None and not known.dimensions.allows(dimensions):
        raise _Unsound(f"{name} has no vectors of {dimensions} dimensions, but of {known.dimensions}")
    if row.task_types and task_type not in row.task_types:
        raise _Unsound(f"task_type is {task_type!r}, and {family} needs one; KAI embeds as {row.task_types[0]}")
    if not row.task_types and task_type is not None:
        raise _Unsound(f"task_type is {task_type!r}, and {family} has none")
    return EmbeddingSettings(family, name, dimensions, task_type)


def _text_of(values: dict[str, Any]) -> tuple[str | None, bytes]:
    """The text, where there is one, and its hash."""
    text, digest = values.get("text"), values.get("text_hash")
    if isinstance(digest, str):
        try:
            digest = bytes.fromhex(digest)
        except ValueError:
            raise _Unsound("text_hash is not hexadecimal") from None
    if digest is not None and (not isinstance(digest, bytes) or len(digest) != 32):
        raise _Unsound("text_hash is no SHA-256, which has 32 bytes")
    if text is None:
        if digest is None:
            raise _Unsound("there is neither a text nor a text_hash")
        return None, digest
    if not isinstance(text, str) or not text:
        raise _Unsound("the text is empty")
    if digest not in (None, text_hash(text)):
        raise _Unsound("text_hash is not that of the text")
    return text, text_hash(text)


def _pyarrow() -> Sequence[Any]:
    """The packages that read and write Parquet.

    Raises:
        Refused: they are not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise Refused(
            "FILE: Parquet needs pyarrow, which is not installed: pip install 'kai-embedding-migration[parquet]'"
        ) from error
    return pa, pq
