"""The values of variables, taken one by one: each is checked, and what is wrong with it becomes a `Problem`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast, get_args
from urllib.parse import SplitResult, urlsplit

from kai.families import CUSTOM_PREFIX, FAMILIES, Family, Variable, find_family

ChosenStrategy = Literal["auto", "recreate", "rebuild", "alter", "into", "alias"]
"""What a user may ask for; `auto` is in place, or recreate where the dimensions change and the application rests."""
LogFormat = Literal["text", "json"]
"""How a program tells on standard error what it does: to a person, or one JSON object a line."""
MAX_DIMENSIONS: Final = 100_000
MAX_TIMEOUT_S: Final = 86_400.0
_HOST: Final = r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9_.])?"


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


class Reader:
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
        remedy = f"write {', '.join(FAMILIES)}, or {CUSTOM_PREFIX}package.module:Class for a class of your own"
        value = self.required(variable, remedy)
        if not value.lower().startswith(CUSTOM_PREFIX):
            value = value.lower()
        if value and find_family(value) is None:
            self.problem(variable, f"{_quoted(value)} is not a family; {remedy}")
        return value

    def strategy(self, variable: str) -> ChosenStrategy:
        remedy = f"write one of {', '.join(get_args(ChosenStrategy))}"
        value = (self._printable(variable, remedy) or "auto").lower()
        for known in get_args(ChosenStrategy):
            if value == known:
                return cast(ChosenStrategy, known)
        self.problem(variable, f"{_quoted(value)} is no strategy; {remedy}")
        return "auto"

    def log_format(self, variable: str) -> LogFormat:
        value = (self._stripped(variable) or "text").lower()
        if value not in get_args(LogFormat):
            self.problem(variable, f"{_quoted(value)} is no format; write {' or '.join(get_args(LogFormat))}")
        return "json" if value == "json" else "text"

    def task_type(self, variable: str, family: Family) -> str | None:
        """As what texts are embedded, in the provider's spelling; None where the family knows no difference."""
        if not family.task_types:
            return None
        default = family.task_types[0]
        remedy = f"write one of {', '.join(family.task_types)}; without it, {default} counts, as embed_query asks"
        value = self._printable(variable, remedy) or default
        known = {name.lower(): name for name in family.task_types}
        if value.lower() not in known:
            self.problem(variable, f"{_quoted(value)} is not a task type of family {family.name}; {remedy}")
        return known.get(value.lower(), default)

    def key(self, variable: str, *, required_for: str | None) -> str:
        remedy = "write the key as the provider shows it"
        if required_for == "family openai":
            remedy += ", or no-key for a compatible server that asks for none"
        value = self._stripped(variable) or ""
        if not value and required_for:
            self.problem(variable, f"is {self._state(variable)} and {required_for} needs it; {remedy}")
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

    def bound(self, variable: str) -> int:
        """A whole number; 0 where none is set."""
        value = self._stripped(variable)
        if not value:
            return 0
        if not re.fullmatch(r"[0-9]{1,7}", value) or int(value) == 0:
            self.problem(variable, f"{_quoted(value)} is not a whole number above 0; write one such as 32, or none")
            return 0
        return int(value)

    def text(self, variable: Variable, *, required_for: str | None) -> str:
        remedy = f"write {variable.example or 'it as the provider shows it'}"
        value = self._printable(variable.name, remedy) or ""
        if not value and required_for:
            self.problem(variable.name, f"is {self._state(variable.name)} and {required_for} needs it; {remedy}")
        return value

    def _state(self, variable: str) -> str:
        return "empty" if variable in self._values else "missing"

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

    def nodes(self, variable: str) -> list[SplitResult]:
        """The base URLs of a cluster's nodes, separated by commas; none if it is not set."""
        remedy = "write http://HOST:PORT or https://HOST:PORT for each node, separated by commas"
        value = self._stripped(variable)
        nodes = [part.strip().rstrip("/") for part in value.split(",")] if value else []
        for node in nodes:
            if not _is_node(node):
                self.problem(variable, f"{_quoted(node)} is not the address of a node; {remedy}")
                return []
        return [urlsplit(node) for node in nodes]

    def urls(self, variable: Variable, *, required_for: str | None) -> str:
        """One base URL, or several separated by commas where the variable takes several; empty if none is set."""
        remedy = f"write one such as {variable.default or variable.example}"
        name = variable.name if self._stripped(variable.name) or not variable.also else variable.also
        value = self._stripped(name)
        if not value:
            if required_for:
                self.problem(name, f"is {self._state(name)} and {required_for} needs it; {remedy}")
            return ""
        if "," in value and variable.kind != "urls":
            self.problem(name, f"takes one address only; {remedy}")
            return ""
        urls = [url.strip().rstrip("/") for url in value.split(",")]
        for url in urls:
            if not _is_http_url(url):
                several = ", or several separated by commas" if variable.kind == "urls" else ""
                self.problem(name, f"{_quoted(url)} is not an http(s) URL; {remedy}{several}")
                return ""
        return ",".join(dict.fromkeys(urls))

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

    def certificates(self, variable: str) -> Path | None:
        """A file of certificates in PEM form that can be read."""
        remedy = "write the path of a file with the authority's certificate in PEM form"
        value = self._printable(variable, remedy)
        if not value:
            return None
        import ssl

        try:
            file = Path(value).expanduser()
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
        except (OSError, RuntimeError) as error:  # What ssl raises is an OSError, without a file's name.
            reason = "has no certificate in PEM form" if isinstance(error, ssl.SSLError) else "cannot be read"
            self.problem(variable, f"{_quoted(value)} {reason}; {remedy}")
            return None
        return file

    def ledger_url(self, variable: str) -> str | None:
        remedy = "write an SQLAlchemy URL such as postgresql+psycopg://user:password@host/database"
        value = self._printable(variable, remedy)
        if not value:
            return None
        if not re.match(r"(sqlite|postgresql)(\+\w+)?://", value):
            # The value is not quoted: where it is no URL, a password in it would not be recognised.
            self.problem(variable, f"is not a URL of SQLite or PostgreSQL; {remedy}, or leave it out")
        return value

    def cache_url(self, variable: str) -> str | None:
        """A URL of PostgreSQL."""
        remedy = "write one of PostgreSQL such as postgresql://user:password@host/database"
        value = self._printable(variable, remedy)
        if not value:
            return None
        if value.startswith("sqlite"):
            self.problem(
                variable, f"leave it out: without it the cache is a SQLite file in MIGRATION_HOME; or {remedy}"
            )
        elif not re.match(r"postgres(ql)?(\+psycopg)?://", value):
            self.problem(variable, f"is not a URL of PostgreSQL; {remedy}, or leave it out")
        return value


def _is_http_url(value: str) -> bool:
    if not (value.isascii() and value.isprintable() and " " not in value):
        return False
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_node(value: str) -> bool:
    """Whether a URL has protocol, host and port, and nothing else."""
    if not _is_http_url(value):
        return False
    parts = urlsplit(value)
    host = parts.hostname or ""
    is_host = bool(re.fullmatch(_HOST, host)) or _is_ipv6(host)
    return is_host and parts.port is not None and value.partition("://")[2] == parts.netloc and "@" not in value


def _is_ipv6(value: str) -> bool:
    if ":" not in value:
        return False
    try:
        ipaddress.IPv6Address(value)
    except ValueError:
        return False
    return True


def _quoted(value: str) -> str:
    """A value for a message: on one line, not endless, visible where it is blank."""
    return repr(value if len(value) <= 60 else value[:57] + "...")
