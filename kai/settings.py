"""The configuration: a `.env` file and the environment become `Settings`, or every problem is named at once.

The environment wins over the file, as it does for KAI itself. Values are checked as far as that is possible
without asking anybody; whether a key works and a model exists, the probe embedding finds out.
"""

from __future__ import annotations

import functools
import html
import json
import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote, unquote

from kai.address import canonical_address, canonical_url
from kai.families import FAMILIES, Family, RequestLimits, Variable, family_of, find_family
from kai.models import EmbeddingSettings, find_model, request_limits, usual_model
from kai.settings_values import ChosenStrategy, LogFormat, Problem, Reader

__all__ = [
    "DEFAULT_ENV_FILE",
    "DEFAULT_HOME",
    "ChosenStrategy",
    "EmbeddingSettings",
    "LogFormat",
    "Need",
    "Problem",
    "Settings",
    "SettingsError",
    "TypesenseSettings",
    "load_settings",
    "redact",
]

Need = Literal["embedding", "typesense"]

DEFAULT_ENV_FILE: Final = Path(".env")
DEFAULT_HOME: Final = Path(".kai-migration")

_VARIABLES: Final = {variable.name: variable for family in FAMILIES.values() for variable in family.variables}
_ALSO: Final = tuple(variable.also for variable in _VARIABLES.values() if variable.also)
_PREFIXES_OF: Final[Mapping[Need, tuple[str, ...]]] = {
    "embedding": ("EMBEDDING_", *_VARIABLES, *_ALSO),
    "typesense": ("TYPESENSE_",),
}
_SHORT_SECRET: Final = 8
_URL_PASSWORD: Final = re.compile(r"(\w[\w+.-]{0,30}://[^:/@\s]*:)([^@\s]+)(@)")
_QUERY_PASSWORD: Final = re.compile(r"([?&]password=)([^&#\s]+)", re.IGNORECASE)


class SettingsError(Exception):
    """The configuration cannot be used. `problems` has every reason, in the order of the variables."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: list[Problem] = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True, slots=True)
class TypesenseSettings:
    """Where Typesense is. `timeout` is the user's own, in seconds; imports may need longer.

    `ca_file` has certificates of authorities (PEM) that are trusted beside the usual ones; None for those alone.

    Of a cluster, `nodes` are the base URLs of all nodes, and host, port and protocol those of the one by which the
    cluster is known: the one that TYPESENSE_HOST and TYPESENSE_PORT name, if it is one of them, else the first in
    alphabetical order. So the order in which they are written does not count, nor which of them leads.
    """

    host: str = "localhost"
    port: int = 8108
    protocol: str = "http"
    api_key: str = field(default="", repr=False)
    timeout: float = 60.0
    nodes: tuple[str, ...] = ()
    ca_file: Path | None = None

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.protocol}://{host}:{self.port}"

    @property
    def address(self) -> str:
        """`host:port`, in the one spelling by which ledger, locks and backups know the server."""
        return canonical_address(f"{self.host}:{self.port}")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be configured. No key appears in its `repr`.

    Attributes:
        embedding: The target of the migration.
        typesense: Where the documents are.
        provider: The variables of all families that are set, by name; of several addresses, each once and separated
            by commas. `value`, `key`, `base` and `bases` read them.
        limits: What one request may carry, where the family's own bounds are not to count; 0 leaves one of them.
        home: Where ledger, backups and reports live.
        ledger_url: SQLAlchemy URL of the ledger; `None` for SQLite in `home`.
        cache_url: SQLAlchemy URL of the vector cache on PostgreSQL; `None` for SQLite in `home`.
        strategy: How vectors are replaced where a command does not say it.
        log_format: How is told on standard error what is done, where a command does not say it.
    """

    embedding: EmbeddingSettings
    typesense: TypesenseSettings
    provider: Mapping[str, str] = field(default_factory=dict, repr=False)
    limits: RequestLimits = field(default_factory=lambda: RequestLimits(0, 0))
    home: Path = DEFAULT_HOME
    ledger_url: str | None = field(default=None, repr=False)
    cache_url: str | None = field(default=None, repr=False)
    strategy: ChosenStrategy = "auto"
    log_format: LogFormat = "text"

    @property
    def family(self) -> Family:
        """The row of the configured family.

        Raises:
            ValueError: there is no such family.
        """
        return family_of(self.embedding.family)

    def value(self, name: str) -> str:
        """What a variable of any family says, or its default."""
        return self.provider.get(name) or _VARIABLES[name].default

    @property
    def key(self) -> str:
        """The key of the configured family; empty where none is set."""
        return self.provider.get(self.family.key.name, "") if self.family.key else ""

    @property
    def bases(self) -> tuple[str, ...]:
        """Where the provider is, if that is configured: the base URL, or those of several servers of one model."""
        value = self.provider.get(self.family.base.name, "") if self.family.base else ""
        return tuple(value.split(",")) if value else ()

    @property
    def base(self) -> str | None:
        """The first of them; None for the provider's own."""
        return next(iter(self.bases), None)

    def at(self, base: str) -> Settings:
        """These settings with one of several base URLs alone."""
        assert self.family.base is not None  # noqa: S101 - else there would be none to choose from
        return replace(self, provider={**self.provider, self.family.base.name: base})

    @property
    def request_limits(self) -> RequestLimits:
        """What one embedding request may carry."""
        known = request_limits(self.embedding.family, self.embedding.model)
        return RequestLimits(self.limits.texts or known.texts, self.limits.tokens or known.tokens)

    @property
    def provider_server(self) -> str | None:
        """Base URL of the provider in one spelling, without login or key.

        `None` for a family that asks nobody, and where its SDK alone knows the address.
        Several are separated by commas, in alphabetical order: that they are written in another one is no change.
        """
        row = find_family(self.embedding.family)
        if row is None or row.base is None:
            return None
        bases = self.bases or ((row.base.default,) if row.base.default else ())
        return ",".join(sorted({redact(canonical_url(base), self.secrets) for base in bases})) or None

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every key and every password in a URL, for `redact`."""
        keys = [value for name, value in self.provider.items() if _VARIABLES[name].kind == "key"]
        urls = [value for name, value in self.provider.items() if _is_url(_VARIABLES[name])]
        urls += [self.ledger_url or "", self.cache_url or ""]
        passwords = [password for url in urls for one in url.split(",") for password in _url_passwords(one)]
        return tuple(dict.fromkeys(secret for secret in (self.typesense.api_key, *keys, *passwords) if secret))


def redact(text: str, secrets: Iterable[str]) -> str:
    """Replace every secret in a text by `***`, and every password that stands in a URL.

    A secret is found as it is, percent-encoded, and as JSON or HTML write it. One of fewer than 8 characters, such
    as the `xyz` of Typesense's own examples, is replaced where it stands as a word of its own; else the
    letters of a key `a` would be cut out of every message.
    """
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = _spellings(secret).sub("***", text)
    return _QUERY_PASSWORD.sub(r"\1***", _URL_PASSWORD.sub(r"\1***\3", text))


@functools.lru_cache(maxsize=64)
def _spellings(secret: str) -> re.Pattern[str]:
    """Every way in which an answer may write the secret: each character in one of its forms."""
    pattern = ""
    for character in secret:
        code = ord(character)
        percent = quote(character, safe="", errors="surrogatepass") if not character.isascii() else f"%{code:02x}"
        forms = [
            re.escape(character),
            f"(?i:{re.escape(percent)})",
            f"(?i:{re.escape(json.dumps(character)[1:-1] if code > 0xFFFF else f'{chr(92)}u{code:04x}')})",
            f"&#(?:0*{code}|(?i:x0*{code:x}));",
        ]
        if not character.isalnum():
            forms += [re.escape(f"\\{character}"), re.escape(html.escape(character))]
        pattern += f"(?:{'|'.join(forms)})"
    return re.compile(pattern if len(secret) >= _SHORT_SECRET else rf"(?<![^\W_]){pattern}(?![^\W_])")


def load_settings(
    env_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    needs: Collection[Need] = ("embedding", "typesense"),
) -> Settings:
    """Read the configuration from a dotenv file and the environment; the environment wins.

    Args:
        env_file: The dotenv file. Without it, `.env` in the working folder is read if it is there.
        environ: The environment; the process's own by default.
        needs: What the caller is going to use. Problems of what it does not use are passed over, and those
            parts of the settings must not be used; a command that only reads the ledger needs nothing.

    Raises:
        SettingsError: With every problem at once. Nothing else is raised, whatever the values are.
    """
    environ = os.environ if environ is None else environ
    problems: list[Problem] = []
    values = {**_read_env_file(env_file, environ, problems), **environ}
    unread = tuple(problems)
    reader = Reader(values, problems)
    embedding = _read_embedding(reader)
    typesense = _read_typesense(reader)
    settings = Settings(
        embedding=embedding,
        typesense=typesense,
        provider=_read_provider(reader, embedding.family),
        limits=RequestLimits(
            texts=reader.bound("EMBEDDING_REQUEST_TEXTS"), tokens=reader.bound("EMBEDDING_REQUEST_TOKENS")
        ),
        home=reader.folder("MIGRATION_HOME", DEFAULT_HOME),
        ledger_url=reader.ledger_url("MIGRATION_LEDGER_URL"),
        cache_url=reader.cache_url("MIGRATION_CACHE_URL"),
        strategy=reader.strategy("MIGRATION_STRATEGY"),
        log_format=reader.log_format("MIGRATION_LOG_FORMAT"),
    )
    passed_over = tuple(prefix for need, prefixes in _PREFIXES_OF.items() if need not in needs for prefix in prefixes)
    problems = [p for p in problems if p in unread or not p.variable.startswith(passed_over)]
    if problems:
        # A key may have been written into the wrong variable, and a message quotes that variable's value.
        secrets = settings.secrets
        raise SettingsError(Problem(p.variable, redact(p.message, secrets)) for p in problems)
    return settings


def _read_env_file(env_file: Path | None, environ: Mapping[str, str], problems: list[Problem]) -> dict[str, str]:
    """The variables of a dotenv file; what cannot be read becomes a problem that does not quote the file."""
    from dotenv.parser import parse_stream
    from dotenv.variables import parse_variables

    path = DEFAULT_ENV_FILE if env_file is None else env_file
    values: dict[str, str] = {}
    try:
        if env_file is None and not path.exists():
            return values
        with path.open(encoding="utf-8-sig") as file:
            bindings = list(parse_stream(file))
    except FileNotFoundError:
        problems.append(Problem(str(path), "there is no such file; --env-file takes the path of a dotenv file"))
    except UnicodeDecodeError:
        problems.append(Problem(str(path), "is not UTF-8 text; save it as UTF-8, with a line NAME=value each"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a readable file"
        problems.append(Problem(str(path), f"cannot be read ({reason}); give the path of a dotenv file"))
    else:
        for binding in bindings:
            if binding.error:
                line = f"line {binding.original.line} is not NAME=value; correct it or put a # before it"
                problems.append(Problem(str(path), line))
            elif binding.key is not None and binding.value is not None:
                # ${NAME} as python-dotenv resolves it for KAI: the environment before the file.
                known = {**values, **environ}
                values[binding.key] = "".join(atom.resolve(known) for atom in parse_variables(binding.value))
    return values


def _read_embedding(reader: Reader) -> EmbeddingSettings:
    """The embedding configuration; a wrong part leaves a problem in the reader and a placeholder here."""
    family = reader.family("EMBEDDING_FAMILY")
    usual = usual_model(family)
    example = f", for example {usual.name}" if usual else ""
    model = reader.required("EMBEDDING_MODEL", f"write the model's name{example}")
    known = find_model(family, model)
    suggestion = known or usual
    dimensions = reader.whole(
        "EMBEDDING_DIMENSIONS",
        "write the length of the model's vectors"
        + (f", for example {suggestion.usual_dimensions} for {suggestion.name}" if suggestion else ""),
    )
    if known and known.dimensions and dimensions and not known.dimensions.allows(dimensions):
        reader.problem("EMBEDDING_DIMENSIONS", f"{known.name} cannot give {dimensions}; write {known.dimensions}")
    row = find_family(family)
    task_type = reader.task_type("EMBEDDING_TASK_TYPE", row) if row else None
    return EmbeddingSettings(family, model, dimensions, task_type)


def _read_provider(reader: Reader, chosen: str) -> dict[str, str]:
    """The variables of all families that are set; only the chosen one's are missed where they are not."""
    values: dict[str, str] = {}
    for family in FAMILIES.values():
        required_for = f"family {family.name}" if family.name == chosen else None
        for variable in family.variables:
            required = required_for if variable.required else None
            if variable.kind == "key":
                value = reader.key(variable.name, required_for=required)
            elif _is_url(variable):
                value = reader.urls(variable, required_for=required)
            else:
                value = reader.text(variable, required_for=required)
            if value:
                values[variable.name] = value
    return values


def _is_url(variable: Variable) -> bool:
    return variable.kind in ("url", "urls")


def _read_typesense(reader: Reader) -> TypesenseSettings:
    """Where Typesense is; the nodes win over host, port and protocol."""
    alone = TypesenseSettings(
        host=reader.host("TYPESENSE_HOST", "localhost"),
        port=reader.port("TYPESENSE_PORT", 8108),
        protocol=reader.protocol("TYPESENSE_PROTOCOL", "http"),
        api_key=reader.key("TYPESENSE_API_KEY", required_for="Typesense"),
        timeout=reader.seconds("TYPESENSE_TIMEOUT", 60.0),
        ca_file=reader.certificates("TYPESENSE_CA_FILE"),
    )
    nodes = reader.nodes("TYPESENSE_NODES")
    if not nodes:
        return alone
    by_address = {canonical_address(f"{node.hostname}:{node.port}"): node for node in nodes}
    known_by = by_address.get(alone.address) or by_address[min(by_address)]
    return replace(
        alone,
        host=known_by.hostname or "",
        port=known_by.port or 0,
        protocol=known_by.scheme,
        nodes=tuple(f"{node.scheme}://{node.netloc}" for node in by_address.values()),
    )


def _url_passwords(url: str) -> list[str]:
    """Passwords in a URL, as written and decoded."""
    written = [match[1] for match in _URL_PASSWORD.findall(url)]
    written += [match[1] for match in _QUERY_PASSWORD.findall(url)]
    return [spelling for password in written for spelling in (password, unquote(password))]
