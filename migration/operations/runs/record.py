"""What of a start goes on record, so that the run can be done again: options, settings, file, programs, user.

No key and no login does. A collections file goes in as it is read: a later edit of the file must not change what is
known of the run.
"""

from __future__ import annotations

import getpass
import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from kai.families import tool_of
from kai.settings import Settings
from migration.ledger import Call
from migration.runtime.version import program_version
from migration.strategies.context import MigrationOptions

WITHHELD: Final = "***"
"""What stands in place of a login, or of what follows the path of an address."""
_DEFAULTS: Final = MigrationOptions()
_NOT_RECORDED: Final = frozenset({"dry_run", "verbose", "collections_file"})
"""Options that make no other run, and the file whose content stands in its record."""


def call_of_migration(options: MigrationOptions, settings: Settings) -> Call:
    """How a migration is started."""
    return call_of(given(options), settings, options.collections_file, embeds=True)


def call_of(
    options: Mapping[str, Any], settings: Settings, collections_file: Path | None = None, *, embeds: bool = False
) -> Call:
    """How any run is started.

    Args:
        options: those that were given, by name.
        settings: that it goes by.
        collections_file: descriptions of the user's own collections; None for KAI's.
        embeds: whether it computes vectors.
    """
    tool, tool_version = tool_of(settings.embedding.family) if embeds else (None, None)
    if collections_file is not None and not collections_file.is_file():
        # A pipe, which has been read already: what was in it is gone.
        options, collections_file = {**options, "collections_file": str(collections_file)}, None
    return Call(
        user_name=_user(),
        program_version=program_version(),
        tool_source=tool,
        tool_version=tool_version,
        options={name: value for name, value in options.items() if value not in (None, (), [])},
        environment=environment_of(settings, embeds=embeds),
        collections_file=collections_file.read_text(encoding="utf-8") if collections_file else None,
    )


def given(options: MigrationOptions) -> dict[str, Any]:
    """The options that are not at their default, and the strategy, whose default is a setting."""
    of_interest = [each for each in fields(options) if each.name not in _NOT_RECORDED]
    values = {each.name: getattr(options, each.name) for each in of_interest}
    defaults = {each.name: getattr(_DEFAULTS, each.name) for each in of_interest}
    found = {name: value for name, value in values.items() if value != defaults[name]}
    if options.hold == math.inf:
        found["hold"] = True  # JSON has no word for it.
    if options.env_file is not None:
        found["env_file"] = str(options.env_file.absolute())
    return found | ({"strategy": options.strategy} if options.strategy else {})


def environment_of(settings: Settings, *, embeds: bool) -> dict[str, str]:
    """The variables that make these settings, but for keys, for logins, and for where the home and the ledger are."""
    typesense, embedding = settings.typesense, settings.embedding
    variables = {
        "TYPESENSE_HOST": typesense.host,
        "TYPESENSE_PORT": str(typesense.port),
        "TYPESENSE_PROTOCOL": typesense.protocol,
        "TYPESENSE_TIMEOUT": f"{typesense.timeout:g}",
    }
    if typesense.nodes:
        variables["TYPESENSE_NODES"] = ",".join(typesense.nodes)
    if typesense.ca_file is not None:
        variables["TYPESENSE_CA_FILE"] = str(typesense.ca_file.absolute())
    if not embeds:
        return variables
    family = settings.family
    bases = settings.bases or ((settings.provider_server,) if settings.provider_server else ())
    target = {
        "EMBEDDING_FAMILY": embedding.family,
        "EMBEDDING_MODEL": embedding.model,
        "EMBEDDING_DIMENSIONS": str(embedding.dimensions),
        "EMBEDDING_TASK_TYPE": embedding.task_type,
        "EMBEDDING_REQUEST_TEXTS": str(settings.limits.texts or ""),
        "EMBEDDING_REQUEST_TOKENS": str(settings.limits.tokens or ""),
        **{each.name: settings.value(each.name) for each in family.variables if each.kind == "text"},
        **({family.base.name: ",".join(map(without_login, bases))} if family.base else {}),
    }
    return {name: value for name, value in target.items() if value} | variables


def without_login(url: str) -> str:
    """An address with `***` for its login and for its query, where it has them: a key may stand in either."""
    parts = urlsplit(url)
    login, at, place = parts.netloc.rpartition("@")
    return urlunsplit(
        parts._replace(
            netloc=f"{WITHHELD if login else ''}{at}{place}", query=WITHHELD if parts.query else "", fragment=""
        )
    )


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # A container may run as a user that nobody has named.
        return None
