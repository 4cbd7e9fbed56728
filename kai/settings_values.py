"""The values of variables, taken one by one: each is checked, and what is wrong with it becomes a `Problem`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast, get_args
from urllib.parse import SplitResult, urlsplit

from kai.models import FAMILIES, GOOGLE_TASK_TYPES

ChosenStrategy = Literal["auto", "recreate", "rebuild", "alter", "into", "alias"]
"""What a user may ask for; `auto` is in place, or recreate where the dimensions change and the application rests."""
DEFAULT_TASK_TYPE: Final = "RETRIEVAL_QUERY"
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
        remedy = f"write {', '.join(FAMILIES[:-1])} or {FAMILIES[-1]}"
        value = self.required(variable, remedy)
        if value and value.lower() not in FAMILIES:
            self.problem(variable, f"{_quoted(value)} is not a family; {remedy}")
        return value.lower()

    def strategy(self, variable: str) -> ChosenStrategy:
        remedy = f"write one of {', '.join(get_args(ChosenStrategy))}"
        value = (self._printable(variable, remedy) or "auto").lower()
        for known in get_args(ChosenStrategy):
            if value == known:
                return cast(ChosenStrategy, known)
        self.problem(variable, f"{_quoted(value)} is no strategy; {remedy}")
        return "auto"

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
