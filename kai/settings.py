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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote, unquote, urlsplit

from kai.models import FAMILIES, GOOGLE_TASK_TYPES, EmbeddingSettings, find_model, usual_model

__all__ = [
    "DEFAULT_ENV_FILE",
    "DEFAULT_HOME",
    "DEFAULT_OLLAMA_API_BASE",
    "DEFAULT_TASK_TYPE",
    "EmbeddingSettings",
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
DEFAULT_TASK_TYPE: Final = "RETRIEVAL_QUERY"
DEFAULT_OLLAMA_API_BASE: Final = "http://localhost:11434"
DEFAULT_HOME: Final = Path(".kai-migration")
MAX_DIMENSIONS: Final = 100_000
MAX_TIMEOUT_S: Final = 86_400.0

_KEY_OF_FAMILY: Final = {"openai": "OPENAI_API_KEY", "google": "GOOGLE_API_KEY"}
_VARIABLES_OF: Final[Mapping[Need, tuple[str, ...]]] = {
    "embedding": ("EMBEDDING_", "OPENAI_", "GOOGLE_", "OLLAMA_"),
    "typesense": ("TYPESENSE_",),
}
_SHORT_SECRET: Final = 8
_URL_PASSWORD: Final = re.compile(r"(\w[\w+.-]{0,30}://[^:/@\s]*:)([^@\s]+)(@)")
_HOST: Final = r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9_.])?"
_QUERY_PASSWORD: Final = re.compile(r"([?&]password=)([^&#\s]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the configuration.

    Attributes:
        variable: The variable at fault; for a file that cannot be read, the file's name.
        message: What is wrong and what would be right, in one line without secrets.
    """

    variable: str
    message: str

    def __str__(self) -> str:
        return f"{self.variable}: {self.message}"


class SettingsError(Exception):
    """The configuration cannot be used. `problems` has every reason, in the order of the variables."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: list[Problem] = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True, slots=True)
class TypesenseSettings:
    """Where Typesense is. `timeout` is the user's own, in seconds; imports may need longer."""

    host: str = "localhost"
    port: int = 8108
    protocol: str = "http"
    api_key: str = field(default="", repr=False)
    timeout: float = 60.0

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.protocol}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be configured. No key appears in its `repr`.

    Attributes:
        embedding: The target of the migration.
        typesense: Where the documents are.
        openai_api_key: Key of the OpenAI API or of a compatible server; empty if none was given.
        openai_api_base: Base URL of an OpenAI-compatible server; `None` for OpenAI's own.
        google_api_key: Key of the Gemini API; empty if none was given.
        google_api_base: Base URL of the Gemini API; `None` for Google's own.
        ollama_api_base: Base URL of the Ollama server; may carry `user:password@`.
        home: Where ledger, backups and reports live.
        ledger_url: SQLAlchemy URL of the ledger; `None` for SQLite in `home`.
    """

    embedding: EmbeddingSettings
    typesense: TypesenseSettings
    openai_api_key: str = field(default="", repr=False)
    openai_api_base: str | None = field(default=None, repr=False)
    google_api_key: str = field(default="", repr=False)
    google_api_base: str | None = field(default=None, repr=False)
    ollama_api_base: str = field(default=DEFAULT_OLLAMA_API_BASE, repr=False)
    home: Path = DEFAULT_HOME
    ledger_url: str | None = field(default=None, repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every key and every password in a URL, for `redact`."""
        urls = (self.ledger_url, self.openai_api_base, self.google_api_base, self.ollama_api_base)
        keys = (self.typesense.api_key, self.openai_api_key, self.google_api_key)
        passwords = [password for url in urls if url for password in _url_passwords(url)]
        return tuple(dict.fromkeys(secret for secret in (*keys, *passwords) if secret))


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
    reader = _Reader(values, problems)
    embedding = _read_embedding(reader)
    typesense = TypesenseSettings(
        host=reader.host("TYPESENSE_HOST", "localhost"),
        port=reader.port("TYPESENSE_PORT", 8108),
        protocol=reader.protocol("TYPESENSE_PROTOCOL", "http"),
        api_key=reader.key("TYPESENSE_API_KEY", required_for="Typesense"),
        timeout=reader.seconds("TYPESENSE_TIMEOUT", 60.0),
    )
    key_needed = _KEY_OF_FAMILY.get(embedding.family)
    settings = Settings(
        embedding=embedding,
        typesense=typesense,
        openai_api_key=reader.key(
            "OPENAI_API_KEY", required_for="family openai" if key_needed == "OPENAI_API_KEY" else None
        ),
        openai_api_base=reader.url("OPENAI_API_BASE", example="https://api.openai.com/v1"),
        google_api_key=reader.key(
            "GOOGLE_API_KEY", required_for="family google" if key_needed == "GOOGLE_API_KEY" else None
        ),
        google_api_base=reader.url("GOOGLE_API_BASE", example="https://generativelanguage.googleapis.com"),
        ollama_api_base=reader.url("OLLAMA_API_BASE", example=DEFAULT_OLLAMA_API_BASE) or DEFAULT_OLLAMA_API_BASE,
        home=reader.folder("MIGRATION_HOME", DEFAULT_HOME),
        ledger_url=reader.ledger_url("MIGRATION_LEDGER_URL"),
    )
    passed_over = tuple(prefix for need, prefixes in _VARIABLES_OF.items() if need not in needs for prefix in prefixes)
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


def _read_embedding(reader: _Reader) -> EmbeddingSettings:
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
    return EmbeddingSettings(family, model, dimensions, reader.task_type("EMBEDDING_TASK_TYPE", family))


class _Reader:
    """Takes values out of the variables one by one, and notes what is wrong with them.

    After a problem a method returns a placeholder of the right type, so that the next one can be looked at.
    """

    def __init__(self, values: Mapping[str, str], problems: list[Problem]) -> None:
        self._values = values
        self._problems = problems

    def problem(self, variable: str, message: str) -> None:
        self._problems.append(Problem(variable, message))

    def _stripped(self, variable: str) -> str | None:
        value = self._values.get(variable)
        return None if value is None else value.strip()

    def _printable(self, variable: str, remedy: str) -> str | None:
        """The value; `None` if it is not set or unusable, the latter with a problem."""
        value = self._stripped(variable)
        if value is not None and not value.isprintable():
            self.problem(variable, f"has a character that cannot be printed; {remedy}")
            return None
        return value

    def required(self, variable: str, remedy: str) -> str:
        before = len(self._problems)
        value = self._printable(variable, remedy)
        if not value and len(self._problems) == before:
            self.problem(variable, f"is {'missing' if value is None else 'empty'}; {remedy}")
        return value or ""

    def family(self, variable: str) -> str:
        remedy = f"write {', '.join(FAMILIES[:-1])} or {FAMILIES[-1]}"
        value = self.required(variable, remedy)
        if value and value.lower() not in FAMILIES:
            self.problem(variable, f"{_quoted(value)} is not a family; {remedy}")
        return value.lower()

    def task_type(self, variable: str, family: str) -> str | None:
        if family != "google":
            return None
        remedy = f"write one of {', '.join(GOOGLE_TASK_TYPES)}; KAI uses {DEFAULT_TASK_TYPE}"
        value = (self._printable(variable, remedy) or DEFAULT_TASK_TYPE).upper()
        if value not in GOOGLE_TASK_TYPES:
            self.problem(variable, f"{_quoted(value)} is not a task type of Google; {remedy}")
        return value

    def key(self, variable: str, *, required_for: str | None) -> str:
        remedy = "write the key as the provider shows it"
        if required_for == "family openai":
            remedy += ", or no-key for a compatible server that asks for none"
        value = self._stripped(variable) or ""
        if not value and required_for:
            state = "missing" if variable not in self._values else "empty"
            self.problem(variable, f"is {state} and {required_for} needs it; {remedy}")
        elif value and not (value.isascii() and value.isprintable() and " " not in value):
            # It travels in an HTTP header, and the HTTP library's own error would quote it.
            self.problem(variable, f"has a blank or a character that no key has; {remedy}")
        return value

    def whole(self, variable: str, remedy: str) -> int:
        value = self.required(variable, remedy)
        if not value:
            return 0
        if not re.fullmatch(r"[0-9]{1,12}", value) or not 1 <= int(value) <= MAX_DIMENSIONS:
            self.problem(variable, f"{_quoted(value)} is not a whole number above 0; {remedy}")
            return 0
        return int(value)

    def port(self, variable: str, default: int) -> int:
        value = self._stripped(variable)
        if value is None:
            return default
        if not re.fullmatch(r"[0-9]{1,12}", value) or not 1 <= int(value) <= 65_535:
            self.problem(variable, f"{_quoted(value)} is not a port; write a number from 1 to 65535")
            return default
        return int(value)

    def protocol(self, variable: str, default: str) -> str:
        value = self._stripped(variable)
        if value is None:
            return default
        if value.lower() not in ("http", "https"):
            self.problem(variable, f"{_quoted(value)} is not a protocol of Typesense; write http or https")
            return default
        return value.lower()

    def seconds(self, variable: str, default: float) -> float:
        value = self._stripped(variable)
        if value is None:
            return default
        number = float(value) if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{0,12})?|\.[0-9]{1,12}", value) else 0.0
        if not 0 < number <= MAX_TIMEOUT_S:
            self.problem(variable, f"{_quoted(value)} is not a number of seconds above 0; write one such as 60")
            return default
        return number

    def host(self, variable: str, default: str) -> str:
        remedy = "write the name or address alone, for example localhost"
        value = self._stripped(variable)
        if value is None:
            return default
        if not value:
            self.problem(variable, f"is empty; {remedy}")
            return default
        bare = value.removeprefix("[").removesuffix("]")
        if not (re.fullmatch(_HOST, bare) or _is_ipv6(bare)):
            self.problem(variable, f"{_quoted(value)} is not a host; {remedy}, without protocol and port")
            return default
        return bare

    def url(self, variable: str, *, example: str) -> str | None:
        value = self._stripped(variable)
        if not value:
            return None
        if not _is_http_url(value):
            self.problem(variable, f"{_quoted(value)} is not an http(s) URL; write one such as {example}")
        return value.rstrip("/")

    def folder(self, variable: str, default: Path) -> Path:
        remedy = f"write a folder, for example {default}"
        value = self._printable(variable, remedy)
        if not value:
            return default
        try:
            return Path(value).expanduser()
        except RuntimeError:
            self.problem(variable, f"{_quoted(value)} is in the home folder of nobody; {remedy}")
            return default

    def ledger_url(self, variable: str) -> str | None:
        remedy = "write an SQLAlchemy URL such as postgresql+psycopg://user:password@host/database"
        value = self._printable(variable, remedy)
        if not value:
            return None
        if not re.match(r"(sqlite|postgresql)(\+\w+)?://", value):
            # The value is not quoted: where it is no URL, a password in it would not be recognised.
            self.problem(variable, f"is not a URL of SQLite or PostgreSQL; {remedy}, or leave it out")
        return value


def _url_passwords(url: str) -> list[str]:
    """Passwords in a URL, as written and decoded."""
    written = [match[1] for match in _URL_PASSWORD.findall(url)]
    written += [match[1] for match in _QUERY_PASSWORD.findall(url)]
    return [spelling for password in written for spelling in (password, unquote(password))]


def _is_http_url(value: str) -> bool:
    if not (value.isascii() and value.isprintable() and " " not in value):
        return False
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_ipv6(value: str) -> bool:
    if ":" not in value:
        return False
    import ipaddress

    try:
        ipaddress.IPv6Address(value)
    except ValueError:
        return False
    return True


def _quoted(value: str) -> str:
    """A value for a message: on one line, not endless, visible where it is blank."""
    return repr(value if len(value) <= 60 else value[:57] + "...")
